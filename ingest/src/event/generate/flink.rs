//! The table as Flink SQL, so that a view can run on a Flink cluster over the topic.

use crate::event::{Field, Type, fields};

/// `CREATE TABLE weir_events` over the topic, as Flink SQL for its Kafka connector.
///
/// Flink takes watermarks on times of at most milliseconds, so `event_rowtime` is
/// `event_time` cut to them, for windows; `event_time` itself stays whole.
pub fn flink_ddl(topic: &str, bootstrap: &str) -> String {
    let columns: Vec<String> = fields().map(column).collect();
    let options = [
        ("connector", "kafka"),
        ("topic", topic),
        ("properties.bootstrap.servers", bootstrap),
        ("properties.isolation.level", "read_committed"),
        ("scan.startup.mode", "earliest-offset"),
        ("format", "json"),
        ("json.timestamp-format.standard", "ISO-8601"),
        ("json.fail-on-missing-field", "false"),
    ];
    let options = options.map(|(name, value)| format!("  '{name}' = {}", literal(value)));
    format!(
        "CREATE TABLE `weir_events` (\n{},\n  \
         `event_rowtime` AS CAST(`event_time` AS TIMESTAMP_LTZ(3)),\n  \
         WATERMARK FOR `event_rowtime` AS `event_rowtime` - INTERVAL '5' SECOND\n\
         ) WITH (\n{}\n);\n",
        columns.join(",\n"),
        options.join(",\n"),
    )
}

fn column(field: &Field) -> String {
    let data_type = match field.data_type {
        Type::Text => "STRING",
        Type::Integer => "BIGINT",
        Type::Boolean => "BOOLEAN",
        Type::Time => "TIMESTAMP_LTZ(6)",
    };
    let not_null = if field.mandatory { " NOT NULL" } else { "" };
    format!("  `{}` {data_type}{not_null} COMMENT {}", field.name, literal(field.doc))
}

/// A text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::golden;

    #[test]
    fn the_golden_table_is_up_to_date() {
        let ddl = flink_ddl("weir.events", "localhost:9092");
        golden::check("src/event/golden/events.flink.sql", &ddl);
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        let ddl = flink_ddl("a'; DROP TABLE b; --", "host:9092");
        assert!(ddl.contains("'topic' = 'a''; DROP TABLE b; --',\n"));
    }
}
