use super::judge::judge;
use super::{Change, ChangeSet, EntityKey, Json, Outcome, Snapshot, Verdict, no_deep_check};

pub(super) const PEM: &str =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\\nhush\\n-----END ENCRYPTED PRIVATE KEY-----";

/// Reads changes, one a line: `+ kind/name spec`, `N kind/name spec` on version
/// N, `-N kind/name`.
pub(super) fn set(changes: &str) -> ChangeSet {
    set_called("s", changes)
}

pub(super) fn set_called(id: &str, changes: &str) -> ChangeSet {
    let change = |line: &str| {
        let mut words = line.trim().splitn(3, ' ');
        let (expected, key) = (words.next().unwrap(), words.next().unwrap());
        let EntityKey { kind, name } = EntityKey::parse(key).unwrap();
        match (expected.parse::<i64>(), words.next()) {
            (Ok(expected), None) => {
                Change::Remove { kind, name, expected: expected.unsigned_abs() }
            }
            (expected, spec) => Change::Put {
                kind,
                name,
                expected: expected.ok().map(i64::unsigned_abs),
                spec: Json(serde_json::from_str(spec.unwrap()).unwrap()),
            },
        }
    };
    let changes = changes.lines().filter(|line| !line.trim().is_empty()).map(change).collect();
    ChangeSet { id: id.parse().unwrap(), author: "a".into(), message: "m".into(), changes }
}

pub(super) fn base() -> Snapshot {
    let base = r#"
        + tier/gold {"burst_requests_max": 5}
        + upstream/orders {"targets": [{"url": "http://a"}]}
        + application/shop {"owner": "me"}
        + api/orders {"context": "/o", "version": "v1", "upstream": "orders", "tiers": ["gold"], "resources": [{"methods": ["GET"], "path": "/"}]}
        + subscription/s1 {"api": "orders", "application": "shop", "tier": "gold"}
    "#;
    judge(&Snapshot::default(), &set(base), no_deep_check)
        .map(|judged| judged.next)
        .unwrap_or_else(|refusals| panic!("{}", refusals[0]))
}

/// What is said of changes on the base; nothing if they are accepted.
fn check(changes: &str, expected: &[&str]) {
    let found = match judge(&base(), &set(changes), no_deep_check) {
        Ok(_) => Vec::new(),
        Err(refusals) => refusals.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{changes}");
    assert!(!format!("{found:?} {:?}", set(changes)).contains("hush"));
}

#[test]
fn a_change_is_made_on_the_version_that_it_names_only() {
    check(r#"1 tier/gold {"burst_requests_max": 6}"#, &[]);
    check(
        r#"+ tier/gold {"burst_requests_max": 6}"#,
        &["tier/gold: exists, in version 1; expect version 1"],
    );
    check(
        r#"2 tier/gold {"burst_requests_max": 6}"#,
        &[
            "tier/gold: is in version 1; expected was 2; somebody changed it: read it again and propose anew",
        ],
    );
    check(
        "-1 tier/silver",
        &[
            "tier/silver: does not exist; expected was version 1; leave out the expected version to create it",
        ],
    );
    check(
        "-1 subscription/s1\n-1 subscription/s1",
        &["subscription/s1: changed twice; change each entity once per set"],
    );
    check("", &["change set: changes: 0 entries; give 1 to 1000"]);
}

#[test]
fn nothing_refers_to_what_is_not_there() {
    check(
        r#"+ subscription/s2 {"api": "ghost", "application": "shop", "tier": "gold"}"#,
        &["subscription/s2: api: api/ghost does not exist; create it first, or in the same set"],
    );
    check(
        "-1 upstream/orders",
        &[
            "upstream/orders: api/orders still refers to it, at upstream; change or remove api/orders first, or in the same set",
        ],
    );
    check("-1 subscription/s1\n-1 api/orders\n-1 upstream/orders", &[]);
    check(
        r#"
        + subscription/s2 {"api": "orders", "application": "new", "tier": "gold"}
        + application/new {"owner": "me"}
        "#,
        &[],
    );
}

#[test]
fn two_entities_do_not_claim_one_path() {
    let api = |name: &str, more: &str| {
        format!(
            r#"+ api/{name} {{"context": "/b", "version": "v1", "upstream": "orders", "lifecycle": "published", "resources": [{{"methods": ["GET"], "path": "/"}}] {more}}}"#
        )
    };
    let route = |name: &str, methods: &str, path: &str| {
        format!(
            r#"+ route/{name} {{"from": {{"http": {{"methods": [{methods}], "path": "{path}"}}}}, "steps": [{{"respond": {{}}}}], "source": {{"file": "{name}.yaml", "lines": {{}}}}}}"#
        )
    };
    check(
        &[api("b1", ""), api("b2", "")].join("\n"),
        &[
            "api/b2: context: /b/v1 is claimed by api/b1 too; give one of them another path, or remove it",
        ],
    );
    let default = |version: &str| format!(r#", "version": "{version}", "default_version": true"#);
    let default = |name: &str, version: &str| {
        api(name, &default(version)).replacen(r#""version": "v1", "#, "", 1)
    };
    check(
        &[default("b1", "v1"), default("b2", "v2")].join("\n"),
        &[
            "api/b2: default_version: /b is claimed by api/b1 too; give one of them another path, or remove it",
        ],
    );
    // One that nobody reaches claims nothing.
    check(&[api("b1", ""), api("b2", "").replace("published", "created")].join("\n"), &[]);
    check(
        &[route("r1", r#""GET""#, "/a/{x}"), route("r2", r#""POST", "GET""#, "/a/{y}")].join("\n"),
        &[
            "route/r2: from.http.path: GET /a/{} is claimed by route/r1 (r1.yaml) too; give one of them another path, or remove it",
        ],
    );
    check(
        &[
            route("r1", r#""GET""#, "/a/{x}"),
            route("r2", r#""POST""#, "/a/{y}"),
            route("r3", r#""GET""#, "/a/b"),
        ]
        .join("\n"),
        &[],
    );
}

#[test]
fn a_conflict_that_was_there_before_is_nobodys_who_changes_something_else() {
    let mut now = base();
    let mut twin = now.entity(&EntityKey::parse("api/orders").unwrap()).unwrap().clone();
    for name in ["twin-1", "twin-2"] {
        let spec = serde_json::to_string(&twin.json).unwrap();
        let published = r#""context":"/t","lifecycle":"published""#;
        let spec = spec.replace(r#""context":"/o""#, published);
        let key = EntityKey::parse(&format!("api/{name}")).unwrap();
        twin = super::Entity::new(key, 1, Json(serde_json::from_str(&spec).unwrap())).unwrap();
        now.put(twin.clone());
    }
    let changes = set(r#"1 tier/gold {"burst_requests_max": 6}"#);
    assert!(judge(&now, &changes, no_deep_check).is_ok());
    assert!(judge(&now, &set("-1 api/twin-2"), no_deep_check).is_ok());
}

#[test]
fn a_queue_has_no_name_of_a_further_topic() {
    for end in ["dead", "parked", "progress"] {
        check(
            &format!(r#"+ queue/q.{end} {{"deliver": {{"upstream": "orders", "path": "/"}}}}"#),
            &[&format!(
                "queue/q.{end}: the name ends with .{end}, as the topics of a queue do; give it another name"
            )],
        );
    }
    check(r#"+ queue/q.deadline {"deliver": {"upstream": "orders", "path": "/"}}"#, &[]);
}

#[test]
fn a_secret_is_neither_in_a_refusal_nor_in_a_debug_output() {
    let spec = |state: &str| {
        format!(
            r#"+ key/k {{"algorithm": "es256", "state": "{state}", "private_key_pem": "{PEM}"}}"#
        )
    };
    check(&spec("active"), &[]);
    check(&spec("hush"), &["key/k: state: is not a right value; give next, active, retired"]);
    let judged = judge(&base(), &set(&spec("active")), no_deep_check).map(|judged| judged.next);
    assert!(!format!("{:?}", judged.unwrap_or_default()).contains("hush"));
}

/// Else the applier could not write it, and would stop at this proposal for ever.
#[test]
fn a_verdict_fits_a_record_whatever_was_proposed() {
    let name = "n".repeat(128);
    // What JSON escapes takes six bytes.
    let balance = "\\u0001".repeat(10_000);
    let set = set(&format!(r#"+ upstream/{name} {{"targets": [], "balance": "{balance}"}}"#));
    let Err(reasons) = judge(&base(), &set, no_deep_check) else { panic!("it was accepted") };
    let outcome = Outcome::Refused { reasons: vec![reasons[0].clone(); 100] };
    let verdict = Verdict { id: set.id.clone(), digest: Some(set.digest()), proposal: 0, outcome };
    let bytes = verdict.encode().bytes();
    assert!(bytes < crate::log::RECORD_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_name_that_comes_back_starts_above_what_was_removed() {
    let mut now = base();
    for changes in [
        r#"1 tier/gold {"burst_requests_max": 6}"#,
        "-1 subscription/s1\n-1 api/orders",
        "-2 tier/gold",
        r#"+ tier/gold {"burst_requests_max": 6}"#,
    ] {
        now =
            judge(&now, &set(changes), no_deep_check).map(|judged| judged.next).unwrap_or_default();
    }
    let gold = now.entity(&EntityKey::parse("tier/gold").unwrap()).unwrap();
    assert_eq!((gold.version, now.revision()), (3, 5));
}

#[test]
fn the_hash_is_of_the_content_and_specs_are_ready_to_use() {
    let now = base();
    let same = judge(&now, &set(r#"1 tier/gold {"burst_requests_max": 5}"#), no_deep_check);
    assert_eq!(same.map(|judged| judged.next.config_hash()).ok(), Some(now.config_hash()));
    let other = judge(&now, &set(r#"1 tier/gold {"burst_requests_max": 6}"#), no_deep_check);
    assert_ne!(other.map(|judged| judged.next.config_hash()).ok(), Some(now.config_hash()));

    let api: &super::kind::Api = now.get(&"orders".parse().unwrap()).unwrap();
    assert_eq!((api.context.as_str(), api.timeout_ms), ("/o", 30_000));
    let tiers: Vec<_> = now.all::<super::kind::Tier>().map(|(name, _)| name.as_str()).collect();
    assert_eq!(tiers, ["gold"]);
}
