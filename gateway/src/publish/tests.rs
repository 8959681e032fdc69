use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ingest::log::EventLog;
use ingest::log::embedded::EmbeddedLog;
use ingest::registry::{
    Applier, Change, ChangeSet, EntityKey, Json, Proposer, Topics, Verdict, View,
};

use super::{Missed, Publisher, Table};
use crate::throttle::Counters;

struct World {
    proposer: Proposer,
    view: View,
    _applier: tokio::task::JoinHandle<()>,
}

impl World {
    async fn open() -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
        let view = View::open(log.clone(), topics.clone()).await.unwrap();
        let applier =
            tokio::spawn(
                async move { while applier.step(Duration::from_millis(20)).await.is_ok() {} },
            );
        let proposer = Proposer::new(log, topics, Duration::from_secs(30));
        Self { proposer, view, _applier: applier }
    }

    /// Puts entities, one a line: `kind/name spec`.
    async fn put(&self, id: &str, lines: &str) -> Verdict {
        let put = |line: &str| {
            let (key, spec) = line.trim().split_once(' ').unwrap();
            let EntityKey { kind, name } = EntityKey::parse(key).unwrap();
            let spec = Json(serde_json::from_str(spec).unwrap());
            Change::Put { kind, name, expected: None, spec }
        };
        let changes = lines.lines().filter(|line| !line.trim().is_empty()).map(put).collect();
        let set =
            ChangeSet { id: id.parse().unwrap(), author: "a".into(), message: "m".into(), changes };
        let verdict = self.proposer.propose(&set).await.unwrap();
        let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
            panic!("{verdict:?}");
        };
        self.view.wait_for(revision).await.unwrap();
        verdict
    }
}

fn api(context: &str, version: &str, more: &str, resources: &[(&str, &str)]) -> String {
    let resources: Vec<String> = resources
        .iter()
        .map(|(methods, path)| {
            let methods = methods.split(' ').collect::<Vec<_>>().join("\",\"");
            format!(r#"{{"methods": ["{methods}"], "path": "{path}"}}"#)
        })
        .collect();
    let resources = resources.join(",");
    format!(
        r#"{{"context": "{context}", "version": "{version}", "upstream": "u", {more} "resources": [{resources}]}}"#
    )
}

const LIVE: &str = r#""lifecycle": "published","#;
const DEFAULT: &str = r#""lifecycle": "deprecated", "default_version": true,"#;

/// What a request finds, as `api template rest`, or why it finds nothing.
fn find(table: &Table, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match table.find(&method.parse::<Method>().unwrap(), path) {
        Ok(found) => {
            format!("{} {} {}", found.api.name, found.resource.path, &path[found.prefix_bytes..])
        }
        Err(Missed::Path(fault)) => fault.to_string(),
        Err(Missed::Api) => "no api".to_owned(),
        Err(Missed::Retired(api)) => format!("{} retired", api.name),
        Err(Missed::Resource(api)) => format!("{} no resource", api.name),
        Err(Missed::Method(api, allow)) => format!("{} allows {allow}", api.name),
    }
}

#[tokio::test]
async fn requests_find_the_resource_that_is_meant() {
    let world = World::open().await;
    let resources = [
        ("GET POST", "/"),
        ("GET", "/items/{id}"),
        ("PUT", "/items/{key}"),
        ("GET", "/items/{item}/parts/{part}"),
        ("POST", "/items/new"),
        ("GET", "/files/*"),
        ("PUT", "/files"),
        ("POST", "/files/{id}"),
        ("POST", "/files/*"),
        ("PATCH", "/{kind}/*"),
        ("DELETE", "/{kind}/{id}/notes/*"),
        ("GET", "/käse"),
    ];
    let orders = api("/orders", "1.0", DEFAULT, &resources);
    let all = api("/all", "v1", LIVE, &[("DELETE", "/*"), ("GET", "/x")]);
    let any = api("/any", "v1", DEFAULT, &[("GET", "/*")]);
    let nested = api("/orders/deep", "2", LIVE, &[("GET", "/{id}")]);
    let old = api("/old", "1", r#""lifecycle": "retired","#, &[("GET", "/")]);
    let hidden = api("/hidden", "1", "", &[("GET", "/")]);
    let lines = format!(
        "upstream/u {{\"targets\": [{{\"url\": \"http://127.0.0.1:1\"}}]}}\napi/all {all}\napi/any {any}\napi/deep {nested}\n\
         api/hidden {hidden}\napi/old {old}\napi/orders {orders}"
    );
    world.put("s1", &lines).await;
    let table = Table::compile(&world.view.snapshot(), &Counters::default(), None);
    let check = |request: &str, expected: &str| {
        assert_eq!(find(&table, request), expected, "{request}");
    };
    check("GET /orders/1.0", "orders / ");
    check("GET /orders/1.0/", "orders / /");
    check("GET /orders", "orders / ");
    check("GET /orders/items/7", "orders /items/{id} /items/7");
    check("GET /orders/1.0/items/7", "orders /items/{id} /items/7");
    check("HEAD /orders/1.0/items/7", "orders /items/{id} /items/7");
    check("PUT /orders/1.0/items/7", "orders /items/{key} /items/7");
    check(
        "GET /orders/1.0/items/7/parts/x%20y",
        "orders /items/{item}/parts/{part} /items/7/parts/x%20y",
    );
    check("POST /orders/1.0/items/new", "orders /items/new /items/new");
    check("GET /orders/1.0/items/n%65w", "orders allows POST");
    check("GET /orders/1.0/items/new", "orders allows POST");
    check("DELETE /orders/1.0/items/7", "orders allows GET, HEAD, PUT");
    check("TRACE /orders/1.0/items/7", "orders allows GET, HEAD, PUT");
    check("GET /all/v1/x/y", "all allows DELETE");
    check("GET /old/2/x", "no api");
    check("GET /orders/deep/2/a/b", "deep no resource");
    check("GET /orders/1.0/items", "orders allows PATCH");
    check("PATCH /orders/1.0/items", "orders /{kind}/* /items");
    check("PATCH /orders/1.0/items/7/8", "orders /{kind}/* /items/7/8");
    check("DELETE /orders/1.0/a/7/notes/8/9", "orders /{kind}/{id}/notes/* /a/7/notes/8/9");
    check("DELETE /orders/1.0/files/7/notes", "orders allows GET, HEAD, POST");
    // The whole path before what lies under it, whichever was listed first.
    check("PUT /orders/1.0/files", "orders /files /files");
    check("GET /orders/1.0/files", "orders allows PUT");
    check("POST /orders/1.0/files/7", "orders /files/{id} /files/7");
    check("GET /orders/1.0/files/7", "orders allows POST");
    check("POST /orders/1.0/files/7/8", "orders /files/* /files/7/8");
    check("GET /orders/1.0/files/", "orders /files/* /files/");
    check("GET /orders/1.0/files/a/b", "orders /files/* /files/a/b");
    check("GET /orders/1.0/k%C3%A4se", "orders /käse /k%C3%A4se");
    check("GET /%6Frders/1.0/items/7", "orders /items/{id} /items/7");
    check("GET /orders/deep/2/x", "deep /{id} /x");
    check("GET /orders/deep/3/x", "orders allows PATCH");
    check("DELETE /all/v1", "all /* ");
    check("DELETE /all/v1/any/thing", "all /* /any/thing");
    check("DELETE /all/v1/x", "all allows GET, HEAD");
    check("GET /old/1", "old retired");
    check("GET /hidden/1", "no api");
    check("GET /ordersx/1.0", "no api");
    check("GET /", "no api");
    check("GET /any/v1//a;b/%ee%f0", "any /* //a;b/%ee%f0");
    check("GET /any/v1/", "any /* /");
    check("GET /any//a", "any /* //a");
    check("POST /any/v1//a", "any allows GET, HEAD");
    check("GET /any/v1;x/a", "any /* /v1;x/a");
    check("GET /any;x/v1/a", "the path holds a backslash, a semicolon or an encoded slash");
    check("GET //any/v1/a", "the path has an empty segment");
    check("GET /any/v1/a;b/../c", "the path has a segment of dots");
    check("GET /any/v1//..;/c", "the path has a segment of dots");
    check("DELETE /all/v1//x", "the path has an empty segment");
    check("GET /all/v1/../x", "the path has a segment of dots");
}

#[tokio::test]
async fn a_change_is_shown_to_readers_and_an_earlier_table_stays_as_it_was() {
    let world = World::open().await;
    let publisher = Publisher::new(world.view.clone(), None);
    let mut reader = publisher.reader();
    let before = reader.load().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(publisher.run(async move { drop(stopped.await) }));
    let late = api("/late", "1", LIVE, &[("GET", "/")]);
    world
        .put(
            "s1",
            &format!("upstream/u {{\"targets\": [{{\"url\": \"http://a\"}}]}}\napi/late {late}"),
        )
        .await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while find(reader.load(), "GET /late/1") == "no api" {
        assert!(tokio::time::Instant::now() < deadline, "never shown");
        tokio::task::yield_now().await;
    }
    assert_eq!(find(&before, "GET /late/1"), "no api");
    assert_ne!(before.config_hash(), reader.load().config_hash());
    stop.send(()).unwrap();
    running.await.unwrap();
}
