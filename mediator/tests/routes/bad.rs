//! What is said of routes that are wrong: golden files, written anew with
//! `WEIR_REGENERATE=1`.

use std::path::Path;

use ingest::registry::files;

#[test]
fn bad_routes_are_refused_with_file_line_and_column() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routes/bad");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".yaml").map(ToOwned::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let alone = tempfile::tempdir().unwrap();
        let file = format!("{name}.yaml");
        std::fs::copy(dir.join(&file), alone.path().join(&file)).unwrap();
        let found = files::load(alone.path(), mediator::deep_check).unwrap_err().to_string() + "\n";
        let golden = dir.join(format!("{name}.txt"));
        if std::env::var_os("WEIR_REGENERATE").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&golden).unwrap(), "{name}");
    }
}
