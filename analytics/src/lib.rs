//! The lake, continuous SQL over the log, detections and alerts.

pub mod intake;
pub mod lake;
