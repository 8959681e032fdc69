//! Parameters in SQL: `$name`, replaced by a literal, but not within texts, names in
//! quotes, or comments.

/// What a board's SQL may ask for.
pub(super) const PARAMETERS: [&str; 4] = ["from", "until", "bin", "timeline"];

/// A value, on its way into SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal<'a> {
    /// Microseconds since 1970.
    Time(i64),
    /// Microseconds.
    Interval(i64),
    Text(&'a str),
}

impl Literal<'_> {
    /// As DataFusion reads it.
    pub(crate) fn sql(&self) -> String {
        match self {
            Self::Time(micros) => {
                let time = ingest::event::Timestamp::from_micros(*micros);
                format!("arrow_cast('{time}', 'Timestamp(Microsecond, Some(\"UTC\"))')")
            }
            Self::Interval(micros) => format!("INTERVAL '{} seconds'", micros / 1_000_000),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

/// SQL that cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("a {0} does not end")]
    Open(&'static str),
    #[error("${0} has no value")]
    Unknown(String),
}

/// Puts values in place of the parameters.
pub(crate) fn bind(
    sql: &str,
    mut value: impl FnMut(&str) -> Option<String>,
) -> Result<String, Unclear> {
    let mut bound = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\'' => closed(rest, '\'', "text")?,
            '"' => closed(rest, '"', "name in quotes")?,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                rest.find("*/").ok_or(Unclear::Open("comment"))? + "*/".len()
            }
            '$' => {
                let behind = &rest[1..];
                let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
                let end = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
                let name = &behind[..end];
                let value = value(name).ok_or_else(|| Unclear::Unknown(name.to_owned()))?;
                bound.push_str(&value);
                rest = &behind[end..];
                continue;
            }
            other => other.len_utf8(),
        };
        bound.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(bound)
}

/// Up to behind the quote that closes; two of them are one that does not.
fn closed(text: &str, quote: char, what: &'static str) -> Result<usize, Unclear> {
    text[1..].find(quote).map(|end| end + 2).ok_or(Unclear::Open(what))
}

/// The parameters that SQL asks for.
pub(super) fn names(sql: &str) -> Vec<String> {
    let mut names = Vec::new();
    let _ = bind(sql, |name| {
        names.push(name.to_owned());
        Some(String::new())
    });
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_replaced_and_texts_are_left() {
        let check = |sql: &str, expected: Result<&str, Unclear>| {
            let bound = bind(sql, |name| (name == "from").then(|| "X".to_owned()));
            assert_eq!(bound.as_deref().map_err(Clone::clone), expected, "{sql}");
        };
        check("a >= $from AND b", Ok("a >= X AND b"));
        check(
            "'$from' \"$from\" -- $from\n$from /* $from */",
            Ok("'$from' \"$from\" -- $from\nX /* $from */"),
        );
        check("'it''s $from' $from", Ok("'it''s $from' X"));
        check("'ä' $from-1", Ok("'ä' X-1"));
        check("$until", Err(Unclear::Unknown("until".to_owned())));
        check("'$from", Err(Unclear::Open("text")));
        check("/* $from", Err(Unclear::Open("comment")));
    }

    #[test]
    fn a_text_stays_a_text() {
        let check = |text: &str, sql: &str| assert_eq!(Literal::Text(text).sql(), sql);
        check("may-2015", "'may-2015'");
        check("' OR replay_id IS NULL --", "''' OR replay_id IS NULL --'");
        check("''", "''''''");
    }
}
