//! `application/x-www-form-urlencoded`, as RFC 6749, appendix B, has it.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// Reads parameters. One that comes twice, or is not UTF-8, is refused (RFC 6749,
/// section 3.2); one without a value counts as not sent.
pub(super) fn parse(body: &[u8]) -> Result<BTreeMap<String, String>, &'static str> {
    let body = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let mut parameters = BTreeMap::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or("a parameter's name is not UTF-8")?;
        let value = decode(value).ok_or("a parameter's value is not UTF-8")?;
        if parameters.insert(name, value).is_some() {
            return Err("a parameter comes twice");
        }
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

/// Decodes a name or a value.
pub(super) fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_the_rfc_says() {
        let check = |body: &str, expected: Result<&[(&str, &str)], &str>| {
            let expected = expected.map(|pairs| {
                pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
            });
            assert_eq!(parse(body.as_bytes()), expected, "{body}");
        };
        check("", Ok(&[]));
        check("a=1&b=x+y%26z&c=", Ok(&[("a", "1"), ("b", "x y&z")]));
        check("a=%C3%A4", Ok(&[("a", "ä")]));
        check("a=1&a=1", Err("a parameter comes twice"));
        check("a=&%61=1", Err("a parameter comes twice"));
        check("a=%FF", Err("a parameter's value is not UTF-8"));
    }
}
