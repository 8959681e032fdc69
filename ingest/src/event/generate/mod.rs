//! What other engines and readers are told of the table, made from it.

mod arrow;
mod flink;
mod json_schema;
mod markdown;

pub use arrow::arrow_schema;
pub use flink::flink_ddl;
pub use json_schema::json_schema;
pub use markdown::markdown;
