//! The bundled example: its configuration, and the services that stand behind it.
//!
//! ```text
//!  client ─► gateway ─► /site   ────────────────────────────► web site  ┐
//!                   └─► /shop   ─► mediator ─ quote ─ SOAP ─► pricing   │ origin
//!                                     └─ order ─► queue ────► warehouse ┘
//! ```
//!
//! The files are written into the data directory at the first start, where people
//! change them and apply them again.

mod files;
mod origin;
mod pricing;
mod replay;
mod replayed;
mod warehouse;

pub(crate) use files::{APPLICATION, Places, write};
pub(crate) use origin::Origin;
pub(crate) use replay::replay_once;
