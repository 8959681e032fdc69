//! XML, as it was written but for what is taken out.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::Action;
use super::json::Looked;
use super::name::is_secret;
use super::rules::{Place, Rules};

/// A document (XML 1.0). Elements and attributes are known by their names without a prefix;
/// a document type is left out.
pub(super) fn xml<'a>(text: &'a str, rules: &Rules) -> Looked<'a> {
    let (out, run, taken, kept) = (String::new(), None, None, None);
    let mut walk = Walk {
        text,
        rules,
        out,
        copied: 0,
        seen: 0,
        depth: 0,
        has_root: false,
        is_broken: false,
        run,
        taken,
        kept,
    };
    match walk.all() {
        Ok(()) if walk.copied == 0 => Looked::Whole(Cow::Borrowed(text)),
        Ok(()) => Looked::Whole(Cow::Owned(walk.out + &text[walk.copied..])),
        Err(Fault) => Looked::Beginning(walk.out + &text[walk.copied..walk.seen.max(walk.copied)]),
    }
}

/// It is no XML from here on.
struct Fault;

struct Walk<'a, 'r> {
    text: &'a str,
    rules: &'r Rules,
    out: String,
    /// Up to where the text is in `out`, or left out of it.
    copied: usize,
    /// Up to where the text was looked at.
    seen: usize,
    /// How many elements are open, and whether the outermost was there.
    depth: usize,
    has_root: bool,
    is_broken: bool,
    /// A text that goes on, over references and sections, and where it began.
    run: Option<(usize, String)>,
    /// The element whose content is taken out.
    taken: Option<Taken>,
    /// At what depth the element is whose content stays, whatever it is.
    kept: Option<usize>,
}

struct Taken {
    depth: usize,
    action: Action,
    /// Where its content begins, and the texts of it.
    start: usize,
    content: String,
}

impl Walk<'_, '_> {
    fn all(&mut self) -> Result<(), Fault> {
        let mut reader = Reader::from_str(self.text);
        loop {
            let start = place(&reader);
            let event = reader.read_event().map_err(|_| Fault)?;
            let end = place(&reader);
            if self.is_broken {
                return Err(Fault);
            }
            match event {
                Event::Text(text) => self.runs_on(start, &text.xml10_content()),
                Event::CData(text) => self.runs_on(start, &text.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    Ok(Some(char)) => self.runs_on(start, char.encode_utf8(&mut [0; 4])),
                    _ => {
                        let known = resolve_predefined_entity(&reference);
                        self.runs_on(start, known.unwrap_or(&self.text[start..end]));
                    }
                },
                Event::Eof if self.depth > 0 || !self.has_root => return Err(Fault),
                Event::Eof => {
                    self.end_run(start);
                    return Ok(());
                }
                // They stand in no text, and divide none.
                Event::Comment(_) | Event::PI(_) if self.run.is_some() => {}
                other => {
                    self.end_run(start);
                    let was_taken = self.taken.is_some();
                    self.markup(start, end, &other)?;
                    if !was_taken || self.taken.is_none() {
                        self.seen = end;
                    }
                }
            }
        }
    }

    fn markup(&mut self, start: usize, end: usize, event: &Event<'_>) -> Result<(), Fault> {
        let is_inside = self.taken.is_some() || self.kept.is_some();
        match event {
            Event::Start(_) | Event::Empty(_) if self.depth == 0 && self.has_root => {
                return Err(Fault);
            }
            Event::Start(tag) => {
                self.has_root = true;
                if !is_inside {
                    self.attributes(start, end, tag, ">")?;
                    let name = tag.local_name().into_inner();
                    match self.rules.named(Place::Markup, name, is_secret(name)) {
                        None => {}
                        Some(Action::Keep) => self.kept = Some(self.depth),
                        Some(action) => {
                            let (depth, content) = (self.depth, String::new());
                            self.taken = Some(Taken { depth, action, start: end, content });
                        }
                    }
                }
                self.depth += 1;
            }
            Event::End(_) => {
                self.depth = self.depth.checked_sub(1).ok_or(Fault)?;
                if self.kept == Some(self.depth) {
                    self.kept = None;
                }
                if let Some(taken) = self.taken.take_if(|taken| taken.depth == self.depth)
                    && start > taken.start
                    && let Some(with) = self.rules.value(taken.action, taken.content.trim())
                {
                    self.replace(taken.start, start, &escape(&with));
                }
            }
            Event::Empty(tag) => {
                self.has_root = true;
                if !is_inside {
                    self.attributes(start, end, tag, "/>")?;
                }
            }
            Event::DocType(_) if !is_inside => self.replace(start, end, ""),
            Event::Comment(_) | Event::PI(_) if !is_inside => {
                if let Cow::Owned(masked) = self.rules.text(&self.text[start..end]) {
                    self.replace(start, end, &masked);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A part of a text, as it is decoded.
    fn runs_on(&mut self, start: usize, part: &str) {
        // Outside of the root there are spaces, and nothing that is XML.
        self.is_broken |= self.depth == 0 && !part.trim_matches('\u{feff}').trim().is_empty();
        match (&mut self.taken, self.kept) {
            (Some(taken), _) => taken.content.push_str(part),
            (None, Some(_)) => {}
            (None, None) => self.run.get_or_insert((start, String::new())).1.push_str(part),
        }
    }

    fn end_run(&mut self, end: usize) {
        let Some((start, text)) = self.run.take() else { return };
        if let Cow::Owned(masked) = self.rules.text(&text) {
            self.replace(start, end, &escape(&masked));
        } else if let Cow::Owned(masked) = self.rules.text(&self.text[start..end]) {
            // What only who does not decode it sees.
            self.replace(start, end, &masked);
        }
    }

    /// A tag, written anew if an attribute of it is to be taken out.
    fn attributes(
        &mut self,
        start: usize,
        end: usize,
        tag: &BytesStart<'_>,
        close: &str,
    ) -> Result<(), Fault> {
        let (mut anew, mut is_other) = (format!("<{}", tag.name().into_inner()), false);
        // What an element of a secret says in attributes is as secret.
        let of_tag = tag.local_name().into_inner();
        let of_tag = self.rules.named(Place::Markup, of_tag, is_secret(of_tag));
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| Fault)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| Fault)?;
            let name = attribute.key.local_name().into_inner();
            let named = self.rules.named(Place::Markup, name, is_secret(name)).or(of_tag);
            let masked = match named {
                Some(action) if attribute.key.as_namespace_binding().is_none() => {
                    self.rules.value(action, &value)
                }
                _ => match self.rules.text(&value) {
                    Cow::Owned(masked) => Some(masked),
                    Cow::Borrowed(_) => None,
                },
            };
            is_other |= masked.is_some();
            let value = masked.as_deref().unwrap_or(&value);
            anew += &format!(" {}=\"{}\"", attribute.key.into_inner(), escape(value));
        }
        if is_other {
            self.replace(start, end, &(anew + close));
        }
        Ok(())
    }

    /// Something else in the place of a part of the text.
    fn replace(&mut self, start: usize, end: usize, with: &str) {
        self.out.push_str(&self.text[self.copied..start]);
        self.out.push_str(with);
        self.copied = end;
    }
}

fn place(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}
