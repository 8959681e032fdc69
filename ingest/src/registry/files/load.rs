use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::locate::locate;
use super::openapi::{self, Described};
use super::parse::{Located, parse};
use crate::registry::fault::nearest;
use crate::registry::kind::{Source, check_new};
use crate::registry::{BadName, DeepCheck, Entity, EntityKey, Fault, Json, Kind, Name};

const FILES_MAX: usize = 10_000;
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const DOCUMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
const DIRECTORIES_MAX: usize = 1_000;
const DEPTH_MAX: usize = 16;

/// What a directory says should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Every entity, with the place where it stands.
    pub entities: BTreeMap<EntityKey, (Json, Place)>,
    /// By entity and path in its spec, where its keys stand and where others are named.
    pub places: BTreeMap<(EntityKey, String), Place>,
}

impl Wanted {
    /// As if each secret that the files leave out were there already.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        for (key, (json, _)) in &mut self.entities {
            *json = key.kind.without_its_secrets(json);
        }
        self
    }

    /// Where a key of an entity's spec stands, or a place in it at which another entity is
    /// named; else where the entity does.
    pub fn place(&self, key: &EntityKey, path: &str) -> Option<&Place> {
        let own = self.places.get(&(key.clone(), path.to_owned()));
        own.or_else(|| self.entities.get(key).map(|(_, place)| place))
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, from the directory on.
    pub file: String,
    /// From 1; 0 where it is the file itself.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// What is wrong in a file, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct FileError {
    /// Where.
    pub place: Place,
    /// Which key, what and how to mend it.
    pub fault: Fault,
}

/// Everything that is wrong in a directory, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}

/// Reads every `.yaml` and `.yml` file of a directory and those below it, and every `.sql`
/// file as the query of its name; and every `.csv` file of a folder `tables` as the table of its name.
///
/// # Errors
/// Everything that is wrong in them; nothing is taken from a directory that has
/// an error. That there is no such file is one: a wrong path or an empty mount
/// must not read as the wish to have nothing.
pub fn load(dir: &Path, check: DeepCheck) -> Result<Wanted, FileErrors> {
    let mut loading = Loading::new(dir, check);
    let mut files = Vec::new();
    loading.list(dir, dir, 0, &mut files);
    files.sort();
    if files.len() > FILES_MAX {
        let what = format!("{} files", files.len());
        let dir = dir.display().to_string();
        loading.fail(&dir, (0, 0), Fault::new("", what, format!("keep to {FILES_MAX}")));
        files.clear();
    } else if files.is_empty() && loading.errors.is_empty() {
        let mend = "name the directory of the configuration; an empty file asks for nothing";
        let dir = dir.display().to_string();
        loading.fail(&dir, (0, 0), Fault::new("", "holds no .yaml, .yml or .sql file", mend));
    }
    for path in files {
        let name = shown(dir, &path);
        match read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => match alone(&path) {
                Some((kind, field)) => loading.alone(&name, (kind, field), text),
                None => loading.file(&name, &text),
            },
            Err(error) => loading.unread(&name, &error),
        }
    }
    // An API's document is told of once, by those who read it as such.
    let Loading { broken, documents, .. } = &mut loading;
    broken.retain(|error| !documents.contains(&error.place.file));
    loading.errors.append(&mut loading.broken);
    if loading.errors.is_empty() { Ok(loading.wanted) } else { Err(FileErrors(loading.errors)) }
}

struct Loading {
    root: PathBuf,
    check: DeepCheck,
    wanted: Wanted,
    errors: Vec<FileError>,
    /// Of files that could not be read at all.
    broken: Vec<FileError>,
    /// The documents that APIs name.
    documents: BTreeSet<String>,
    directories: usize,
}

impl Loading {
    fn new(root: &Path, check: DeepCheck) -> Self {
        Self {
            root: root.to_owned(),
            check,
            wanted: Wanted::default(),
            errors: Vec::new(),
            broken: Vec::new(),
            documents: BTreeSet::new(),
            directories: 0,
        }
    }

    /// Lists a directory and those below it. Links are followed; depth and number
    /// of directories bound those that lead in a circle. What begins with a dot is
    /// left out: a Kubernetes mount keeps its files once more in such a directory.
    fn list(&mut self, root: &Path, dir: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let name = shown(root, dir);
        if depth > DEPTH_MAX {
            let mend = format!("keep to {DEPTH_MAX} levels");
            return self.fail(&name, (1, 1), Fault::new("", "is too deep", mend));
        }
        self.directories += 1;
        if self.directories > DIRECTORIES_MAX {
            // Told once; the rest of the tree is not walked.
            if self.directories == DIRECTORIES_MAX + 1 {
                let mend = format!("keep to {DIRECTORIES_MAX}, and see that no link leads upwards");
                self.fail(&name, (1, 1), Fault::new("", "is one directory too many", mend));
            }
            return;
        }
        let entries = match std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>)
        {
            Ok(entries) => entries,
            Err(error) if depth == 0 => {
                let what = format!("cannot be read: {error}");
                let mend = "give a directory with .yaml files";
                return self.fail(&dir.display().to_string(), (0, 0), Fault::new("", what, mend));
            }
            Err(error) => return self.unread(&name, &error),
        };
        for entry in entries {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
            let is_read = is_yaml || alone(&path).is_some();
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.list(root, &path, depth + 1, files),
                Ok(metadata) if is_read && metadata.is_file() => files.push(path),
                Ok(_) if is_read => {
                    self.unread(&shown(root, &path), &std::io::Error::other("is not a file"));
                }
                Ok(_) => {}
                Err(error) => self.unread(&shown(root, &path), &error),
            }
        }
    }

    fn unread(&mut self, file: &str, error: &std::io::Error) {
        let mend = "see that it is there, small enough, UTF-8, and may be read";
        self.unparsed(file, ((0, 0), Fault::new("", format!("cannot be read: {error}"), mend)));
    }

    fn unparsed(&mut self, file: &str, ((line, column), fault): Located) {
        let place = Place { file: file.to_owned(), line, column };
        self.broken.push(FileError { place, fault });
    }

    fn fail(&mut self, file: &str, (line, column): (usize, usize), fault: Fault) {
        let place = Place { file: file.to_owned(), line, column };
        self.errors.push(FileError { place, fault });
    }

    fn file(&mut self, file: &str, text: &str) {
        for (i, document) in serde_norway::Deserializer::from_str(text).enumerate() {
            let again = || serde_norway::Deserializer::from_str(text).nth(i);
            let place = |path: &str| again().map_or((1, 1), |document| locate(document, path));
            match parse(document, again) {
                // The parser cannot go on after an error of its own.
                Err(located) => return self.unparsed(file, located),
                Ok(serde_norway::Value::Null) => {}
                Ok(value) if is_openapi(&value) => {}
                Ok(mut value) => {
                    let mut described = None;
                    let expanded = self.expand(file, &mut value);
                    let read = expanded.and_then(|found| {
                        described = found;
                        read(value, self.check)
                    });
                    match read {
                        Err(faults) => faults.into_iter().for_each(|fault| {
                            let beside = described.as_ref().and_then(|(document, described)| {
                                Some((document, described.located(&fault)?))
                            });
                            match beside {
                                Some((document, (at, fault))) => self.fail(document, at, fault),
                                None => self.fail(file, place(&fault.path), with_document(fault)),
                            }
                        }),
                        Ok((key, mut json)) => {
                            if key.kind == Kind::Route {
                                add_source(&mut json, file, |path| place(path).0);
                            }
                            for path in paths(&key, &json) {
                                let (line, column) = place(&format!("spec.{path}"));
                                let place = Place { file: file.to_owned(), line, column };
                                self.wanted.places.insert((key.clone(), path), place);
                            }
                            self.add(file, place(""), key, json);
                        }
                    }
                }
            }
        }
    }

    /// Takes a file as the one entity that it is called by, of which it is a field.
    fn alone(&mut self, file: &str, (kind, field): (Kind, &str), text: String) {
        let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let read = Name::new(stem).map_err(|bad| {
            vec![Fault::new("", format!("{stem:?} is not a name"), bad.to_string())]
        });
        let key = read.map(|name| EntityKey::new(kind, name));
        let json = Json([(field.to_owned(), Value::from(text))].into_iter().collect());
        match key.and_then(|key| check_spec(&key, &json, self.check).map(|()| key)) {
            Ok(key) => self.add(file, (1, 1), key, json),
            // The file is the text, so a fault of the text is told as one of the file.
            Err(faults) => faults.into_iter().for_each(|fault| {
                self.fail(file, (0, 0), Fault { path: String::new(), ..fault });
            }),
        }
    }

    /// Puts the resources of an API's document in the place of its name, and answers
    /// which document that is. What is wrong in it is told as being there; what is
    /// answered is empty then.
    fn expand(
        &mut self,
        file: &str,
        value: &mut serde_norway::Value,
    ) -> Result<Option<(String, Described)>, Vec<Fault>> {
        let is_api = value.get("kind").and_then(|kind| kind.as_str()) == Some(Kind::Api.as_str());
        let spec = value.get_mut("spec").and_then(|spec| spec.as_mapping_mut());
        let Some(spec) = spec.filter(|spec| is_api && spec.contains_key("openapi")) else {
            return Ok(None);
        };
        let fault = |what: &str, mend: &str| vec![Fault::new("spec.openapi", what, mend)];
        if spec.contains_key("resources") {
            return Err(fault("stands beside resources", "leave out one of the two"));
        }
        let named = spec.remove("openapi");
        let Some(named) = named.as_ref().and_then(|named| named.as_str()) else {
            return Err(fault("is not a file's name", "name the document, a file beside this one"));
        };
        let beside = Path::new(file).parent().unwrap_or(Path::new(""));
        let Some(path) = below(&beside.join(named)) else {
            let mend = "name a file of the configuration's directory";
            return Err(fault("leads out of the directory", mend));
        };
        let document = path.display().to_string();
        self.documents.insert(document.clone());
        let text = read_text(&self.root.join(&path), DOCUMENT_BYTES_MAX).map_err(|error| {
            let mend = "name a document that is there, small enough, and UTF-8";
            fault(&format!("cannot be read: {error}"), mend)
        })?;
        match openapi::describe(text) {
            Err(faults) => {
                for (at, fault) in faults {
                    self.fail(&document, at, fault);
                }
                Err(Vec::new())
            }
            Ok(described) => {
                let resources = serde_norway::to_value(&described.resources);
                spec.insert("resources".into(), resources.expect("JSON is YAML"));
                Ok(Some((document, described)))
            }
        }
    }

    fn add(&mut self, file: &str, at: (usize, usize), key: EntityKey, json: Json) {
        if let Some((_, other)) = self.wanted.entities.get(&key) {
            let what = format!("{key} is also at {other}");
            return self.fail(file, at, Fault::new("", what, "remove one of them"));
        }
        let place = Place { file: file.to_owned(), line: at.0, column: at.1 };
        self.wanted.entities.insert(key, (json, place));
    }
}

/// Of a file that is an entity by itself the kind, and the field of its spec that it is.
fn alone(path: &Path) -> Option<(Kind, &'static str)> {
    let is_of_tables = || path.parent().is_some_and(|dir| dir.ends_with("tables"));
    match path.extension()?.to_str()? {
        "sql" => Some((Kind::Query, "sql")),
        "csv" if is_of_tables() => Some((Kind::Table, "csv")),
        _ => None,
    }
}

fn read_text(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("is not a file"));
    }
    match metadata.len() {
        bytes if bytes <= bytes_max => std::fs::read_to_string(path),
        bytes => Err(std::io::Error::other(format!("{bytes} bytes, of at most {bytes_max}"))),
    }
}

/// The keys of an entity's spec, and the paths in it at which others are named.
fn paths(key: &EntityKey, spec: &Json) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = spec.0.keys().cloned().collect();
    if let Ok(entity) = Entity::new(key.clone(), 1, spec.clone()) {
        paths.extend(entity.references.into_iter().map(|of| of.path));
    }
    paths
}

/// Whether a document is an API's description, which an entity may name.
fn is_openapi(document: &serde_norway::Value) -> bool {
    let has = |key: &str| document.get(key).is_some();
    (has("openapi") || has("swagger")) && !has("kind")
}

/// A path without its dots; none if it leads upwards out of where it begins.
fn below(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            _ => return None,
        }
    }
    Some(clean)
}

/// A path from the directory on; `.` for itself.
fn shown(root: &Path, path: &Path) -> String {
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    if name.is_empty() { ".".to_owned() } else { name }
}

/// Of an API's keys one is known to files alone: the name of its document.
fn with_document(fault: Fault) -> Fault {
    const DOCUMENT: &str = "openapi";
    let key = fault.path.strip_prefix("spec.").filter(|_| fault.what == "unknown key");
    let known = fault.mend.split_once("known are ").map(|(_, known)| known);
    let (Some(key), Some(known)) = (key, known.filter(|of| of.starts_with("context, "))) else {
        return fault;
    };
    let known = format!("{known}, {DOCUMENT}");
    let mend = match nearest(key, known.split(", ")) {
        Some(near) => format!("did you mean `{near}`? known are {known}"),
        None => format!("known are {known}"),
    };
    Fault::new(fault.path, fault.what, mend)
}

/// Reads a document, and says everything that is wrong with it. Nothing shows a
/// value, which may be a secret in the wrong place, but for a kind or a spec's own.
fn read(document: serde_norway::Value, check: DeepCheck) -> Result<(EntityKey, Json), Vec<Fault>> {
    const KEYS: [&str; 3] = ["kind", "name", "spec"];
    let fault = |path: &str, what: &str, mend: &str| Fault::new(path, what, mend);
    let Ok(Value::Object(mut fields)) = serde_json::to_value(document) else {
        let mend = "give kind, name and spec, with text for keys";
        return Err(vec![fault("", "is not a mapping", mend)]);
    };
    let mut faults = Vec::new();
    for key in fields.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let mend = match nearest(key, KEYS) {
            Some(near) => format!("did you mean `{near}`? known are kind, name, spec"),
            None => "known are kind, name, spec".to_owned(),
        };
        faults.push(fault(key, "unknown key", &mend));
    }
    let mut field = |name: &str| {
        let value = fields.remove(name);
        if value.is_none() {
            let what = format!("the key `{name}` is missing");
            faults.push(fault("", &what, &format!("add `{name}`")));
        }
        value
    };
    let (kind, name, spec) = (field("kind"), field("name"), field("spec"));
    let kind = kind.and_then(|kind| read_kind(&kind).map_err(|f| faults.push(f)).ok());
    let name = name.and_then(|name| {
        let read = name.as_str().ok_or(BadName).and_then(Name::new);
        read.map_err(|bad| faults.push(fault("name", "is not a name", &bad.to_string()))).ok()
    });
    let spec = spec.and_then(|spec| match spec {
        Value::Object(spec) => Some(Json(spec)),
        _ => {
            faults.push(fault("spec", "is not a mapping", "give the keys of the kind"));
            None
        }
    });
    // What is checked beside a wrong name is told all the same.
    let key = |kind| EntityKey::new(kind, name.clone().unwrap_or_else(unnamed));
    if let (Some(kind), Some(spec)) = (kind, &spec)
        && let Err(found) = check_spec(&key(kind), spec, check)
    {
        faults.extend(found.into_iter().map(|fault| {
            let dot = if fault.path.is_empty() { "" } else { "." };
            Fault { path: format!("spec{dot}{}", fault.path), ..fault }
        }));
    }
    match (kind, name, spec) {
        (Some(kind), Some(name), Some(spec)) if faults.is_empty() => {
            let key = EntityKey::new(kind, name);
            Ok((key, spec))
        }
        _ => Err(faults),
    }
}

/// Stands for the name of what has none.
fn unnamed() -> Name {
    Name::new("unnamed").expect("letters are a name")
}

/// Says everything that is wrong with a spec; secrets may be left out.
fn check_spec(key: &EntityKey, spec: &Json, check: DeepCheck) -> Result<(), Vec<Fault>> {
    let (spec, _) = key.kind.read(&key.kind.without_its_secrets(spec))?;
    check_new(&spec)?;
    check(key, &spec)
}

/// Writes into a route where each of its steps stands, for the faults of its runs.
fn add_source(json: &mut Json, file: &str, line: impl Fn(&str) -> usize) {
    let steps = json.0.get("steps").and_then(Value::as_array).map_or(0, Vec::len);
    let lines = (0..steps).map(|i| {
        let path = format!("steps[{i}]");
        let line = line(&format!("spec.{path}"));
        (path, u32::try_from(line).unwrap_or(u32::MAX))
    });
    let source = Source { file: file.to_owned(), lines: lines.collect() };
    let source = serde_json::to_value(source).expect("names and numbers are JSON");
    json.0.insert("source".to_owned(), source);
}

fn read_kind(kind: &Value) -> Result<Kind, Fault> {
    let text = kind.as_str().unwrap_or_default();
    let names = || Kind::ALL.iter().map(|kind| kind.as_str());
    Kind::parse(text).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        let mend = match nearest(text, names()) {
            Some(near) => format!("did you mean `{near}`? known are {known}"),
            None => format!("known are {known}"),
        };
        Fault::new("kind", "unknown kind", mend)
    })
}
