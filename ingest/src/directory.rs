//! Directories that settings name.

use std::fs::File;
use std::path::Path;

/// Why a directory cannot be had, or be written in by this user, in words for whoever named it;
/// none if it can. Nothing is made by asking but, for a moment, an empty file.
pub fn not_to_be_had(directory: &Path) -> Option<String> {
    let there = directory.ancestors().find(|of| of.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    if !there.is_dir() {
        return Some(format!("{} is no directory", there.display()));
    }
    // Whether this user may write there the system says alone.
    let probe = there.join(format!(".weir-probe-{}", std::process::id()));
    let made = File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
    made.err().map(|error| format!("nothing can be written in {}: {error}", there.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_there_or_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for good in ["", "new", "new/deep"] {
            assert_eq!(not_to_be_had(&dir.path().join(good)), None);
        }
        for bad in [&file, &file.join("below")] {
            let told = not_to_be_had(bad).unwrap();
            assert_eq!(told, format!("{} is no directory", file.display()));
        }
        assert!(not_to_be_had(Path::new("/proc/lake")).unwrap().contains("in /proc: "));
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is made");
    }
}
