//! JSON, strict and bounded (RFC 8259), as the values that expressions work on.
//!
//! The values are those of the expression language, so that nothing is converted,
//! and nothing lost, between a body and an expression. Its own reader takes more
//! than JSON and goes as deep as the stack; so the text is judged here first.

use serde::de::IgnoredAny;

/// A JSON value. Integers have any size, decimals keep their text, objects their
/// order.
pub type Value = jaq_json::Val;

/// How deep lists and objects may lie in each other.
pub const DEPTH_MAX: usize = 128;

/// The most digits that a number of 64 bits surely keeps.
const DIGITS_KEPT: usize = 15;

/// Reads a text that is one JSON value.
///
/// # Errors
/// What is wrong, with line and column or byte; nothing of the text is quoted.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    check_depth(bytes)?;
    serde_json::from_slice::<IgnoredAny>(bytes)
        .map_err(|error| format!("the body is not JSON: {error}"))?;
    std::str::from_utf8(bytes)
        .map_err(|error| format!("the body is not UTF-8 at byte {}", error.valid_up_to()))?;
    jaq_json::read::parse_single(bytes).map_err(|error| format!("the body is not JSON: {error}"))
}

/// Before anything recursive sees it.
fn check_depth(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(format!("the body is deeper than {DEPTH_MAX} levels at byte {at}"));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Writes a value as JSON, without spaces.
///
/// # Errors
/// If it has no form in JSON: a number that is none, bytes, a key that is no text,
/// or too many levels.
pub fn write(value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    write_to(value, DEPTH_MAX, &mut out)?;
    Ok(out)
}

fn write_to(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let deeper = || {
        depth.checked_sub(1).ok_or_else(|| format!("the value is deeper than {DEPTH_MAX} levels"))
    };
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Num(jaq_json::Num::Float(float)) if !float.is_finite() => {
            return Err("the value holds a number that JSON cannot say".to_owned());
        }
        Value::Num(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::BStr(_) => return Err("the value holds bytes that are no text".to_owned()),
        Value::TStr(text) => write_text(text, out),
        Value::Arr(items) => {
            let depth = deeper()?;
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_to(item, depth, out)?;
            }
            out.push(b']');
        }
        Value::Obj(fields) => {
            let depth = deeper()?;
            out.push(b'{');
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let Value::TStr(key) = key else {
                    return Err("the value holds a key that is no text".to_owned());
                };
                write_text(key, out);
                out.push(b':');
                write_to(value, depth, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(text);
    serde_json::to_writer(out, &*text).expect("a text is JSON, and memory takes it");
}

/// A text as a value.
pub fn text(text: impl Into<String>) -> Value {
    Value::utf8_str(text.into().into_bytes())
}

/// Pairs of texts as an object; of a name that comes twice the first stays.
pub(crate) fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Value {
    let mut map = jaq_json::Map::default();
    for (name, value) in pairs {
        map.entry(text(name)).or_insert_with(|| text(value));
    }
    Value::obj(map)
}

/// A value as templates see it. A number of more than 15 digits becomes its text,
/// so that it is written with all of them; the order of an object's keys is theirs.
pub(crate) fn to_template(value: &Value) -> minijinja::Value {
    use minijinja::Value as Shown;
    match value {
        Value::Null => Shown::from(()),
        Value::Bool(value) => Shown::from(*value),
        Value::Num(number) => number_to_template(number),
        Value::TStr(text) => Shown::from(String::from_utf8_lossy(text).into_owned()),
        Value::BStr(_) => Shown::UNDEFINED,
        Value::Arr(items) => items.iter().map(to_template).collect(),
        Value::Obj(fields) => {
            let key = |key: &Value| match key {
                Value::TStr(text) => String::from_utf8_lossy(text).into_owned(),
                other => other.to_string(),
            };
            let fields = fields.iter().map(|(name, value)| (key(name), to_template(value)));
            Shown::from(fields.collect::<std::collections::BTreeMap<_, _>>())
        }
    }
}

fn number_to_template(number: &jaq_json::Num) -> minijinja::Value {
    let text = number.to_string();
    if let Ok(integer) = text.parse::<i64>() {
        return integer.into();
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    match text.parse::<f64>() {
        Ok(float) if digits <= DIGITS_KEPT => float.into(),
        _ => text.into(),
    }
}

/// A value of `serde_json`.
pub(crate) fn from_serde(value: &serde_json::Value) -> Value {
    parse(value.to_string().as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_comes_back_and_nothing_else_is_taken() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = parse(text.as_bytes()).and_then(|value| write(&value));
            let found = found.map(|bytes| String::from_utf8(bytes).unwrap());
            match expected {
                Ok(json) => assert_eq!(found.as_deref(), Ok(json), "{text}"),
                Err(part) => assert!(found.as_ref().unwrap_err().contains(part), "{found:?}"),
            }
        };
        check(
            r#" {"b" : [1, null, true], "a":"\u00e4\n\"" } "#,
            Ok(r#"{"b":[1,null,true],"a":"ä\n\""}"#),
        );
        check("12345678901234567890123", Ok("12345678901234567890123"));
        check("-0.10", Ok("-0.10"));
        check("1e400", Ok("1e400"));
        check(r#"{"a":1,"a":2}"#, Ok(r#"{"a":2}"#));
        for bad in
            ["NaN", "1 # c", "[1,]", "'a'", "01", "1 2", r#"{1:2}"#, "nan", "", "b\"x\"", "[[]"]
        {
            check(bad, Err("the body is not JSON"));
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        check(&deep(DEPTH_MAX), Ok(&deep(DEPTH_MAX)));
        check(&deep(DEPTH_MAX + 1), Err("deeper than 128 levels at byte 128"));
        check(&"[".repeat(1_000_000), Err("deeper than 128 levels"));
        check(r#"["[[[\"[[["]"#, Ok(r#"["[[[\"[[["]"#));
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn an_error_quotes_nothing() {
        let found = parse(br#"{"a": hush}"#).unwrap_err();
        assert_eq!(found, "the body is not JSON: expected value at line 1 column 7");
    }

    #[test]
    fn templates_see_all_digits() {
        let check = |text: &str, expected: &str| {
            assert_eq!(to_template(&parse(text.as_bytes()).unwrap()).to_string(), expected);
        };
        check("12", "12");
        check("12.5", "12.5");
        check("0.1234567890123456789", "0.1234567890123456789");
        check("12345678901234567890123", "12345678901234567890123");
    }
}
