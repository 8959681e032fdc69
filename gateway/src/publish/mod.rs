//! The published table: what callers reach, compiled from the registry.
//!
//! ```text
//!  registry::View ──change──► Publisher ──compile──► Arc<Table> ──► one reader per thread
//!  (snapshots)               (one task)              (atomic swap)   (a load, a comparison)
//! ```
//!
//! A table never changes: a request reads it once, and so sees one configuration
//! from its beginning to its end. It is compiled whole before it is shown. What
//! cannot be compiled in one API leaves that API out, and says so in the log of the
//! process; all others are there.
//!
//! A path is matched in two steps. The longest published prefix of whole segments
//! names the API: its context and version, or its context alone if it is the default
//! version. The rest is matched against the templates of its resources, segment by
//! segment: a fixed one before a `{part}` before `/*`; then the method. `/*` also
//! matches nothing. A trailing slash is part of a path. HEAD is served where GET is.
//!
//! Of two APIs that claim one prefix the first by name has it, and the other is told
//! of as an error.
//!
//! # What is checked is what the upstream sees
//!
//! The path goes upstream byte for byte as it came, less the prefix. So a path is
//! refused ([`PathFault`]) where an upstream might read it otherwise than this table:
//!
//! | in the path | why it is refused |
//! | --- | --- |
//! | `.` and `..` as segments, `//` | removed or merged by many servers |
//! | `\`, `%5C`, `%2F` | a slash to some, a character to others |
//! | `;` | cut off by servlet containers, so `/a;x` is `/a` there, and `..;` is `..` |
//! | `%` without two digits, or what decodes to `%` and two digits | decoded once here, twice elsewhere |
//! | control characters, `%00` to `%1F`, `%7F`; no UTF-8 | end a text for some |
//!
//! An API whose every resource has the path `/*` does not depend on how a path is read
//! below its context, and old addresses hold what the others refuse. For such an API
//! only what could leave the context, and so the target's base path, is refused:
//!
//! | in the path | API with other paths | API with `/*` alone |
//! | --- | --- | --- |
//! | `.` and `..` as segments, also encoded or before `;` | refused | refused |
//! | `\`, `%5C`, `%2F`; encoded twice; malformed `%`; control characters but tabs | refused | refused |
//! | `//`, `;`, `%3B`, `%09`, encoded bytes that are no UTF-8 | refused | passed on as they are |
//!
//! The API is then found by its context alone, in which none of these may be.
//!
//! What remains is decoded once for matching, so that `/%61dmin` is `/admin` here as
//! it is there. Decoding cannot move a segment's end, since no slash can come of it.
//!
//! Limits: an API has 1,000 resources at most, a context 512 bytes ([`ingest::registry::kind::Api`]).
//! A lookup hashes as many prefixes as the deepest published one has segments.

mod access;
mod path;
mod publisher;
mod table;
mod templates;
#[cfg(test)]
mod tests;

pub(crate) use access::{Access, ApiAccess, ResourceAccess, Subscribed, Way};
pub use path::PathFault;
pub use publisher::{Publisher, TableReader};
pub use table::{Matched, Missed, PublishedApi, PublishedResource, Table};
