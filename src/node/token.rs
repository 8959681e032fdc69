use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The shortest, in characters.
const LENGTH_MIN: usize = 32;

/// What opens the APIs of a node, or what its replays are believed by: made at the first
/// start, in a file that only its owner can read.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) file: PathBuf,
    /// Whether it was made just now.
    pub(crate) is_new: bool,
}

impl Token {
    /// Reads the token of a file, or makes one.
    pub(crate) fn of(file: PathBuf) -> Result<Self> {
        match std::fs::exists(&file) {
            Ok(false) => Ok(Self { is_new: true, ..Self::checked(make(&file)?, file)? }),
            _ => Self::read(&file),
        }
    }

    /// Reads a token that somebody made.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("read {}", file.display()))?;
        Self::checked(text.trim().to_owned(), file.to_owned())
    }

    fn checked(text: String, file: PathBuf) -> Result<Self> {
        if text.len() < LENGTH_MIN {
            bail!("{} holds no token of {LENGTH_MIN} characters or more", file.display());
        }
        Ok(Self { text, file, is_new: false })
    }
}

/// Whole or not at all: a token that was half written would lock everybody out.
pub(super) fn make(file: &Path) -> Result<String> {
    let token = gateway::keys::new_token();
    let draft = file.with_extension("draft");
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut draft_file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(draft_file, "{token}")?;
        draft_file.sync_all()?;
        std::fs::rename(&draft, file)
    };
    write().with_context(|| format!("write {}", file.display()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let first = Token::of(file.clone()).unwrap();
        let mode = std::fs::metadata(&first.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Token::of(file.clone()).unwrap();
        assert_eq!((again.text == first.text, first.is_new, again.is_new), (true, true, false));
        std::fs::write(&first.file, "short\n").unwrap();
        assert!(Token::of(file.clone()).is_err());
    }
}
