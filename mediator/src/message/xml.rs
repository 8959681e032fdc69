//! XML in and out, without what makes XML dangerous (XML 1.0, fifth edition).
//!
//! Read: UTF-8; no document type, so no entities beyond the five; namespaces are
//! resolved. Limits: 64 levels, 100,000 elements, 256 attributes an element, 16 MiB.
//! What is beyond is refused, with the byte at which it is.
//!
//! **XML as JSON.** The document is an object with one key, the root's name.
//! - Names are local names; namespaces and their declarations are left out.
//! - An element of nothing but text is that text; an empty one the empty text; one
//!   with `xsi:nil="true"` is null. Nothing becomes a number by itself.
//! - Elements in an element are keys; one that is repeated is a list.
//! - Attributes are keys too, `@name`. Text beside attributes or elements is
//!   `#text`, all of it together; white space between elements is left out.
//!
//! **JSON as XML** is the way back: a list is a repeated element, null an empty
//! element, `@name` an attribute, `#text` text. What the way there leaves out,
//! namespaces and the order of different elements, does not come back.

use std::fmt::Write as _;

use jaq_json::Map;
use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::json::{self, Value};

/// How deep elements may lie in each other.
pub const DEPTH_MAX: usize = 64;
/// The most elements of a document.
pub const ELEMENTS_MAX: usize = 100_000;
/// The most attributes of an element.
pub const ATTRIBUTES_MAX: usize = 256;
/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An element, with what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its local name.
    pub name: String,
    /// Attributes by local name, in order, without declarations of namespaces.
    pub attributes: Vec<(String, String)>,
    /// The elements in it, in order.
    pub children: Vec<Self>,
    /// All text that is directly in it.
    pub text: String,
    /// Whether it says that it is nil.
    pub nil: bool,
}

impl Element {
    /// The first element in it of this namespace and name.
    pub fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.namespace == namespace && child.name == name)
    }
}

/// Reads a document.
///
/// # Errors
/// What is wrong, with the byte at which it is; nothing of the text is quoted.
pub fn parse(bytes: &[u8]) -> Result<Element, String> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("the body has more than {DOCUMENT_BYTES_MAX} bytes of XML"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("the body is not UTF-8 at byte {}", error.valid_up_to()))?;
    if let Some(at) = text.find(|c| !is_char(c)) {
        return Err(format!("the body holds a character that XML forbids at byte {at}"));
    }
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut tree = Tree::default();
    loop {
        let at = reader.buffer_position();
        let (namespace, event) = match reader.read_resolved_event() {
            Ok((namespace, event)) => {
                let namespace = match namespace {
                    ResolveResult::Bound(namespace) => Ok(namespace.into_inner().to_owned()),
                    ResolveResult::Unbound => Ok(String::new()),
                    ResolveResult::Unknown(_) => Err("a prefix that is not declared"),
                };
                (namespace, event)
            }
            Err(_) => {
                return Err(format!("the body is not XML at byte {}", reader.error_position()));
            }
        };
        let taken = match event {
            Event::Eof => return tree.finish().map_err(|what| fault(what, at)),
            Event::Start(start) => {
                namespace.and_then(|namespace| tree.open(namespace, &start, &reader))
            }
            Event::End(_) => tree.close(),
            Event::Text(text) => tree.text(&text.xml10_content()),
            Event::CData(text) => tree.text(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) if is_char(c) => tree.text(c.encode_utf8(&mut [0; 4])),
                Ok(None) => match resolve_predefined_entity(&reference) {
                    Some(text) => tree.text(text),
                    None => Err("an entity that is not one of the five"),
                },
                _ => Err("a reference to a character that XML forbids"),
            },
            Event::DocType(_) => Err("a document type, which is not taken"),
            Event::Decl(declaration) => match declaration.encoding() {
                None => Ok(()),
                Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
                Some(_) => Err("another encoding than UTF-8"),
            },
            Event::Comment(_) | Event::PI(_) => Ok(()),
            Event::Empty(_) => Err("an empty element that was not expanded"),
        };
        taken.map_err(|what| fault(what, at))?;
    }
}

fn fault(what: &str, at: u64) -> String {
    format!("the body is not taken as XML: {what}, at byte {at}")
}

/// The elements that are open, and the root once it is closed.
#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(
        &mut self,
        namespace: String,
        start: &BytesStart<'_>,
        reader: &NsReader<&[u8]>,
    ) -> Result<(), &'static str> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err("more than 100,000 elements");
        }
        if self.open.len() == DEPTH_MAX {
            return Err("more than 64 levels");
        }
        if self.root.is_some() {
            return Err("a second root");
        }
        let name = start.local_name().into_inner().to_owned();
        let mut element = Element { namespace, name, ..Element::default() };
        for (i, attribute) in start.attributes().enumerate() {
            if i == ATTRIBUTES_MAX {
                return Err("more than 256 attributes of an element");
            }
            let attribute = attribute.map_err(|_| "an attribute that is not one")?;
            if attribute.key.as_namespace_binding().is_some() {
                continue;
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|_| "an attribute with an entity that is not one of the five")?;
            if value.contains(|c| !is_char(c)) {
                return Err("a reference to a character that XML forbids");
            }
            let (resolved, local) = reader.resolver().resolve_attribute(attribute.key);
            let local = local.into_inner();
            match resolved {
                ResolveResult::Unknown(_) => return Err("a prefix that is not declared"),
                ResolveResult::Bound(space) if space.into_inner() == INSTANCE => {
                    element.nil |= local == "nil" && matches!(&*value, "true" | "1");
                }
                _ => element.attributes.push((local.to_owned(), value.into_owned())),
            }
        }
        self.open.push(element);
        Ok(())
    }

    fn close(&mut self) -> Result<(), &'static str> {
        let element = self.open.pop().ok_or("an end without its start")?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), &'static str> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err("text outside of the root"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, &'static str> {
        match self.root {
            Some(root) if self.open.is_empty() => Ok(root),
            _ => Err("no end"),
        }
    }
}

/// XML 1.0, production 2.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A document as JSON, by the convention above.
pub fn to_json(root: &Element) -> Value {
    let mut map = Map::default();
    map.insert(json::text(root.name.as_str()), content(root));
    Value::obj(map)
}

/// An element as JSON, without its own name.
pub fn content(element: &Element) -> Value {
    if element.nil {
        return Value::Null;
    }
    let mut map = Map::default();
    for (name, value) in &element.attributes {
        map.insert(json::text(format!("@{name}")), json::text(value.as_str()));
    }
    let mut groups: Map<Value, Vec<Value>> = Map::default();
    for child in &element.children {
        groups.entry(json::text(child.name.as_str())).or_default().push(content(child));
    }
    let has_children = !groups.is_empty();
    for (name, mut values) in groups {
        let value = match values.len() {
            1 => values.remove(0),
            _ => Value::Arr(values.into()),
        };
        map.insert(name, value);
    }
    let is_blank = element.text.trim().is_empty();
    if map.is_empty() {
        return json::text(element.text.as_str());
    }
    if !is_blank || (!has_children && !element.text.is_empty()) {
        map.insert(json::text("#text"), json::text(element.text.as_str()));
    }
    Value::obj(map)
}

/// A value as XML, by the convention above: an object's keys are elements.
///
/// # Errors
/// If it has no form in XML.
pub fn write(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write_content(value, DEPTH_MAX, &mut out)?;
    Ok(out)
}

fn write_content(value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::Obj(fields) => {
            for (name, value) in fields.iter() {
                let name = key(name)?;
                match (name.as_str(), name.starts_with('@')) {
                    ("#text", _) => write_text(value, out)?,
                    (_, true) => {}
                    _ => write_element(&name, value, depth, out)?,
                }
            }
        }
        Value::Arr(_) => return Err("a list without a name has no form in XML".to_owned()),
        scalar => write_text(scalar, out)?,
    }
    Ok(())
}

fn write_element(name: &str, value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("the value is deeper than {DEPTH_MAX} levels of XML"))?;
    if !is_name(name) {
        return Err("a key is no name in XML".to_owned());
    }
    if let Value::Arr(items) = value {
        return items.iter().try_for_each(|item| write_element(name, item, depth, out));
    }
    out.push('<');
    out.push_str(name);
    if let Value::Obj(fields) = value {
        for (field, value) in fields.iter() {
            let field = key(field)?;
            if let Some(attribute) = field.strip_prefix('@') {
                if !is_name(attribute) {
                    return Err("a key is no name in XML".to_owned());
                }
                write!(out, " {attribute}=\"").expect("a string takes it");
                write_text(value, out)?;
                out.push('"');
            }
        }
    }
    out.push('>');
    write_content(value, depth, out)?;
    write!(out, "</{name}>").expect("a string takes it");
    Ok(())
}

fn key(key: &Value) -> Result<String, String> {
    match key {
        Value::TStr(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err("a key is no text".to_owned()),
    }
}

fn write_text(value: &Value, out: &mut String) -> Result<(), String> {
    let text = match value {
        Value::Null => return Ok(()),
        Value::TStr(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(_) | Value::Num(_) => {
            String::from_utf8_lossy(&json::write(value)?).into_owned()
        }
        _ => return Err("a list or an object where XML takes a text".to_owned()),
    };
    if text.contains(|c| !is_char(c)) {
        return Err("a text holds a character that XML forbids".to_owned());
    }
    out.push_str(&escape(text.as_str()));
    Ok(())
}

/// Names of ASCII, with a prefix at most (XML 1.0, production 5, and Namespaces).
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    match name.split_once(':') {
        Some((prefix, local)) => part(prefix) && part(local),
        None => part(name),
    }
}

#[cfg(test)]
mod tests;
