//! SVG as pictures of pixels.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

/// The font of pages and pictures: Inter, under the SIL Open Font License.
pub const FONT: &[u8] = ttf_inter::REGULAR;

static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("Inter");
    Arc::new(fonts)
});

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no SVG.
    #[error("the picture cannot be drawn: {0}")]
    Svg(#[from] usvg::Error),
    /// It has no size, or too much of it.
    #[error("the picture of {0} by {1} pixels is too large")]
    Size(u32, u32),
    /// It cannot be packed.
    #[error("the picture cannot be written: {0}")]
    Png(String),
}

/// Draws an SVG as a PNG, of so many pixels for each of CSS.
///
/// # Errors
/// See [`Error`].
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, Error> {
    let options = usvg::Options {
        font_family: "Inter".to_owned(),
        fontdb: FONTS.clone(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let pixels = |length: u32| (length as f32 * scale) as u32;
    let (width, height) = (pixels(size.width()), pixels(size.height()));
    let mut pixels = Pixmap::new(width, height).ok_or(Error::Size(width, height))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| Error::Png(error.to_string()))
}
