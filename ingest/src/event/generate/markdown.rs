//! The table as a page for people: `docs/events.md`.

use crate::event::{Field, GROUPS, Group, Kind, Outcome, Personal, SCHEMA_VERSION};

const INTRODUCTION: &str = "\
# Events

Everything that happens in Weir is an event: one flat JSON object in the topic
`weir.events`, in CloudEvents 1.0 (Kafka protocol binding, binary mode), and one row of
the table `events` in the lake. This page is generated from the table in
`ingest/src/event/schema.rs`; after a change there, run
`WEIR_REGENERATE=1 cargo test -p ingest`.

- Only the fields of the envelope are on every event. What is absent is left out.
- Fields are only ever added: none is removed, renamed or given another type.
- Times are RFC 3339 in UTC with six digits of fraction. Durations are integers in
  microseconds, sizes integers in bytes.
- An event is named by its producer, boot and sequence; as the CloudEvents id that is
  `producer/boot/sequence`. The CloudEvents type is `dev.weir.` and the kind.
- The key of the record is the correlation id, else the trace id, else the producer.
- OTel is the attribute of the OpenTelemetry semantic conventions that a field is.
- Personal says what of a person a field can tell: an address of the network, an
  identifier of somebody, or content that can hold anything. Redaction goes by it.
";

/// The page.
pub fn markdown() -> String {
    let mut page = format!("{INTRODUCTION}\nThe schema version is {SCHEMA_VERSION}.\n");
    let kinds = Kind::TEXTS.iter().zip(Kind::MEANINGS);
    page.push_str(&list("Kinds", "`kind` says what an event tells of.", kinds));
    let outcomes = Outcome::TEXTS.iter().zip(Outcome::MEANINGS);
    page.push_str(&list("Outcomes", "`outcome` says how it ended.", outcomes));
    for group in GROUPS {
        page.push_str(&table(group));
    }
    page
}

fn list<'a>(
    heading: &str,
    about: &str,
    rows: impl Iterator<Item = (&'a &'static str, &'a &'static str)>,
) -> String {
    let rows: String =
        rows.map(|(text, meaning)| format!("| `{text}` | {} |\n", cell(meaning))).collect();
    format!("\n## {heading}\n\n{about}\n\n| text | meaning |\n| --- | --- |\n{rows}")
}

fn table(group: &Group) -> String {
    let rows: String = group.fields.iter().map(row).collect();
    format!(
        "\n## {}\n\n{}\n\n| field | type | since | meaning | OTel | personal |\n\
         | --- | --- | --- | --- | --- | --- |\n{rows}",
        group.name, group.about,
    )
}

fn row(field: &Field) -> String {
    let attribute = field.attribute.map(|name| format!("`{name}`")).unwrap_or_default();
    let personal = field.personal.map(Personal::word).unwrap_or_default();
    format!(
        "| `{}` | {} | {} | {} | {attribute} | {personal} |\n",
        field.name,
        field.data_type.word(),
        field.since,
        cell(field.doc),
    )
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::golden;

    #[test]
    fn the_page_is_up_to_date() {
        golden::check("../docs/events.md", &markdown());
    }
}
