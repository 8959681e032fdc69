use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::BODY_BYTES_MAX;
use crate::http::{Code, Problem};

/// A body as it was before it was packed, by gzip or not at all.
///
/// # Errors
/// [`Code::ContentTypeUnsupported`] of another encoding, [`Code::BodyInvalid`],
/// [`Code::BodyTooLarge`].
pub(super) fn unpack(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Problem> {
    let encodings = headers.get_all(CONTENT_ENCODING).iter().map(|of| of.to_str().unwrap_or("?"));
    let encodings = encodings.collect::<Vec<_>>().join(", ").to_ascii_lowercase();
    match encodings.trim() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => {
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(&*body)
                .take(BODY_BYTES_MAX as u64 + 1)
                .read_to_end(&mut unpacked);
            if let Err(error) = read {
                return Err(Problem::new(Code::BodyInvalid, format!("it is no gzip: {error}")));
            }
            if unpacked.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            Ok(unpacked.into())
        }
        other => {
            let detail = format!("content-encoding {other} is not known; send gzip or none");
            Err(Problem::new(Code::ContentTypeUnsupported, detail))
        }
    }
}

pub(super) fn too_large() -> Problem {
    let detail = format!("up to {BODY_BYTES_MAX} bytes are taken at a time, unpacked");
    Problem::new(Code::BodyTooLarge, detail)
}
