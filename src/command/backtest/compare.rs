//! What two versions of a query would have given, put side by side.

use std::collections::HashMap;

use serde_json::Value;

/// A row, and in which version alone it is; in both, if in none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compared {
    pub(super) row: Value,
    pub(super) only: Option<String>,
}

/// Rows of two versions that are called so. Alerts are the same if they are about the same
/// subject and overlap in time, rows if they are alike; those of the first are shown.
pub(super) fn compare(
    first: Vec<Value>,
    second: Vec<Value>,
    are_alerts: bool,
    [name, other]: [String; 2],
) -> Vec<Compared> {
    let mut left: HashMap<String, Vec<Value>> = HashMap::new();
    for row in second {
        left.entry(key(&row, are_alerts)).or_default().push(row);
    }
    let mut compared: Vec<Compared> = Vec::new();
    for row in first {
        let alike = left.get_mut(&key(&row, are_alerts));
        let found = alike.and_then(|rows| {
            let at = rows.iter().position(|of| !are_alerts || overlap(&row, of))?;
            Some(rows.remove(at))
        });
        let only = found.is_none().then(|| name.clone());
        compared.push(Compared { row, only });
    }
    let rest = left.into_values().flatten();
    compared.extend(rest.map(|row| Compared { row, only: Some(other.clone()) }));
    // By their times, which are texts in order; then as they are.
    let time = if are_alerts { "begins" } else { "window_start" };
    let text = |of: &Compared| of.row[time].as_str().unwrap_or_default().to_owned();
    compared.sort_by_cached_key(|of| (text(of), of.row.to_string(), of.only.clone()));
    compared
}

fn key(row: &Value, are_alerts: bool) -> String {
    match are_alerts {
        true => format!("{}\n{}", row["subject_kind"], row["subject"]),
        false => row.to_string(),
    }
}

/// Whether two alerts are of overlapping times.
fn overlap(a: &Value, b: &Value) -> bool {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    text(a, "begins") < text(b, "until") && text(b, "begins") < text(a, "until")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(subject: &str, begins: u32, until: u32) -> Value {
        let time = |hour| format!("2026-01-31T{hour:02}:00:00Z");
        json!({"subject_kind": "app_id", "subject": subject, "begins": time(begins), "until": time(until)})
    }

    fn only(compared: &[Compared]) -> Vec<(String, Option<&str>)> {
        let of = |of: &Compared| of.row["begins"].as_str().unwrap()[11..13].to_owned();
        compared.iter().map(|one| (of(one), one.only.as_deref())).collect()
    }

    #[test]
    fn alerts_about_one_subject_that_overlap_are_the_same() {
        let first = vec![alert("a", 1, 3), alert("a", 8, 9), alert("b", 1, 3)];
        let second = vec![alert("a", 2, 5), alert("a", 9, 10), alert("c", 1, 3)];
        let found = compare(first, second, true, ["new".into(), "old".into()]);
        let expected = [
            ("01".to_owned(), None),
            ("01".to_owned(), Some("new")),
            ("01".to_owned(), Some("old")),
            ("08".to_owned(), Some("new")),
            ("09".to_owned(), Some("old")),
        ];
        assert_eq!(only(&found), expected);
    }

    #[test]
    fn rows_are_the_same_as_often_as_they_are_in_both() {
        let row = |n: i64| json!({"window_start": "2026-01-31T00:00:00Z", "n": n});
        let found = compare(
            vec![row(1), row(2), row(2)],
            vec![row(2), row(3)],
            false,
            ["new".into(), "old".into()],
        );
        let found: Vec<_> =
            found.iter().map(|of| (of.row["n"].as_i64().unwrap(), of.only.as_deref())).collect();
        assert_eq!(found, [(1, Some("new")), (2, None), (2, Some("new")), (3, Some("old"))]);
    }
}
