//! Bad files and what is said of them: `bad/NAME.yaml` and `bad/NAME.txt`.
//! `WEIR_BLESS=1` writes the texts anew, to be reviewed as a diff.

use std::path::{Path, PathBuf};

use super::*;
use crate::registry::kind::Key;
use crate::registry::{Change, ChangeSet, Snapshot, judge, no_deep_check};

fn bad_dir() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/registry/files/bad")
}

#[test]
fn every_bad_file_is_refused_in_its_words() {
    let mut cases = 0;
    for entry in std::fs::read_dir(bad_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "yaml") {
            continue;
        }
        cases += 1;
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        let found = format!(
            "{}\n",
            load(dir.path(), no_deep_check).expect_err(&path.display().to_string())
        );
        assert!(!found.contains("hush"), "{}: {found}", path.display());
        let expected = path.with_extension("txt");
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found, expected, "{}", path.display());
    }
    assert!(cases >= 16, "{cases} cases");
}

const PEM: &str =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\\nhush\\n-----END ENCRYPTED PRIVATE KEY-----";

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn change_set(plan: &Plan) -> ChangeSet {
    plan.change_set("s".parse().unwrap(), "a".to_owned(), "m".to_owned())
}

fn apply(plan: &Plan, now: &Snapshot) -> Snapshot {
    assert_eq!(plan.refusals(now), []);
    judge::judge(now, &change_set(plan), no_deep_check)
        .map(|judged| judged.next)
        .unwrap_or_else(|_| panic!())
}

#[test]
fn a_directory_is_planned_applied_and_then_as_wanted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tiers.yml", "kind: tier\nname: gold\nspec: {burst_requests_max: 5}\n---\n");
    let upstream = "kind: upstream\nname: orders\nspec:\n  targets: [{url: 'http://a'}]\n";
    write(dir.path(), "apis/orders.yaml", upstream);
    let key = format!(
        "kind: key\nname: k1\nspec: {{algorithm: es256, state: active, private_key_pem: \"{PEM}\"}}\n"
    );
    write(dir.path(), "key.yaml", &key);
    write(dir.path(), "notes.txt", "not: [yaml");
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let place = &wanted.entities.values().last().unwrap().1;
    assert_eq!(place.to_string(), "apis/orders.yaml:1:1");

    let first = plan(&wanted, &Snapshot::default(), Missing::Keep);
    assert_eq!(
        first.to_string(),
        "+ key/k1\n+ tier/gold\n+ upstream/orders\n\
         3 to create, 0 to change, 0 to remove, 0 unchanged"
    );
    let now = apply(&first, &Snapshot::default());
    assert!(plan(&wanted, &now, Missing::Remove).is_empty());

    write(dir.path(), "tiers.yml", "");
    write(
        dir.path(),
        "apis/orders.yaml",
        &upstream.replace("'}]", "', weight: 2}, {url: 'http://b'}]"),
    );
    write(dir.path(), "key.yaml", &key.replace("active", "next").replace("hush", "hush2"));
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let second = plan(&wanted, &now, Missing::Remove);
    assert_eq!(
        second.to_string(),
        "~ key/k1 (version 1)\n    \
             private_key_pem: \"[hidden]\" -> \"[hidden]\"\n    \
             state: \"active\" -> \"next\"\n\
         - tier/gold (version 1)\n\
         ~ upstream/orders (version 1)\n    \
             targets[0].weight: (none) -> 2\n    \
             targets[1]: (none) -> {\"url\":\"http://b\"}\n\
         0 to create, 2 to change, 1 to remove, 0 unchanged"
    );
    for shown in [
        serde_json::to_string(&second).unwrap(),
        format!("{second:?} {:?} {now:?}", change_set(&second)),
    ] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    let now = apply(&second, &now);
    assert!(plan(&wanted, &now, Missing::Remove).is_empty());

    // Keys do not go because no file speaks of them.
    let nothing = plan(&Wanted::default(), &now, Missing::Remove);
    assert!(nothing.to_string().ends_with("0 to create, 0 to change, 1 to remove, 1 unchanged"));
    assert!(matches!(change_set(&nothing).changes[..], [Change::Remove { .. }]));
    assert!(plan(&Wanted::default(), &now, Missing::Keep).is_empty());

    // Without its secret in the file it is as it was but for what the file says; retired, it
    // may go.
    let retired = "kind: key\nname: k1\nspec: {algorithm: es256, state: retired}\n";
    write(dir.path(), "key.yaml", retired);
    let rotated = plan(&load(dir.path(), no_deep_check).unwrap(), &now, Missing::Keep);
    let expected = "~ key/k1 (version 2)\n    state: \"next\" -> \"retired\"\n";
    assert!(rotated.to_string().contains(expected), "{rotated}");
    let now = apply(&rotated, &now);
    assert!(now.get::<Key>(&"k1".parse().unwrap()).unwrap().is_encrypted());
    let nothing = plan(&Wanted::default(), &now, Missing::Remove);
    assert!(nothing.to_string().ends_with("0 to create, 0 to change, 2 to remove, 0 unchanged"));
}

#[test]
fn a_plan_tells_beforehand_what_would_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "kind: application\nname: shop\nspec: {owner: me, tier: gold}\n";
    write(dir.path(), "shop.yaml", text);
    let plan = plan(&load(dir.path(), no_deep_check).unwrap(), &Snapshot::default(), Missing::Keep);
    let refusals = plan.refusals(&Snapshot::default());
    assert_eq!(
        refusals[0].to_string(),
        "application/shop: tier: tier/gold does not exist; create it first, or in the same set"
    );
}

/// As Kubernetes mounts a ConfigMap: every file a link through a hidden directory.
#[test]
#[cfg(unix)]
fn a_mount_of_links_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name));
    write(
        dir.path(),
        "..2026/tiers.yaml",
        "kind: tier\nname: gold\nspec: {burst_requests_max: 5}\n",
    );
    write(
        dir.path(),
        "..2026/more/tiers.yaml",
        "kind: tier\nname: silver\nspec: {burst_requests_max: 5}\n",
    );
    link("..2026", "..data").unwrap();
    link("..data/tiers.yaml", "tiers.yaml").unwrap();
    link("..data/more", "more").unwrap();
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let places: Vec<_> = wanted.entities.values().map(|(_, place)| place.to_string()).collect();
    assert_eq!(places, ["tiers.yaml:1:1", "more/tiers.yaml:1:1"]);

    link("nowhere.yaml", "lost.yaml").unwrap();
    let found = load(dir.path(), no_deep_check).unwrap_err().to_string();
    assert!(found.starts_with("lost.yaml: cannot be read: "), "{found}");
}

#[test]
#[cfg(unix)]
fn links_in_a_circle_come_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::os::unix::fs::symlink(".", dir.path().join(name)).unwrap();
    }
    let found = load(dir.path(), no_deep_check).unwrap_err().to_string();
    assert!(found.contains("is too deep") && found.contains("one directory too many"), "{found}");
}

/// Else a wrong path would plan the removal of everything.
#[test]
fn a_directory_without_a_file_is_not_the_wish_to_have_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "notes.txt", "");
    let found = load(dir.path(), no_deep_check).unwrap_err().to_string();
    let expected = format!("{}: holds no .yaml, .yml or .sql file; ", dir.path().display());
    assert!(found.starts_with(&expected), "{found}");
    write(dir.path(), "nothing.yaml", "");
    assert_eq!(load(dir.path(), no_deep_check), Ok(Wanted::default()));
}

const API: &str =
    "kind: api\nname: orders\nspec:\n  context: /orders\n  version: '1'\n  upstream: orders\n";

#[test]
fn an_api_takes_its_resources_from_its_document() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "apis/orders.yaml", &format!("{API}  openapi: ../docs/orders.yaml\n"));
    let document = "openapi: 3.1.0\ninfo: {title: A, version: '1'}\npaths:\n  /all:\n    \
                    get: {operationId: getOrders}\n";
    write(dir.path(), "docs/orders.yaml", document);
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let (json, _) = wanted.entities.values().next().unwrap();
    let expected =
        serde_json::json!([{"methods": ["GET"], "path": "/all", "operation": "getOrders"}]);
    assert_eq!((wanted.entities.len(), &json.0["resources"]), (1, &expected));
    assert!(!json.0.contains_key("openapi"));
}

#[test]
fn a_bad_document_of_an_api_is_told_in_its_own_place() {
    let check = |openapi: &str, document: &str, expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "orders.yaml", &format!("{API}  openapi: {openapi}\n"));
        write(dir.path(), "orders.openapi.yaml", document);
        assert_eq!(
            load(dir.path(), no_deep_check).unwrap_err().to_string(),
            expected,
            "{document:.40}"
        );
    };
    let info = "openapi: 3.1.0\ninfo: {title: A, version: '1'}\n";
    let document = &format!("{info}paths: {{}}\n");
    check(
        "orders.openapi.yaml",
        document,
        "orders.openapi.yaml:3:1: paths: holds no operation; give at least one path and method",
    );
    check(
        "orders.openapi.yaml",
        &format!(
            "{info}paths:\n  /a b:\n    get: {{}}\n  /{{x}}:\n    parameters: [{x}]\n    \
             get: {{}}\n    put: {{}}\n  /{{y}}:\n    parameters: [{y}]\n    get: {{}}\n",
            x = "{name: x, in: path, required: true}",
            y = "{name: y, in: path, required: true}",
        ),
        "orders.openapi.yaml:5:5: paths./a b.get: holds one of ? # % \\ or a space; give the path \
         alone, not encoded\n\
         orders.openapi.yaml:12:5: paths./{y}.get: stands for the same requests as /{x}; leave \
         out one of the two",
    );
    // Once, though it lies among the files.
    check(
        "orders.openapi.yaml",
        "{\"openapi\": \"3.1.0\", \"info\": [}",
        "orders.openapi.yaml:1:31: did not find expected node content; mend the YAML or JSON",
    );
    check(
        "orders.openapi.yaml",
        &format!("{document}{}", " ".repeat(16 * 1024 * 1024)),
        "orders.yaml:7:3: spec.openapi: cannot be read: 16777272 bytes, of at most 16777216; \
         name a document that is there, small enough, and UTF-8",
    );
    check(
        "missing.yaml",
        document,
        "orders.yaml:7:3: spec.openapi: cannot be read: No such file or directory (os error 2); \
         name a document that is there, small enough, and UTF-8",
    );
    check(
        "../orders.openapi.yaml",
        document,
        "orders.yaml:7:3: spec.openapi: leads out of the directory; name a file of the \
         configuration's directory",
    );
    check(
        "{a: b}",
        document,
        "orders.yaml:7:3: spec.openapi: is not a file's name; name the document, a file beside \
         this one",
    );
}

/// As the queries of a directory lie there.
#[test]
fn a_file_of_sql_is_the_query_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "queries/errors.sql", "-- title: a\nSELECT 1\n");
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let (key, (json, place)) = wanted.entities.iter().next().unwrap();
    assert_eq!((key.to_string().as_str(), wanted.entities.len()), ("query/errors", 1));
    assert_eq!(json.0["sql"], "-- title: a\nSELECT 1\n");
    assert_eq!(place.to_string(), "queries/errors.sql:1:1");

    write(dir.path(), "queries/tables/owners.csv", "app,owner\nshop,north\n");
    write(dir.path(), "report.csv", "is none");
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let keys: Vec<String> = wanted.entities.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["query/errors", "table/owners"]);
    let clash = "kind: table\nname: errors\nspec: {csv: a}\n";
    write(dir.path(), "clash.yaml", clash);
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let plan = plan(&wanted, &Snapshot::default(), Missing::Keep);
    let refusals = plan.refusals(&Snapshot::default());
    let expected = "table/errors: the table errors is claimed by query/errors too; give one of \
                    them another name, or remove it";
    assert_eq!(refusals.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    std::fs::remove_file(dir.path().join("clash.yaml")).unwrap();

    write(dir.path(), "other.yaml", "kind: query\nname: errors\nspec: {sql: SELECT 2}\n");
    write(dir.path(), "Own Name.sql", "SELECT 1");
    write(dir.path(), "long.sql", &" ".repeat(65_537));
    let found = load(dir.path(), no_deep_check).unwrap_err().to_string();
    let expected = "queries/errors.sql:1:1: query/errors is also at other.yaml:1:1; remove one of \
                    them";
    assert!(found.contains("Own Name.sql: \"Own Name\" is not a name; "), "{found}");
    assert!(found.contains("long.sql: has 65537 bytes; use up to 65536"), "{found}");
    assert!(found.contains(expected), "{found}");
    let refuse: crate::registry::DeepCheck = |key, _| {
        Err(vec![crate::registry::Fault::new("sql", format!("{}: line 3: no", key.name), "mend")])
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.sql", "SELECT 1");
    let found = load(dir.path(), refuse).unwrap_err().to_string();
    assert_eq!(found, "a.sql: a: line 3: no; mend");
}

#[test]
fn a_route_knows_where_its_steps_stand_and_is_checked_by_its_role() {
    let dir = tempfile::tempdir().unwrap();
    let route = "kind: route\nname: r\nspec:\n  from: {http: {methods: [GET], path: /r}}\n  \
                 steps:\n  - respond: {}\n  # why\n  - {id: x, fault: {}}\n";
    write(dir.path(), "routes/r.yaml", route);
    let wanted = load(dir.path(), no_deep_check).unwrap();
    let (json, _) = wanted.entities.values().next().unwrap();
    let source =
        serde_json::json!({"file": "routes/r.yaml", "lines": {"steps[0]": 6, "steps[1]": 8}});
    assert_eq!(json.0["source"], source);
    let refuse: crate::registry::DeepCheck = |_, _| {
        Err(vec![crate::registry::Fault::new("steps[1].fault", "is empty", "give a message")])
    };
    let found = load(dir.path(), refuse).unwrap_err().to_string();
    assert_eq!(found, "routes/r.yaml:8:13: spec.steps[1].fault: is empty; give a message");
}
