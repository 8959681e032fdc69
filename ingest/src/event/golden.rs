//! Checked-in files that tests compare with what the code makes, and renew on demand.

use std::path::Path;

/// Compares a file, named from the crate's folder, with what it should hold.
/// With `WEIR_REGENERATE=1` writes it instead.
#[track_caller]
pub(super) fn check(file: &str, expected: &str) {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(file);
    if regenerating() {
        let folder = path.parent().expect("a golden file lies in a folder");
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = read(file);
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count() + 1;
    assert!(
        found == expected,
        "ingest/{file} is not what the code makes, from line {line} on; \
         run WEIR_REGENERATE=1 cargo test -p ingest and review the difference"
    );
}

/// The file as it is; empty if there is none.
pub(super) fn read(file: &str) -> String {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(file);
    std::fs::read_to_string(path).unwrap_or_default()
}

fn regenerating() -> bool {
    std::env::var_os("WEIR_REGENERATE").is_some_and(|value| value == "1")
}
