//! The table as an Arrow schema: what the lake stores and the queries see.

use std::collections::HashMap;

use arrow_schema::{DataType, Schema, TimeUnit};

use crate::event::{Field, SCHEMA_VERSION, Type, fields};

/// One column per field, in the order of the table.
///
/// The metadata of a column holds `description` and `since`, and where they apply
/// `otel` (the attribute's name) and `personal`; that of the schema `schema_version`.
pub fn arrow_schema() -> Schema {
    let columns: Vec<arrow_schema::Field> = fields().map(column).collect();
    let version = ("schema_version".to_owned(), SCHEMA_VERSION.to_string());
    Schema::new_with_metadata(columns, HashMap::from([version]))
}

fn column(field: &Field) -> arrow_schema::Field {
    let data_type = match field.data_type {
        Type::Text => DataType::Utf8,
        Type::Integer => DataType::Int64,
        Type::Boolean => DataType::Boolean,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    };
    let described = [
        ("description", Some(field.doc.to_owned())),
        ("since", Some(field.since.to_string())),
        ("otel", field.attribute.map(str::to_owned)),
        ("personal", field.personal.map(|personal| personal.word().to_owned())),
    ];
    let metadata = described
        .into_iter()
        .filter_map(|(name, text)| text.map(|text| (name.to_owned(), text)))
        .collect();
    arrow_schema::Field::new(field.name, data_type, !field.mandatory).with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_column(name: &str, data_type: DataType, nullable: bool) {
        let schema = arrow_schema();
        let column = schema.field_with_name(name).unwrap();
        assert_eq!((column.data_type(), column.is_nullable()), (&data_type, nullable), "{name}");
    }

    #[test]
    fn columns_have_the_types_of_the_table() {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        check_column("event_time", time(), false);
        check_column("producer", DataType::Utf8, false);
        check_column("sequence", DataType::Int64, false);
        check_column("kind", DataType::Utf8, false);
        check_column("http_response_status_code", DataType::Int64, true);
        check_column("payload_truncated", DataType::Boolean, true);
        check_column("delivery_next_attempt_time", time(), true);
    }

    #[test]
    fn columns_carry_what_the_table_says_of_them() {
        let schema = arrow_schema();
        assert_eq!(schema.fields().len(), fields().count());
        assert_eq!(schema.metadata()["schema_version"], SCHEMA_VERSION.to_string());
        let client = schema.field_with_name("client_address").unwrap().metadata();
        assert_eq!(client["otel"], "client.address");
        assert_eq!(client["personal"], "address");
        assert_eq!(client["since"], "1");
        assert!(client["description"].starts_with("Address of the client"));
    }
}
