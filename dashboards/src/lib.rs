//! The console: boards that are files, drawn as charts, served as pages that follow what
//! happens, and exported as the pictures that they are.
//!
//! ```text
//!  boards/*.yaml ─► Board ─┐
//!  timeline, span ─► View ─┴► SQL ─► analytics node ─► rows ─► Content
//!                                                                │
//!                       page (HTML, live) ◄─ HTML, PNG, CSV ◄────┘
//! ```
//!
//! Who brings an admin token looks into queues too, and decides of them, by a manager node
//! that does what the token may.
//!
//! One drawing for all: a chart is SVG made here, with classes and no colours. The page
//! gives the colours by CSS, light and dark; the PNG has those of light filled in.
//!
//! What holds: a value reaches SQL as a literal of its type and a page as escaped text;
//! nothing is loaded from elsewhere, and no third party's script is in it.
//!
//! Limits: see [`serve`].

pub mod board;
pub mod client;
mod content;
mod export;
mod manager;
mod page;
mod picture;
pub mod serve;
mod source;
mod view;
