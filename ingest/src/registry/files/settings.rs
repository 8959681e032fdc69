//! The settings of a node: one YAML file, and what the environment says over it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::load::{FileError, FileErrors, Place};
use super::locate::locate;
use super::parse::parse_text;
use crate::registry::Fault;
use crate::registry::kind::read_typed;

/// A setting that stands in the environment, over the one of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The variable's name, for errors.
    pub variable: String,
    /// The setting, as `gateway.threads`.
    pub path: String,
    /// Its value, read as YAML.
    pub value: String,
}

/// Reads settings into their struct. Unknown keys and wrong types are told with
/// their line, or their variable, and how to mend them.
///
/// # Errors
/// The first thing that is wrong.
pub fn settings<T: DeserializeOwned>(
    file: &str,
    text: &str,
    overrides: &[Override],
) -> Result<T, FileErrors> {
    let failed = |file: &str, (line, column): (usize, usize), fault: Fault| {
        let place = Place { file: file.to_owned(), line, column };
        FileErrors(vec![FileError { place, fault }])
    };
    let mut settings = match parse_text(text) {
        Err((at, fault)) => return Err(failed(file, at, fault)),
        Ok(serde_norway::Value::Null) => Map::new(),
        Ok(value) => match serde_json::to_value(value) {
            Ok(Value::Object(settings)) => settings,
            _ => {
                let fault = Fault::new("", "is not a mapping", "give settings, with text for keys");
                return Err(failed(file, (1, 1), fault));
            }
        },
    };
    for over in overrides {
        let value = serde_norway::from_str::<Value>(&over.value)
            .unwrap_or_else(|_| Value::String(over.value.clone()));
        set(&mut settings, &over.path, value);
    }
    read_typed(&settings).map_err(|fault| placed(file, text, overrides, vec![fault]))
}

/// Faults of settings, such as a number out of range, with their places.
pub fn placed(file: &str, text: &str, overrides: &[Override], faults: Vec<Fault>) -> FileErrors {
    let place = |fault: Fault| {
        let is_of = |over: &&Override| {
            let rest = fault.path.strip_prefix(&over.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let (file, (line, column)) = match overrides.iter().find(is_of) {
            Some(over) => (format!("environment {}", over.variable), (0, 0)),
            // There is no file, or nothing in it.
            None if text.is_empty() => (file.to_owned(), (0, 0)),
            None => {
                let document = serde_norway::Deserializer::from_str(text);
                (file.to_owned(), locate(document, &fault.path))
            }
        };
        FileError { place: Place { file, line, column }, fault }
    };
    FileErrors(faults.into_iter().map(place).collect())
}

/// That a file of settings cannot be read.
pub fn unreadable(file: &str, error: &std::io::Error) -> FileErrors {
    let mend = "see that it is there, UTF-8, and may be read";
    let fault = Fault::new("", format!("cannot be read: {error}"), mend);
    FileErrors(vec![FileError {
        place: Place { file: file.to_owned(), line: 0, column: 0 },
        fault,
    }])
}

/// Sets a value, with the mappings on the way to it.
fn set(settings: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(settings.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = settings.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        node: String,
        gateway: Gateway,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Gateway {
        threads: u32,
        address: Option<std::net::SocketAddr>,
    }

    fn read(text: &str, overrides: &[(&str, &str)]) -> Result<Settings, String> {
        let over = |(path, value): &(&str, &str)| Override {
            variable: format!("WEIR_{}", path.to_uppercase().replace('.', "__")),
            path: (*path).to_owned(),
            value: (*value).to_owned(),
        };
        let overrides: Vec<Override> = overrides.iter().map(over).collect();
        settings("weir.yaml", text, &overrides).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_environment_stands_over_the_file_and_the_file_over_the_defaults() {
        assert_eq!(read("", &[]), Ok(Settings::default()));
        let text = "node: a\ngateway: {threads: 2}\n";
        let found = read(text, &[("node", "b"), ("gateway.address", "127.0.0.1:80")]).unwrap();
        let gateway = Gateway { threads: 2, address: Some(([127, 0, 0, 1], 80).into()) };
        assert_eq!(found, Settings { node: "b".to_owned(), gateway });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_mend() {
        let check = |text: &str, overrides: &[(&str, &str)], expected: &str| {
            assert_eq!(read(text, overrides).unwrap_err(), expected);
        };
        check(
            "gateway:\n  thread: 2\n",
            &[],
            "weir.yaml:2:3: gateway.thread: unknown key; did you mean `threads`? known are \
             threads, address",
        );
        check(
            "gateway: {threads: many}\n",
            &[],
            "weir.yaml:1:11: gateway.threads: is a text; give a whole number from 0",
        );
        check(
            "gateway: {address: nowhere}\n",
            &[],
            "weir.yaml:1:11: gateway.address: is not a right value: invalid socket address \
             syntax; see what the documentation \
             says of it",
        );
        check("- a\n", &[], "weir.yaml:1:1: is not a mapping; give settings, with text for keys");
        check(
            "a: [\n",
            &[],
            "weir.yaml:2:1: did not find expected node content; mend the YAML or JSON",
        );
        check(
            "",
            &[("gateway.threads", "many")],
            "environment WEIR_GATEWAY__THREADS: gateway.threads: is a text; give a whole number from 0",
        );
    }
}
