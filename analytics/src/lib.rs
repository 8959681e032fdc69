//! The lake, continuous SQL over the log, detections and alerts.

pub mod alert;
pub mod compute;
mod deep_check;
pub mod detect;
mod entities;
mod flight;
pub mod follow;
pub mod intake;
pub mod lake;
mod postgres;
pub mod query;
pub mod rights;
pub mod run;
pub mod search;
pub mod serve;
pub mod sql;
mod time;
mod word;

pub use deep_check::deep_check;
