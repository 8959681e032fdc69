use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use ingest::registry;
use serde::{Deserialize, Serialize};

use super::shipped::{self, SHIPPED, Shipped};
use crate::detect::Detection;
use crate::entities::Entities;
use crate::query::{Fault, Plan, QueryFile, Reference, Sources};

/// The most query files of a node, and the most tables.
const FILES_MAX: usize = 500;

/// The continuous queries of a node.
#[derive(Debug, Clone)]
pub struct Library {
    /// Those that run, by name.
    queries: BTreeMap<String, Listed>,
    /// Shipped ones that do not run by themselves, but may be read.
    read: Vec<QueryFile>,
    sources: Sources,
    /// What of it is from the registry.
    given: Given,
}

/// What the registry has of queries, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The texts of the queries.
    pub queries: BTreeMap<String, String>,
    /// The tables to join with, as CSV.
    pub tables: BTreeMap<String, String>,
}

/// A query that is to run.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What it is.
    pub file: QueryFile,
    /// Where it is from.
    pub origin: Origin,
    /// Why it cannot run, as far as that is known without planning it.
    pub(super) fault: Option<Fault>,
}

/// Where a query is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It comes with Weir.
    #[default]
    Shipped,
    /// A file of the node's directory.
    Directory,
    /// An entity of the registry.
    Registry,
}

impl Origin {
    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Directory => "directory",
            Self::Registry => "registry",
        }
    }
}

/// What is wrong with query files.
#[derive(Debug)]
pub struct FileFaults(Vec<(PathBuf, Fault)>);

impl Library {
    /// Those of the shipped queries that are named, and the `*.sql` of a directory and its subdirectories `views`
    /// and `detections`, with the tables that are `*.csv` and `*.parquet` in `tables`. A file of the directory stands in for a shipped one of its name.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub async fn load(dir: Option<&Path>, shipped: &[String]) -> Result<Self, FileFaults> {
        let mut faults = Vec::new();
        let mut files: Vec<(Option<PathBuf>, QueryFile)> = Vec::new();
        for path in dir.map(|dir| list(dir, Kind::Queries)).transpose()?.unwrap_or_default() {
            match parse(&path) {
                Ok(file) => match files.iter().find(|(_, other)| other.name == file.name) {
                    None => files.push((Some(path), file)),
                    Some(_) => {
                        let what = format!("there are two queries called {}", file.name);
                        faults.push((path, Fault::of_file(what, "rename one of the files")));
                    }
                },
                Err(of_file) => {
                    faults.extend(of_file.into_iter().map(|fault| (path.clone(), fault)));
                }
            }
        }
        let of_dir: Vec<String> = files.iter().map(|(_, file)| file.name.clone()).collect();
        let others = SHIPPED.iter().filter(|of| of_dir.iter().all(|name| name != of.name));
        let (run, read): (Vec<_>, Vec<_>) = others
            .partition(|of| shipped.iter().any(|name| name == of.name || name == shipped::ALL));
        files.extend(run.into_iter().map(|of: &Shipped| (None, of.parsed())));
        // What does not run by itself may be read all the same.
        let read: Vec<QueryFile> = read.into_iter().map(Shipped::parsed).collect();
        let mut tables: Vec<Reference> = Vec::new();
        for path in dir.map(|dir| list(dir, Kind::Tables)).transpose()?.unwrap_or_default() {
            let named = |table: &Reference| {
                tables.iter().any(|other| other.name() == table.name())
                    || files.iter().any(|(_, file)| file.name == table.name())
                    || read.iter().any(|file| file.name == table.name())
            };
            match Reference::read(&path) {
                Ok(table) if named(&table) => {
                    let what = format!("there is another query or table called {}", table.name());
                    faults.push((path, Fault::of_file(what, "rename one of the files")));
                }
                Ok(table) => tables.push(table),
                Err(fault) => faults.push((path, fault)),
            }
        }
        tables.extend(Reference::of_registry(&Entities::default()));
        let sources = Sources::new(files.iter().map(|(_, file)| file).chain(&read), tables);
        for (path, file) in &files {
            if let Err(of_file) = can_run(file, &sources).await {
                // One that is shipped may read a view that another file stands in for.
                let shipped = || PathBuf::from(format!("{}.sql, which comes with Weir", file.name));
                let path = path.clone().unwrap_or_else(shipped);
                faults.extend(of_file.into_iter().map(|fault| (path.clone(), fault)));
            }
        }
        if !faults.is_empty() {
            return Err(FileFaults(faults));
        }
        let listed = |(path, file): (Option<PathBuf>, QueryFile)| {
            let origin = if path.is_some() { Origin::Directory } else { Origin::Shipped };
            (file.name.clone(), Listed { file, origin, fault: None })
        };
        let queries = files.into_iter().map(listed).collect();
        Ok(Self { queries, read, sources, given: Given::default() })
    }

    /// The same with what the registry gives, each of which stands in for a file of its name.
    #[must_use]
    pub fn with(&self, given: &Given) -> Self {
        let mut queries = self.queries.clone();
        for (name, text) in &given.queries {
            let (file, fault) = match QueryFile::parse(name, text) {
                Ok(file) => (file, None),
                // Another release has taken it, which reads it otherwise.
                Err(mut faults) => (QueryFile::unread(name, text), faults.pop()),
            };
            let mut of = Listed { file, origin: Origin::Registry, fault };
            if queries.len() >= FILES_MAX && !queries.contains_key(name) {
                let what = format!("{FILES_MAX} queries are there already");
                of.fault = Some(Fault::of_file(what, "remove one that is of no use"));
            }
            queries.insert(name.clone(), of);
        }
        let of_files = self.sources.tables().iter();
        let of_files = of_files.filter(|table| !given.tables.contains_key(table.name()));
        let mut tables: Vec<Reference> = of_files.cloned().collect();
        for (name, csv) in &given.tables {
            if tables.iter().filter(|table| table.entities().is_none()).count() >= FILES_MAX {
                tracing::error!(name, "a table too many: there are {FILES_MAX} already");
                continue;
            }
            match Reference::of_csv(name, csv) {
                Ok(table) => tables.push(table),
                // Another release has taken it, which reads it otherwise.
                Err(fault) => tracing::error!(name, %fault, "no table of the registry"),
            }
        }
        for (name, of) in &mut queries {
            if tables.iter().any(|table| table.name() == name) {
                let what = format!("there is a table called {name}");
                of.fault = Some(Fault::of_file(what, "give one of the two another name"));
            }
        }
        let read = self.read.iter().filter(|file| !queries.contains_key(&file.name));
        let read: Vec<QueryFile> = read.cloned().collect();
        let can_be_read = queries.values().filter(|of| of.fault.is_none()).map(|of| &of.file);
        let sources = Sources::new(can_be_read.chain(&read), tables);
        Self { queries, read, sources, given: given.clone() }
    }

    /// Notes why one of them cannot run.
    pub(super) fn refuse(&mut self, query: &str, fault: Fault) {
        if let Some(of) = self.queries.get_mut(query) {
            of.fault = Some(fault);
        }
    }

    /// What the registry gave.
    pub(super) fn given(&self) -> &Given {
        &self.given
    }

    /// All that are to run, by name.
    pub fn queries(&self) -> &BTreeMap<String, Listed> {
        &self.queries
    }

    /// Their files.
    pub fn files(&self) -> impl Iterator<Item = &QueryFile> {
        self.queries.values().map(|of| &of.file)
    }

    /// Plans one of them.
    ///
    /// # Errors
    /// Why it cannot run.
    pub(super) async fn plan(&self, of: &Listed) -> Result<Plan, String> {
        if let Some(fault) = &of.fault {
            return Err(fault.to_string());
        }
        let plan = Plan::new(of.file.clone(), &self.sources).await;
        let plan = plan.map_err(|fault| fault.to_string())?;
        let detection = Detection::of(&of.file, &plan.schema(), plan.order());
        detection.map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })?;
        Ok(plan)
    }

    /// The entities of the registry that they may be joined with.
    pub fn entities(&self) -> Entities {
        let mut tables = self.sources.tables().iter();
        tables.find_map(Reference::entities).expect("they were put among them").clone()
    }

    /// What they may read beside events.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Those that are no detections.
    pub fn views(&self) -> impl Iterator<Item = &QueryFile> {
        self.files().filter(|file| !file.is_detection())
    }
}

/// What is looked for in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Queries,
    Tables,
}

impl Kind {
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Queries => &["", "views", "detections"],
            Self::Tables => &["tables"],
        }
    }

    fn is_it(self, path: &Path) -> bool {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match self {
            Self::Queries => extension == "sql",
            Self::Tables => extension == "csv" || extension == "parquet",
        }
    }
}

fn list(dir: &Path, kind: Kind) -> Result<Vec<PathBuf>, FileFaults> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        let fault =
            Fault::of_file(format!("cannot be read: {error}"), "give a directory of .sql files");
        FileFaults(vec![(path.to_owned(), fault)])
    };
    let mut paths = Vec::new();
    for folder in kind.folders() {
        let dir = if folder.is_empty() { dir.to_owned() } else { dir.join(folder) };
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_empty() => continue,
            Err(error) => return Err(unreadable(&dir, &error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
            if kind.is_it(&path) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    if paths.len() > FILES_MAX {
        let what = format!(
            "{} files of {}",
            paths.len(),
            if kind == Kind::Queries { "queries" } else { "tables" }
        );
        let fault = Fault::of_file(what, format!("use at most {FILES_MAX}"));
        return Err(FileFaults(vec![(dir.to_owned(), fault)]));
    }
    Ok(paths)
}

fn parse(path: &Path) -> Result<QueryFile, Vec<Fault>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Fault::of_file(format!("cannot be read: {error}"), "name a file of SQL")]
    })?;
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    QueryFile::parse(name, &text)
}

/// Finds what is wrong with a query, as far as it can be known without the others: what it
/// reads that is no table here may be one among them.
///
/// # Errors
/// The faults, at `sql`.
pub(crate) fn check(name: &str, text: &str) -> Result<(), Vec<registry::Fault>> {
    let others = SHIPPED.iter().filter(|of| of.name != name);
    let others: Vec<QueryFile> = others.map(Shipped::parsed).collect();
    let tables = Reference::of_registry(&Entities::default()).collect();
    let sources = Sources::new(&others, tables);
    let found = QueryFile::parse(name, text).and_then(|file| {
        // What it is planned in is all in memory, so it waits for nothing.
        can_run(&file, &sources).now_or_never().unwrap_or_else(|| {
            let what = "cannot be planned now";
            Err(vec![Fault::of_file(what, "propose it again")])
        })
    });
    let Err(faults) = found else { return Ok(()) };
    // A view that it reads may be another one among the files.
    let is_over_a_view = !sources.views_in(text).is_empty();
    let faults: Vec<registry::Fault> = faults
        .into_iter()
        .filter(|fault| {
            let may_be_elsewhere =
                fault.lacks_a_table() || (is_over_a_view && fault.lacks_a_column());
            !may_be_elsewhere
        })
        .map(|fault| of_registry("sql", fault))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Finds what is wrong with a table.
///
/// # Errors
/// The fault, at `csv`.
pub(crate) fn check_table(name: &str, csv: &str) -> Result<(), Vec<registry::Fault>> {
    let is_query = SHIPPED.iter().any(|of| of.name == name);
    let found = match is_query {
        true => {
            let what = format!("there is a query called {name}, which comes with Weir");
            Err(Fault::of_file(what, "give the table another name"))
        }
        false => Reference::of_csv(name, csv).map(drop),
    };
    found.map_err(|fault| vec![of_registry("csv", fault)])
}

/// A fault of a text that is a field of an entity.
fn of_registry(field: &str, Fault { line, what, mend }: Fault) -> registry::Fault {
    let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    registry::Fault::new(field, format!("{at}{what}"), mend)
}

async fn can_run(file: &QueryFile, sources: &Sources) -> Result<(), Vec<Fault>> {
    let plan = Plan::new(file.clone(), sources).await.map_err(|fault| vec![fault])?;
    Detection::of(file, &plan.schema(), plan.order()).map(drop)
}

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, fault)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {fault}", path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for FileFaults {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn load(dir: &Path) -> Result<Library, FileFaults> {
        Library::load(Some(dir), &shipped::by_default()).await
    }

    #[tokio::test]
    async fn what_is_shipped_runs_where_it_is_named_and_a_file_stands_in_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let all = Library::load(None, &["all".to_owned()]).await.unwrap();
        assert_eq!(all.queries().len(), SHIPPED.len());
        let one = Library::load(None, &["silent_integration".to_owned()]).await.unwrap();
        let names: Vec<&str> = one.files().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["silent_integration"], "what it reads runs within it");
        let other = "-- title: other\n-- owner: o\nSELECT window_start, count(*) AS n FROM \
            TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start";
        std::fs::write(dir.path().join("scanner.sql"), other).unwrap();
        let none = Library::load(Some(dir.path()), &[]).await.unwrap();
        assert_eq!(none.queries().len(), 1);
        assert_eq!(none.files().next().unwrap().header.title, "other");
    }

    #[tokio::test]
    async fn only_a_missing_folder_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let shipped = load(dir.path()).await.unwrap();
        assert_eq!(shipped.queries().len(), shipped::by_default().len());
        std::fs::write(dir.path().join("detections"), "not a folder").unwrap();
        let error = load(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains("detections: ") && error.contains("cannot be read"), "{error}");
        let nowhere = dir.path().join("nowhere");
        let error = load(&nowhere).await.unwrap_err().to_string();
        assert!(error.contains("nowhere: "), "{error}");
    }

    #[tokio::test]
    async fn tables_are_read_and_what_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let tables = dir.path().join("tables");
        std::fs::create_dir(&tables).unwrap();
        let write = |name: &str, text: &str| std::fs::write(tables.join(name), text).unwrap();
        write("owners.csv", "address,owner,quota\n198.51.100.1,north,10\n");
        let joined = "-- title: a test\n-- owner: tests\nSELECT window_start, owner, \
            max(quota) AS quota FROM TUMBLE(events, event_time, INTERVAL '1 minute') \
            JOIN owners ON address = client_address GROUP BY 1, 2";
        std::fs::write(dir.path().join("by_owner.sql"), joined).unwrap();
        let library = load(dir.path()).await.unwrap();
        let names = || library.sources().tables().iter().map(Reference::name).collect::<Vec<_>>();
        assert_eq!(names().first(), Some(&"owners"));
        let hash = async |library: &Library| {
            let file = library.files().find(|file| file.name == "by_owner").unwrap();
            Plan::new(file.clone(), library.sources()).await.unwrap().hash().to_owned()
        };
        let before = hash(&library).await;
        write("owners.csv", "address,owner,quota\n198.51.100.1,south,10\n");
        let changed = load(dir.path()).await.unwrap();
        assert_ne!(hash(&changed).await, before, "a query over other rows is another query");

        for (name, text, expected) in [
            ("events.csv", "a\n1\n", "`events` is a table already"),
            ("Owners.csv", "a\n1\n", "`Owners` is no name of a table"),
            ("by_owner.csv", "a\n1\n", "another query or table called by_owner"),
            ("short.csv", "a,b\n1\n", "is no table: "),
            ("twice.csv", "a,a\n1,2\n", "line 1: `a` cannot be the name of a column"),
            ("bounds.csv", "window_start\n1\n", "`window_start` cannot be the name"),
            ("empty.csv", "", "has 0 columns, 1 to 200"),
            ("other.parquet", "no parquet", "is no table: "),
        ] {
            write(name, text);
            let told = load(dir.path()).await.unwrap_err().to_string();
            assert!(told.contains(name) && told.contains(expected), "{told}");
            std::fs::remove_file(tables.join(name)).unwrap();
        }
        let many = format!("a\n{}", "1\n".repeat(200_001));
        write("many.csv", &many);
        let told = load(dir.path()).await.unwrap_err().to_string();
        assert!(told.contains("has 200001 rows, at most 200000"), "{told}");
    }
}
