use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Json, KindSpec, Reference};
use crate::registry::BadName;
use crate::registry::fault::{Fault, Faults, nearest};

/// The longest word that a fault quotes.
const WORD_BYTES_MAX: usize = 64;

/// Reads a spec into its struct and checks it.
pub(super) fn read<T: KindSpec>(json: &Json) -> Result<(T, Vec<Reference>), Vec<Fault>> {
    let spec: T = typed(&json.0, !T::SECRETS.is_empty()).map_err(|fault| vec![fault])?;
    let mut faults = Faults::default();
    spec.validate(&mut faults);
    faults.into_result()?;
    let references = spec.references();
    Ok((spec, references))
}

/// Reads a mapping into a struct that is no entity, such as a node's settings.
pub(in crate::registry) fn read_typed<T: DeserializeOwned>(
    json: &Map<String, Value>,
) -> Result<T, Fault> {
    typed(json, false)
}

fn typed<T: DeserializeOwned>(json: &Map<String, Value>, secret: bool) -> Result<T, Fault> {
    let value = Value::Object(json.clone());
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        explain(&path, &error.into_inner().to_string(), secret)
    })
}

/// Turns serde's words into what is wrong and what would be right. Serde quotes
/// what it found, which may be a secret in a wrong place: only its type is said,
/// and a word where one of a few is asked for, unless the whole is `secret`.
pub fn explain(path: &str, message: &str, secret: bool) -> Fault {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    if let Some(rest) = message.strip_prefix("missing field ") {
        let field = quoted(rest).into_iter().next().unwrap_or_default();
        return Fault::new(path, format!("the key `{field}` is missing"), format!("add `{field}`"));
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        // A text of our own, that quotes nothing.
        if message == BadName.to_string() {
            return Fault::new(path, "is not a name", message);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b' ';
        let what = match message.bytes().all(is_plain) {
            // A few words of a parser, such as "invalid socket address syntax".
            true => format!("is not a right value: {message}"),
            false => "is not a right value".to_owned(),
        };
        return Fault::new(path, what, "see what the documentation says of it");
    };
    if expected == "map with a single key" {
        return Fault::new(path, "is of more than one kind, or of none", "keep one of them");
    }
    let known = quoted(expected);
    let known_text =
        if known.is_empty() { type_name(expected).to_owned() } else { known.join(", ") };
    let mend = |word: &str| match nearest(word, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? known are {known_text}"),
        None => format!("known are {known_text}"),
    };
    if let Some(rest) = found.strip_prefix("unknown field ") {
        let field = rest.trim_matches('`');
        let ends = path == field || path.ends_with(&format!(".{field}"));
        let path = match path {
            _ if ends => path.to_owned(),
            "" => field.to_owned(),
            _ => format!("{path}.{field}"),
        };
        return Fault::new(path, "unknown key", mend(field));
    }
    if secret {
        return Fault::new(path, "is not a right value", format!("give {known_text}"));
    }
    if let Some(rest) = found.strip_prefix("unknown variant ") {
        let word = rest.trim_matches('`');
        let what =
            if is_word(word) { format!("unknown value {rest}") } else { "unknown value".into() };
        return Fault::new(path, what, mend(word));
    }
    Fault::new(path, found_type(found), format!("give {known_text}"))
}

fn is_word(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.len() <= WORD_BYTES_MAX && text.bytes().all(is_part)
}

/// A type by the name that people know.
fn type_name(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1"
        }
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        _ if expected.starts_with("struct ") => "a mapping",
        _ => expected,
    }
}

/// What serde found, without its value.
fn found_type(found: &str) -> String {
    let Some((what, value)) = found.split_once(": ") else {
        return "is not a right value".to_owned();
    };
    let name = match value.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "a text",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "null" | "unit" | "Option" => "nothing",
        "sequence" => "a list",
        "map" => "a mapping",
        _ => "something else",
    };
    match what {
        "invalid type" => format!("is {name}"),
        _ => format!("is {name}, and not a right one"),
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::{Json, Kind};

    #[test]
    fn a_fault_never_quotes_what_was_found() {
        let check = |kind: &str, spec: &str, expected: &str| {
            let kind = Kind::parse(kind).unwrap();
            let json = Json(serde_json::from_str(spec).unwrap());
            let found = kind.read(&json).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "{spec}: {found}");
            assert!(!found.contains("hush"), "{spec}: {found}");
        };
        let secret = "http://user:hush@host";
        let upstream = |field: &str| format!(r#"{{"targets":[],{field}}}"#);
        check("upstream", &format!(r#"{{"targets":"{secret}"}}"#), "targets: is a text; give");
        check("upstream", &format!(r#"{{"targets":["{secret}"]}}"#), "targets[0]: is a text; give");
        check("tier", r#"{"burst_requests_max":-1}"#, "burst_requests_max: is a number, and not");
        check("tier", r#"{"burst_requests_max":[1]}"#, "burst_requests_max: is a list; give");
        check(
            "upstream",
            &upstream(&format!(r#""balance":"{secret}""#)),
            "balance: unknown value;",
        );
        check("upstream", &upstream(r#""balance":"robin""#), "balance: unknown value `robin`;");
        check("application", r#"{"owner":"me","tier":"/hush"}"#, "tier: is not a name; a name has");
        // The words that part serde's message may stand in the value.
        let parted = r#"{"targets":"hush, expected hush"}"#;
        check("upstream", parted, "targets: is a text; give a list");
    }
}
