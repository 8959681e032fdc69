use std::fmt;

use serde::{Deserialize, Serialize};

/// The most faults that are reported of one entity or one change set.
pub(super) const FAULTS_MAX: usize = 100;

/// The most bytes of each text of a fault; what is longer is cut. It may quote a
/// spec, and a hundred of them are to fit one record, however they are escaped.
const TEXT_BYTES_MAX: usize = 400;

/// What is wrong at one place of a spec, and how to mend it. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where in the spec, as `resources[0].path`; empty for the whole entity.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub mend: String,
}

impl Fault {
    /// A fault; texts beyond 400 bytes are cut.
    pub fn new(path: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { path: cut(path.into()), what: cut(what.into()), mend: cut(mend.into()) }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - 3));
        text.push('…');
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.mend)
    }
}

/// Collects the faults of a spec. Beyond the limit they are not kept.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn add(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault::new(path, what, mend));
        }
    }

    /// Adds a fault if `value` is not from `min` to `max`.
    pub fn range(&mut self, path: impl Into<String>, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.add(path, format!("{value} is out of range"), format!("use {min} to {max}"));
        }
    }

    /// Adds a fault if a list has fewer than `min` or more than `max` entries.
    pub fn count(&mut self, path: impl Into<String>, count: usize, min: usize, max: usize) {
        if !(min..=max).contains(&count) {
            self.add(path, format!("{count} entries"), format!("give {min} to {max}"));
        }
    }

    /// Adds a fault if a text is empty, longer than `max` bytes, or not on one line.
    pub fn text(&mut self, path: impl Into<String>, text: &str, max: usize) {
        let mend = || format!("give one line of 1 to {max} bytes");
        if text.is_empty() {
            self.add(path, "is empty", mend());
        } else if text.len() > max {
            self.add(path, format!("has {} bytes", text.len()), mend());
        } else if text.contains(char::is_control) {
            self.add(path, "holds a control character", mend());
        }
    }

    /// Nothing, or the faults.
    ///
    /// # Errors
    /// The faults, if there is one.
    pub fn into_result(self) -> Result<(), Vec<Fault>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // What is further away than a third of the word is another word, and of a short word
    // what differs by more than a letter.
    let reach = match word.chars().count().min(64) {
        0..=3 => 1,
        chars => 1 + chars / 3,
    };
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance of two words, of their first 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut() {
        let fault = Fault::new("p", "ä".repeat(300), "m");
        assert_eq!(fault.what, format!("{}…", "ä".repeat(198)));
    }

    #[test]
    fn distances_are_levenshteins() {
        let check = |a, b, expected| assert_eq!(distance(a, b), expected, "{a} {b}");
        check("", "", 0);
        check("kitten", "sitting", 3);
        check("upstreem", "upstream", 1);
        check("abc", "", 3);
    }

    #[test]
    fn a_typing_error_finds_its_word_and_nonsense_none() {
        let known = ["upstream", "context", "version"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("upstreem", Some("upstream"));
        check("contxt", Some("context"));
        check("versoin", Some("version"));
        check("x", None);
        check("colour", None);
    }
}
