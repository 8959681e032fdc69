//! The table as a JSON Schema, for those who send or read events from outside.

use serde_json::{Map, Value, json};

use crate::event::{Field, SCHEMA_VERSION, Type, fields};

/// The schema of an event's JSON, draft 2020-12. Names that it does not list are
/// allowed, since fields are only ever added.
pub fn json_schema() -> Value {
    let properties: Map<String, Value> =
        fields().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> =
        fields().filter(|field| field.mandatory).map(|field| field.name).collect();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:weir:event:{SCHEMA_VERSION}"),
        "title": "Weir event",
        "description": "An event of Weir, as in the value of a record of the log.",
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": true,
    });
    // The order must not depend on which features of serde_json a build turns on.
    schema.sort_all_objects();
    schema
}

fn property(field: &Field) -> Value {
    let mut property = match field.data_type {
        Type::Text => json!({ "type": "string" }),
        Type::Integer => json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
        Type::Boolean => json!({ "type": "boolean" }),
        Type::Time => json!({ "type": "string", "format": "date-time" }),
    };
    property["description"] = json!(field.doc);
    property["x-weir-since"] = json!(field.since);
    if !field.texts.is_empty() {
        property["enum"] = json!(field.texts);
    }
    if let Some(attribute) = field.attribute {
        property["x-weir-otel"] = json!(attribute);
    }
    if let Some(personal) = field.personal {
        property["x-weir-personal"] = json!(personal.word());
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, golden};

    #[test]
    fn the_golden_schema_is_up_to_date() {
        let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        golden::check("src/event/golden/event.schema.json", &text);
    }

    #[test]
    fn kinds_are_listed() {
        assert_eq!(json_schema()["properties"]["kind"]["enum"], json!(Kind::TEXTS));
    }

    #[test]
    fn only_the_envelope_is_required() {
        let required = json!([
            "event_time",
            "producer",
            "boot",
            "sequence",
            "schema_version",
            "kind",
            "outcome"
        ]);
        assert_eq!(json_schema()["required"], required);
    }
}
