use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::detect::Detection;
use crate::query::{Fault, Plan, QueryFile, Sources};

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
    sources: Sources,
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
        let mut files: Vec<(Option<PathBuf>, QueryFile)> = Vec::new();
        for path in dir.map(list).transpose()?.unwrap_or_default() {
            match read(&path) {
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
        for (name, text) in SHIPPED {
            if files.iter().all(|(_, file)| file.name != *name) {
                files.push((None, QueryFile::parse(name, text).expect("its header is tested")));
            }
        }
        let sources = Sources::of(files.iter().map(|(_, file)| file));
        for (path, file) in &files {
            if let (Some(path), Err(of_file)) = (path, can_run(file, &sources).await) {
                faults.extend(of_file.into_iter().map(|fault| (path.clone(), fault)));
            }
        }
        if !faults.is_empty() {
            return Err(FileFaults(faults));
        }
        let mut files: Vec<QueryFile> = files.into_iter().map(|(_, file)| file).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { files, sources })
    }

    /// All queries, by name.
    pub fn files(&self) -> &[QueryFile] {
        &self.files
    }

    /// What they may read beside events.
    pub fn sources(&self) -> &Sources {
        &self.sources
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

fn read(path: &Path) -> Result<QueryFile, Vec<Fault>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Fault::of_file(format!("cannot be read: {error}"), "name a file of SQL")]
    })?;
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    QueryFile::parse(name, &text)
}

async fn can_run(file: &QueryFile, sources: &Sources) -> Result<(), Vec<Fault>> {
    let plan = Plan::new(file.clone(), sources).await.map_err(|fault| vec![fault])?;
    Detection::of(file, &plan.schema()).map(drop)
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
