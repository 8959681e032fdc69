//! The examples of the documents are what the program takes.

use std::path::Path;

use crate::weir::Weir;

/// What a document cannot have with it: a file of the reader's, an entity or a hash.
const ELSEWHERE: [&str; 3] =
    ["No such file or directory", "does not exist; create it first", "is not a SHA-256 hash"];

/// The blocks of a document in a language that stand for themselves: a part of one that
/// was shown before is indented.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    let blocks = text.split(fence.as_str()).skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| !block.starts_with(' ')).collect()
}

/// The tables that a document shows, each by the name that it gave last before.
fn tables(text: &str) -> Vec<(&str, &str)> {
    let shown = blocks(text, "csv");
    let named = shown.into_iter().map(|block| {
        let before = &text[..block.as_ptr() as usize - text.as_ptr() as usize];
        let (_, name) = before.rsplit_once("DIR/tables/").unwrap();
        (&name[..name.find(".csv").unwrap() + ".csv".len()], block)
    });
    named.collect()
}

#[test]
fn the_examples_of_the_documents_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    documents.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|of| of.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    let (mut wrong, mut checked) = (Vec::new(), [0; 4]);
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut check = |kind: usize, block: &str, setting: Option<&'static str>, file: &str| {
            checked[kind] += 1;
            let mut weir = Weir::new();
            let dir = weir.write("examples", &[(file, block)]);
            weir.write("examples/tables", &tables(&text));
            let named = format!("{dir}/{file}");
            let (code, said) = match setting {
                Some(setting) => {
                    weir.set(setting, dir);
                    weir.run(&["check"])
                }
                None if kind == 0 => weir.run(&["check", &dir]),
                None => weir.run(&["check", "--config", &named]),
            };
            let is_elsewhere = |line: &str| ELSEWHERE.iter().any(|of| line.contains(of));
            if code != 0 && !said.lines().all(is_elsewhere) {
                wrong.push(format!("{}:\n{block}\n{said}", path.display()));
            }
        };
        for block in blocks(&text, "yaml") {
            let begins = |word| block.lines().any(|line: &str| line.starts_with(word));
            match block {
                _ if begins("kind:") => check(0, block, None, "a.yaml"),
                _ if begins("title:") => {
                    check(1, block, Some("WEIR_CONSOLE__BOARDS_DIR"), "a.yaml");
                }
                _ => check(2, block, None, "weir.yaml"),
            }
        }
        for block in blocks(&text, "sql") {
            if block.starts_with("-- ") {
                check(3, block, Some("WEIR_ANALYTICS__QUERIES_DIR"), "a.sql");
            }
        }
    }
    assert!(checked.iter().all(|of| *of > 0), "entities, boards, settings, queries: {checked:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
