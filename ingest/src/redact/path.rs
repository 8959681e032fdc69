use std::fmt;

/// A path into JSON, of the part of RFC 9535 that can be decided while it is read:
/// `$.card.number`, `$['a b']`, `$.items[*].iban`, `$.items[0]`, `$..email`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    segments: Vec<Segment>,
}

/// The longest path, in segments.
const SEGMENTS_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// Whether it may lie any number of levels below.
    is_descendant: bool,
    selector: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Name(String),
    Index(usize),
    Any,
}

/// A step from a container to what it holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// What is wrong with a path, from which character on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}")]
pub struct PathError {
    /// Counted from 1.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// How far into a path a place is: the segments that may come next, as bits. Where the
/// last one is behind, the value is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress(u32);

impl Progress {
    pub(super) const START: Self = Self(1);
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is not of the grammar above: filters, slices, unions and negative indexes
    /// cannot be decided before the whole is read.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut reader = Reader { text, at: 0 };
        if !reader.takes("$") {
            return Err(reader.fault("a path begins with $"));
        }
        let mut segments = Vec::new();
        while !reader.rest().is_empty() {
            if segments.len() == SEGMENTS_MAX {
                return Err(reader.fault("a path has up to 16 segments"));
            }
            segments.push(reader.segment()?);
        }
        match segments.is_empty() {
            true => Err(reader.fault("name what is to be found, as in $.card")),
            false => Ok(Self { segments }),
        }
    }

    /// One step further down, and whether what is there is named.
    pub(super) fn step(&self, from: Progress, step: Step<'_>) -> (Progress, bool) {
        let mut next = 0;
        for (i, segment) in self.segments.iter().enumerate() {
            if from.0 & (1 << i) == 0 {
                continue;
            }
            if segment.is_descendant {
                next |= 1 << i;
            }
            if segment.selector.takes(step) {
                next |= 1 << (i + 1);
            }
        }
        let end = 1 << self.segments.len();
        (Progress(next & !end), next & end != 0)
    }
}

impl Selector {
    fn takes(&self, step: Step<'_>) -> bool {
        match (self, step) {
            (Self::Any, _) => true,
            (Self::Name(name), Step::Name(found)) => name == found,
            (Self::Index(index), Step::Index(found)) => *index == found,
            (Self::Name(_), Step::Index(_)) | (Self::Index(_), Step::Name(_)) => false,
        }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for Segment { is_descendant, selector } in &self.segments {
            f.write_str(if *is_descendant { ".." } else { "" })?;
            match selector {
                Selector::Name(name) => write!(f, "[{name:?}]")?,
                Selector::Index(index) => write!(f, "[{index}]")?,
                Selector::Any => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn takes(&mut self, part: &str) -> bool {
        let is_there = self.rest().starts_with(part);
        self.at += if is_there { part.len() } else { 0 };
        is_there
    }

    fn fault(&self, what: &'static str) -> PathError {
        PathError { at: self.text[..self.at].chars().count() + 1, what }
    }

    fn segment(&mut self) -> Result<Segment, PathError> {
        let is_descendant = self.takes("..");
        let selector = if self.takes("[") {
            self.bracketed()?
        } else if is_descendant || self.takes(".") {
            self.short()?
        } else {
            return Err(self.fault("expected . or [ here; a name with other signs is ['…']"));
        };
        Ok(Segment { is_descendant, selector })
    }

    fn short(&mut self) -> Result<Selector, PathError> {
        if self.takes("*") {
            return Ok(Selector::Any);
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || !c.is_ascii();
        let rest = self.rest();
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.fault("expected a name, or ['…'] around another one"));
        }
        self.at += end;
        Ok(Selector::Name(name.to_owned()))
    }

    fn bracketed(&mut self) -> Result<Selector, PathError> {
        let selector = if self.takes("*") {
            Selector::Any
        } else if let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) {
            self.at += 1;
            Selector::Name(self.quoted(quote)?)
        } else {
            let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
            let index = self.rest()[..digits].parse();
            let index = index.map_err(|_| self.fault("expected *, a quoted name or an index"))?;
            self.at += digits;
            Selector::Index(index)
        };
        match self.takes("]") {
            true => Ok(selector),
            false => Err(self.fault("expected ] here")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => match chars.next() {
                    Some((_, escaped @ ('\'' | '"' | '\\' | '/'))) => name.push(escaped),
                    _ => break,
                },
                _ if char == quote => {
                    self.at += at + 1;
                    return Ok(name);
                }
                _ => name.push(char),
            }
        }
        Err(self.fault("a quoted name ends by its quote; \\ stands before quotes and itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a path names what the steps lead to.
    fn names(path: &str, steps: &[Step<'_>]) -> bool {
        let path = JsonPath::parse(path).unwrap();
        let mut reached = (Progress::START, false);
        for step in steps {
            reached = path.step(reached.0, *step);
        }
        reached.1
    }

    #[test]
    fn a_path_names_what_its_segments_lead_to() {
        use Step::{Index, Name};
        let (card, number, items) = (Name("card"), Name("number"), Name("items"));
        assert!(names("$.card.number", &[card, number]));
        assert!(!names("$.card.number", &[card]));
        assert!(!names("$.card.number", &[number]));
        assert!(names("$['card'][\"number\"]", &[card, number]));
        assert!(names("$['it\\'s']", &[Name("it's")]));
        assert!(names("$.items[*].number", &[items, Index(7), number]));
        assert!(names("$.items[1]", &[items, Index(1)]));
        assert!(!names("$.items[1]", &[items, Index(0)]));
        assert!(!names("$.items[1]", &[items, Name("1")]));
        assert!(names("$..number", &[items, Index(0), card, number]));
        assert!(names("$..number", &[number]));
        assert!(names("$..card.number", &[card, card, number]));
        assert!(!names("$..card.number", &[card, items, number]));
        assert!(names("$.*.*", &[items, Index(0)]));
        assert!(names("$..[0]", &[items, Index(0)]));
        assert!(names("$.straße", &[Name("straße")]));
    }

    #[test]
    fn what_is_no_path_is_told_of_with_its_place() {
        let check = |text: &str, at: usize, what: &str| {
            let error = JsonPath::parse(text).unwrap_err();
            assert_eq!((error.at, error.what), (at, what), "{text}");
        };
        check("card", 1, "a path begins with $");
        check("$", 2, "name what is to be found, as in $.card");
        let next = "expected . or [ here; a name with other signs is ['…']";
        check("$card", 2, next);
        check("$.first-name", 8, next);
        check("$.", 3, "expected a name, or ['…'] around another one");
        check("$.a b", 4, next);
        check("$.a[?@.b]", 5, "expected *, a quoted name or an index");
        check("$.a[-1]", 5, "expected *, a quoted name or an index");
        check("$.a[0:2]", 6, "expected ] here");
        check("$['a", 4, "a quoted name ends by its quote; \\ stands before quotes and itself");
        check(&format!("${}", ".a".repeat(17)), 34, "a path has up to 16 segments");
    }
}
