use std::path::Path;

use ingest::registry::files::{self, FileErrors};

use super::Board;

/// The boards that come with Weir.
const SHIPPED: &[(&str, &str)] = &[("traffic", include_str!("../../boards/traffic.yaml"))];

/// The boards of a console, by name.
#[derive(Debug, Clone)]
pub struct Library(Vec<Board>);

impl Library {
    /// The shipped boards, and the `*.yaml` of a directory, of which one stands in for a
    /// shipped one of its name.
    ///
    /// # Errors
    /// What is wrong with the first file that is.
    pub fn load(dir: Option<&Path>) -> Result<Self, FileErrors> {
        let mut boards = Vec::new();
        for (name, text) in SHIPPED {
            boards.push(Board::parse(name, name, text)?);
        }
        let Some(dir) = dir else { return Ok(Self(boards)) };
        let unreadable =
            |error: &std::io::Error| files::unreadable(&dir.display().to_string(), error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| unreadable(&error))? {
            paths.push(entry.map_err(|error| unreadable(&error))?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        for path in paths {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|e| files::unreadable(&file, &e))?;
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let board = Board::parse(name, &file, &text)?;
            boards.retain(|other| other.name != board.name);
            boards.push(board);
        }
        boards.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(boards))
    }

    /// All of them.
    pub fn boards(&self) -> &[Board] {
        &self.0
    }

    /// One by its name.
    pub fn board(&self, name: &str) -> Option<&Board> {
        self.0.iter().find(|board| board.name == name)
    }
}
