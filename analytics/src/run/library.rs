use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::detect::Detection;
use crate::query::{Fault, Plan, QueryFile};

/// The queries that run wherever nobody says otherwise: name and text.
const SHIPPED: &[(&str, &str)] = &[
    ("client_out_of_range", include_str!("../../../queries/detections/client_out_of_range.sql")),
    ("traffic_by_api_minute", include_str!("../../../queries/views/traffic_by_api_minute.sql")),
];

/// The most query files of a node.
const FILES_MAX: usize = 500;

/// The continuous queries of a node, each of which can run.
#[derive(Debug)]
pub struct Library {
    files: Vec<QueryFile>,
}

/// What is wrong with query files.
#[derive(Debug)]
pub struct FileFaults(Vec<(PathBuf, Fault)>);

impl Library {
    /// The shipped queries, and the `*.sql` of a directory and its subdirectories `views`
    /// and `detections`. A file of the directory stands in for a shipped one of its name.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub async fn load(dir: Option<&Path>) -> Result<Self, FileFaults> {
        let mut faults = Vec::new();
        let mut files: Vec<QueryFile> = Vec::new();
        for path in dir.map(list).transpose()?.unwrap_or_default() {
            match load(&path).await {
                Ok(file) => match files.iter().find(|other| other.name == file.name) {
                    None => files.push(file),
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
        for (name, text) in SHIPPED {
            if files.iter().all(|file| file.name != *name) {
                let file = QueryFile::parse(name, text).expect("its header is tested");
                files.push(file);
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if faults.is_empty() { Ok(Self { files }) } else { Err(FileFaults(faults)) }
    }

    /// All queries, by name.
    pub fn files(&self) -> &[QueryFile] {
        &self.files
    }

    /// Those that are no detections.
    pub fn views(&self) -> impl Iterator<Item = &QueryFile> {
        self.files.iter().filter(|file| !file.is_detection())
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, FileFaults> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        let fault =
            Fault::of_file(format!("cannot be read: {error}"), "give a directory of .sql files");
        FileFaults(vec![(path.to_owned(), fault)])
    };
    let mut paths = Vec::new();
    let folders =
        [(dir.to_owned(), true), (dir.join("views"), false), (dir.join("detections"), false)];
    for (dir, is_needed) in folders {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && !is_needed => continue,
            Err(error) => return Err(unreadable(&dir, &error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    if paths.len() > FILES_MAX {
        let what = format!("{} query files", paths.len());
        let fault = Fault::of_file(what, format!("use at most {FILES_MAX}"));
        return Err(FileFaults(vec![(dir.to_owned(), fault)]));
    }
    Ok(paths)
}

/// Reads a query file, and sees whether it can run.
///
/// # Errors
/// What is wrong with it.
pub async fn load(path: &Path) -> Result<QueryFile, Vec<Fault>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Fault::of_file(format!("cannot be read: {error}"), "name a file of SQL")]
    })?;
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let file = QueryFile::parse(name, &text)?;
    let plan = Plan::new(file).await.map_err(|fault| vec![fault])?;
    Detection::of(plan.file(), &plan.schema())?;
    Ok(plan.file().clone())
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

    #[tokio::test]
    async fn only_a_missing_folder_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let shipped = Library::load(Some(dir.path())).await.unwrap();
        assert_eq!(shipped.files().len(), SHIPPED.len());
        std::fs::write(dir.path().join("detections"), "not a folder").unwrap();
        let error = Library::load(Some(dir.path())).await.unwrap_err().to_string();
        assert!(error.contains("detections: ") && error.contains("cannot be read"), "{error}");
        let nowhere = dir.path().join("nowhere");
        let error = Library::load(Some(&nowhere)).await.unwrap_err().to_string();
        assert!(error.contains("nowhere: "), "{error}");
    }
}
