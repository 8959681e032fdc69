//! From the log to rows that queries can count on.
//!
//! ```text
//! records of a partition ─► decode ─► stamp ─► rows
//!                           columns   once, with their lag
//! ```
//!
//! What a row is stamped with is a function of the partition's records before it, so
//! every node that reads the log from its first record, or goes on from kept
//! [`Stamps`], has the same rows.

mod decode;
mod lag;
mod nulls;
mod stamp;

pub use decode::{Decoded, Decoder};
pub use lag::{CLOCK_AHEAD_MAX_US, LATE};
pub(crate) use nulls::Nulls;
pub use stamp::{Stamped, Stamps, stamped_schema, watermark};
