//! Charts over time, and what they look like: the same on a page of the console and in what
//! is exported from it.
//!
//! ```text
//! Chart ─► SVG, in classes ─► a page, whose style sheet has the colours
//!                         └─► PNG, in the colours of a theme
//! ```

pub mod calendar;
mod chart;
pub mod raster;
pub mod theme;
pub mod unit;

pub use chart::{Chart, NARROW, Series, Shape, WIDE, escaped, text_width};
pub use unit::Unit;
