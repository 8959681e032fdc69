//! Spans of time, as people write them on a command line.

use jiff::SignedDuration;

/// A span of time, as 15m, 12h or 7d; more than none.
pub(super) fn span(text: &str) -> Result<SignedDuration, String> {
    // Days are of 24 hours: no clock is put forward in them.
    let hours = match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => format!("{}h", u64::from(days) * 24),
        _ => text.to_owned(),
    };
    let span: SignedDuration =
        hours.parse().map_err(|_| format!("{text:?} is no span of time; write 15m, 12h or 7d"))?;
    match span.is_positive() {
        true => Ok(span),
        false => Err(format!("{text:?} is no time at all; write 15m, 12h or 7d")),
    }
}

/// The same, in ms.
pub(super) fn span_ms(text: &str) -> Result<u64, String> {
    u64::try_from(span(text)?.as_millis()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_do() {
        for (text, expected) in
            [("90m", 5_400_000), ("2h", 7_200_000), ("7d", 604_800_000), ("1h 30m", 5_400_000)]
        {
            assert_eq!(span_ms(text), Ok(expected), "{text}");
        }
        for text in ["", "soon", "-2h", "5", "d", "0m"] {
            let why = span_ms(text).unwrap_err();
            assert!(why.ends_with("write 15m, 12h or 7d"), "{text}: {why}");
        }
    }
}
