//! Rules of the house that no compiler knows. Each says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A longer file has a second responsibility.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    // Asked at run time: a build may be shared by several clones.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let here = Path::new(&here);
    here.ancestors().nth(2).expect("the house stands two steps below the root").to_owned()
}

/// The files that git knows, with these endings, and their text.
fn files(endings: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("ask git for the files")?;
    let mut files = Vec::new();
    for name in String::from_utf8(listed.stdout)?.lines() {
        let path = root().join(name);
        if endings.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
            files.push((PathBuf::from(name), fs::read_to_string(path)?));
        }
    }
    assert!(!files.is_empty(), "git lists files with {endings:?}");
    Ok(files)
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// The features that were asked for: of each letter, how many.
const FEATURES: [(&str, usize); 9] =
    [("G", 10), ("K", 5), ("M", 4), ("E", 7), ("R", 6), ("A", 6), ("C", 6), ("D", 5), ("O", 5)];

/// The names of all tests: functions that are marked so, and those that a test program of
/// its own has in a list of cases, or names where it makes one.
fn tests() -> Result<BTreeSet<String>> {
    let (mut tests, mut listed, mut functions) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let name_of = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
    for (_, text) in files(&[".rs"])? {
        let (mut is_marked, has_cases) = (false, text.contains("fn cases("));
        for line in text.lines().map(str::trim) {
            let mark = line.trim_start_matches("#[").trim_start_matches("tokio::");
            is_marked |= line.starts_with("#[") && mark.starts_with("test");
            if let Some((_, rest)) = line.split_once("fn ") {
                let function = name_of(rest);
                if is_marked {
                    tests.insert(function.clone());
                }
                functions.insert(function);
                is_marked = false;
            } else if line.ends_with(',') && !line.contains('(') {
                let names = line.rsplit(": ").next().unwrap_or(line).split(',');
                listed.extend(names.map(|name| name.trim().to_owned()));
            }
            // A case is a name with what it runs.
            for case in ["Trial::test(\"", "(\""] {
                let Some((before, rest)) = line.split_once(case) else { continue };
                let is_pair = before.is_empty() || before.ends_with("push(") || before == "vec![";
                if case.len() > 2 || has_cases && is_pair {
                    let name = rest.split('"').next().and_then(|name| name.rsplit("::").next());
                    tests.extend(name.map(str::to_owned));
                }
            }
        }
    }
    tests.extend(listed.intersection(&functions).cloned());
    Ok(tests)
}

#[test]
fn a_test_that_proves_a_feature_exists() -> Result<()> {
    let features = fs::read_to_string(root().join("docs/features.md"))?;
    let tests_there = tests()?;
    let mut missing = Vec::new();
    let mut ids = Vec::new();
    for row in features.lines().filter(|line| line.starts_with("| ") && !line.contains("| id |")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" |").map(str::trim).collect();
        let [id, state, tests] = cells[..] else { continue };
        if id.starts_with('-') {
            continue;
        }
        ids.push(id.to_owned());
        let is_known = ["works", "not yet"].contains(&state) || state.starts_with("in part: ");
        if !is_known || (state == "not yet") != tests.is_empty() {
            missing.push(format!("{id}: state {state:?} with tests {tests:?}"));
        }
        for name in tests.split('`').skip(1).step_by(2) {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests_there.contains(function) && !tests_there.contains(name) {
                missing.push(format!("{id}: there is no test {name}"));
            }
        }
    }
    let asked =
        FEATURES.iter().flat_map(|(of, count)| (1..=*count).map(move |n| format!("{of}{n}")));
    assert_eq!(ids, asked.collect::<Vec<_>>(), "the rows of docs/features.md");
    assert_none("docs/features.md says what is not so", &missing);
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    for (name, text) in files(&[".md"])? {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let from = name.parent().unwrap_or(Path::new(""));
            if !root().join(from).join(target).exists() {
                broken.push(format!("{}: {link}", name.display()));
            }
        }
    }
    assert_none("these links lead nowhere", &broken);
    Ok(())
}

#[test]
fn a_file_has_one_responsibility() -> Result<()> {
    let long = |(name, text): (PathBuf, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", name.display()))
    };
    let found: Vec<_> = files(&[".rs"])?.into_iter().filter_map(long).collect();
    assert_none("find the second responsibility in each of these, and give it a file", &found);
    Ok(())
}

#[test]
fn every_test_runs_and_nothing_is_left_to_do() -> Result<()> {
    // Written so that this file does not contain them.
    let forbidden =
        [concat!("#[ign", "ore"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut found = Vec::new();
    for (name, text) in files(&[".rs"])? {
        for (number, line) in text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", name.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none("finish these, or take them out", &found);
    Ok(())
}

/// Each crate that cargo would build, with the features it would be built with.
fn crates(selected: &[&str]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let cargo = std::env::var("CARGO").context("cargo says where it is")?;
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}|{f}"])
        .args(selected)
        .current_dir(root())
        .output()
        .context("ask cargo for the crates")?;
    let text = String::from_utf8(tree.stdout)?;
    let mut crates = BTreeMap::<_, BTreeSet<_>>::new();
    for line in text.lines().filter(|line| !line.contains(&root().display().to_string())) {
        if let Some((name, features)) = line.trim_end_matches(" (*)").split_once('|') {
            crates.entry(name.to_owned()).or_default().insert(features.to_owned());
        }
    }
    let said = String::from_utf8_lossy(&tree.stderr);
    assert!(crates.len() > 300, "cargo tree lists {} crates; {said}", crates.len());
    Ok(crates)
}

#[test]
fn the_program_and_its_tests_share_one_build() -> Result<()> {
    let program = ["--package", "weir", "--package", "features", "--edges", "normal,build"];
    let tests = crates(&["--workspace", "--edges", "normal,build,dev"])?;
    let differs = |(name, features): (String, BTreeSet<String>)| {
        let of_tests = tests.get(&name)?;
        (*of_tests != features).then(|| format!("{name}: {of_tests:?}, not {features:?}"))
    };
    let found: Vec<_> = crates(&program)?.into_iter().filter_map(differs).collect();
    assert_none("let tests/features switch on what the tests switch on in these", &found);
    Ok(())
}
