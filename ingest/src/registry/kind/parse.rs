use serde_json::Value;

use super::{Json, KindSpec, Reference};
use crate::registry::fault::{Fault, Faults, nearest};

/// Reads a spec into its struct and checks it.
pub(super) fn read<T: KindSpec>(json: &Json) -> Result<(T, Vec<Reference>), Vec<Fault>> {
    let value = Value::Object(json.0.clone());
    let spec: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        vec![explain(&path, &error.into_inner().to_string(), !T::SECRETS.is_empty())]
    })?;
    let mut faults = Faults::default();
    spec.validate(&mut faults);
    faults.into_result()?;
    let references = spec.references();
    Ok((spec, references))
}

/// Turns serde's words into what is wrong and what would be right. What was
/// found is left out where it may be a secret: serde quotes values.
fn explain(path: &str, message: &str, secret: bool) -> Fault {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    if let Some(rest) = message.strip_prefix("missing field ") {
        let field = quoted(rest).into_iter().next().unwrap_or_default();
        return Fault::new(path, format!("the key `{field}` is missing"), format!("add `{field}`"));
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        let what = if secret { "is not a right value" } else { message };
        return Fault::new(path, what, "see the documentation of this kind");
    };
    let known = quoted(expected);
    let known_text = if known.is_empty() { expected.to_owned() } else { known.join(", ") };
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
        return Fault::new(path, format!("unknown value {rest}"), mend(word));
    }
    Fault::new(path, found, format!("give {known_text}"))
}
