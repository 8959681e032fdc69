use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ingest::decision::{self, Decisions};
use ingest::emit;
use ingest::event::{Event, Kind as EventKind, Producer, SystemClock, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use ingest::registry::{Proposer, Topics, View, no_deep_check, run_applier};
use mediator::deliver::{Control, DeadLetters, History};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::keys::Passphrase;
use ingest::http::TokenHash;

const TOKEN: &str = "let-me-in";

struct World {
    log: Arc<dyn EventLog>,
    topics: Topics,
    manager: Manager,
    parts: Parts,
    client: reqwest::Client,
    applier: Option<JoinHandle<()>>,
    events: JoinHandle<()>,
    stop: tokio::sync::watch::Sender<bool>,
    _spool: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let mut world = Self::without_applier(Duration::from_secs(10)).await;
        world.start_applier();
        world
    }

    fn start_applier(&mut self) {
        let applier = run_applier(self.log.clone(), self.topics.clone(), no_deep_check);
        self.applier = Some(tokio::spawn(applier));
    }

    /// Nobody judges what is proposed; each verdict is waited for so long.
    async fn without_applier(verdict_within: Duration) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let topics = Topics::default();
        topics.create(&*log).await.unwrap();
        let view = View::open(log.clone(), topics.clone()).await.unwrap();
        let proposer = Proposer::new(log.clone(), topics.clone(), verdict_within);
        let spool = tempfile::tempdir().unwrap();
        let producer = Producer::new("manager").unwrap();
        let config = emit::Config::new(producer, spool.path(), NonZeroU32::MIN);
        let (emitter, service) = emit::open(config, log.clone(), Arc::new(SystemClock)).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let events = tokio::spawn(async move {
            let mut stopped = stopped;
            service
                .run(async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                })
                .await
                .unwrap();
        });
        let (of, clock) = ((log.clone(), view.clone(), emitter.clone()), Arc::new(SystemClock));
        let dead_letters =
            DeadLetters::new(of.0.clone(), of.1.clone(), of.2.clone(), clock.clone());
        let history = History::new(of.0.clone(), of.1.clone(), of.2.clone(), clock.clone());
        let control = Control::new(of.0, of.1, of.2, clock.clone());
        let decisions = Decisions::open(&*log).await.unwrap();
        let stop_of = stop.subscribe();
        tokio::spawn(decisions.clone().follow(log.clone(), stop_of));
        let decisions = decision::Desk {
            log: log.clone(),
            decisions,
            view: view.clone(),
            emitter: emitter.clone(),
            clock,
            service: SERVICE,
        };
        let token = TokenHash::of(TOKEN);
        let passphrase = Passphrase::new("of the test");
        let parts = Parts {
            view,
            proposer,
            emitter,
            dead_letters,
            history,
            decisions,
            control,
            passphrase,
            token,
        };
        let config = Config { address: ([127, 0, 0, 1], 0).into() };
        let manager = Manager::start(&config, parts.clone()).await.unwrap();
        let client = reqwest::Client::new();
        Self { log, topics, manager, parts, client, applier: None, events, stop, _spool: spool }
    }

    async fn call(&self, method: http::Method, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.manager.address());
        let request = self.client.request(method, url).bearer_auth(TOKEN).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(http::Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(http::Method::GET, path, &Value::Null).await
    }

    /// Stops everything, and answers the administrative events in the log.
    async fn stop(self) -> Vec<Box<Event>> {
        let mut found = self.stop_for_all().await;
        found.retain(|event| event.kind == EventKind::Admin);
        found
    }

    /// Stops everything, and answers all events in the log.
    async fn stop_for_all(self) -> Vec<Box<Event>> {
        self.manager.shutdown().await;
        self.stop.send_replace(true);
        self.events.await.unwrap();
        if let Some(applier) = self.applier {
            applier.abort();
        }
        events(&*self.log).await
    }

    /// Waits until the log has an administrative event.
    async fn told(&self) -> Box<Event> {
        let told = async {
            loop {
                let found = events(&*self.log).await;
                match found.into_iter().find(|event| event.kind == EventKind::Admin) {
                    Some(event) => return event,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.unwrap()
    }
}

async fn events(log: &dyn EventLog) -> Vec<Box<Event>> {
    let events = Partition::new(emit::TOPIC, 0);
    let mut reader = log.reader(vec![(events, 0)]).await.unwrap();
    let limit = ReadLimit { wait: Duration::from_millis(1), ..ReadLimit::default() };
    let mut found = Vec::new();
    while let Some(batch) = reader.next(limit).await.unwrap() {
        let read = |record: &ingest::log::Record| {
            let value = record.value.as_deref().unwrap();
            Box::new(cloudevents::read(record.headers.iter(), value).unwrap())
        };
        found.extend(batch.records.iter().map(read));
    }
    found
}

fn code(event: &Event) -> &str {
    event.error_type.as_deref().unwrap_or("-")
}

fn tier(name: &str, requests: u64) -> Value {
    let requests = json!({"max": requests, "window_ms": 60_000});
    json!({"kind": "tier", "name": name, "spec": {"requests": requests}})
}

#[tokio::test]
async fn what_is_planned_is_applied_shown_and_told() {
    let world = World::start().await;
    let wish = json!({"entities": [tier("gold", 100), tier("silver", 10)]});
    let (status, planned) = world.post("/admin/v1/plan", &wish).await;
    assert_eq!((status, &planned["revision"]), (200, &json!(0)), "{planned}");
    let text = planned["text"].as_str().unwrap();
    assert_eq!(
        text,
        "+ tier/gold\n+ tier/silver\n2 to create, 0 to change, 0 to remove, 0 unchanged"
    );

    let mut apply = wish.clone();
    apply["revision"] = json!(0);
    let (status, applied) = world.post("/admin/v1/apply", &apply).await;
    assert_eq!((status, &applied["revision"]), (200, &json!(1)), "{applied}");
    let (_, gold) = world.get("/admin/v1/registry/tier/gold").await;
    assert_eq!(gold["spec"]["requests"]["max"], 100);

    // The same again changes nothing; on the old revision it is refused.
    let (status, again) = world.post("/admin/v1/apply", &wish).await;
    assert_eq!((status, &again["id"], &again["written"]), (200, &Value::Null, &json!([])));
    let (status, stale) = world.post("/admin/v1/apply", &apply).await;
    assert_eq!((status, &stale["code"]), (409, &json!("revision_changed")));

    let wish = json!({"entities": [tier("gold", 200)], "missing": "remove"});
    let (status, applied) = world.post("/admin/v1/apply", &wish).await;
    assert_eq!(status, 200, "{applied}");
    let (_, listing) = world.get("/admin/v1/registry?kind=tier").await;
    assert_eq!(listing["entities"], json!({"tier/gold": 2}));

    let events = world.stop().await;
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let text =
                |text: &Option<ingest::event::Text>| text.as_deref().unwrap_or("-").to_owned();
            let (action, id) = (text(&event.admin_action), text(&event.admin_entity_id));
            (action, id, event.admin_entity_version)
        })
        .collect();
    let expected = [
        ("create", "gold", Some(1)),
        ("create", "silver", Some(1)),
        ("apply", "-", None),
        ("update", "gold", Some(2)),
        ("delete", "silver", None),
    ];
    let expected = expected.map(|(action, id, version)| (action.into(), id.into(), version));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told() {
    let world = World::start().await;
    let wish = json!({"entities": [
        {"kind": "application", "name": "shop", "spec": {"owner": "ada", "tier": "gold"}}]});
    let (status, refused) = world.post("/admin/v1/apply", &wish).await;
    let detail = "application/shop: tier: tier/gold does not exist; create it first, or in the \
                  same set";
    assert_eq!((status, &refused["code"]), (422, &json!("change_refused")), "{refused}");
    assert_eq!(refused["detail"], detail);
    assert_eq!(refused["correlation_id"].as_str().map(str::len), Some(32));

    let (status, bad) = world.post("/admin/v1/apply", &json!({"entitties": "hush"})).await;
    assert_eq!((status, &bad["code"]), (400, &json!("body_invalid")));
    assert!(!bad.to_string().contains("hush"), "{bad}");

    let (status, missing) = world.get("/admin/v1/registry/tier/gold").await;
    assert_eq!((status, &missing["code"]), (404, &json!("entity_not_found")));
    assert_eq!(world.get("/admin/v1/registry/toy/gold").await.0, 404);
    assert_eq!(world.get("/admin/v2").await.0, 404);
    let events = world.stop().await;
    let told: Vec<_> = events.iter().map(|event| (event.outcome.text(), code(event))).collect();
    assert_eq!(told, [("refused", "change_refused"), ("refused", "body_invalid")]);
    assert!(!format!("{events:?}").contains("hush"), "{events:?}");
}

#[tokio::test]
async fn a_change_whose_caller_has_gone_is_told_all_the_same() {
    let mut world = World::without_applier(Duration::from_secs(30)).await;
    let url = format!("http://{}/admin/v1/apply", world.manager.address());
    let wish = json!({"entities": [tier("gold", 100)]});
    let request = world.client.post(url).bearer_auth(TOKEN).json(&wish);
    let caller = tokio::spawn(request.send());
    while world.log.bounds(&world.topics.proposals).await.unwrap().end == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    world.start_applier();
    let event = world.told().await;
    assert_eq!((event.admin_action.as_deref(), code(&event)), (Some("create"), "-"));
    assert_eq!(world.stop().await.len(), 1);
}

#[tokio::test]
async fn a_change_whose_verdict_comes_late_is_told_once_it_is_there() {
    let mut world = World::without_applier(Duration::from_millis(200)).await;
    let wish = json!({"entities": [tier("gold", 100)], "id": "late"});
    let (status, missing) = world.post("/admin/v1/apply", &wish).await;
    assert_eq!((status, &missing["code"]), (503, &json!("verdict_missing")), "{missing}");
    world.start_applier();
    let event = world.told().await;
    let told = (event.admin_action.as_deref(), event.admin_change_set.as_deref());
    assert_eq!(told, (Some("create"), Some("late")));
    assert_eq!(world.stop().await.len(), 1);
}

#[tokio::test]
async fn a_change_without_a_verdict_at_the_stop_is_told_as_such() {
    let world = World::without_applier(Duration::from_millis(200)).await;
    let wish = json!({"entities": [tier("gold", 100)]});
    assert_eq!(world.post("/admin/v1/apply", &wish).await.0, 503);
    let events = world.stop().await;
    assert_eq!(events.iter().map(|event| code(event)).collect::<Vec<_>>(), ["verdict_missing"]);
}

#[tokio::test]
async fn wrong_tokens_are_told_and_the_right_one_is_not_kept_out() {
    let world = World::start().await;
    let url = format!("http://{}/admin/v1/registry", world.manager.address());
    for i in 0..10 {
        let wrong = world.client.get(&url).bearer_auth("let-me-out").send().await.unwrap();
        assert_eq!(wrong.status(), 401, "{i}");
    }
    let shut = world.client.get(&url).bearer_auth("let-me-out").send().await.unwrap();
    assert_eq!(shut.status(), 429);
    let right = world.client.get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(right.status(), 200, "whoever shares the address keeps nobody out");
    let wait_s: u64 = shut.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    let mut events = world.stop_for_all().await;
    events.retain(|event| event.kind == EventKind::Authentication);
    let told: Vec<_> = events.iter().map(|event| code(event)).collect();
    assert_eq!((&told[..10], &told[10..]), (&["token_malformed"; 10][..], &["throttled"][..]));
    let first = &events[0];
    assert_eq!(first.auth_outcome.as_deref(), Some("denied"));
    assert_eq!(first.client_address.as_deref(), Some("127.0.0.1"));
    assert!(!format!("{events:?}").contains("let-me"), "{events:?}");
}

#[tokio::test]
async fn what_the_api_cannot_read_is_a_problem() {
    let world = World::start().await;
    let check = async |method: http::Method, path: &str, body: String, expected: (u16, &str)| {
        let url = format!("http://{}{path}", world.manager.address());
        let request = world.client.request(method, url).bearer_auth(TOKEN).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let correlation = response.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        let problem: Value = response.json().await.unwrap();
        let found = (problem["status"].as_u64().unwrap() as u16, problem["code"].as_str().unwrap());
        assert_eq!(found, expected, "{path}");
        assert_eq!(problem["correlation_id"], correlation);
    };
    let (get, put, post) = (http::Method::GET, http::Method::PUT, http::Method::POST);
    let none = String::new;
    check(put, "/admin/v1/apply", none(), (405, "method_not_allowed")).await;
    check(get, "/admin/v1/registry?kind=a&kind=%ff", none(), (404, "entity_not_found")).await;
    let large = " ".repeat(5 * 1024 * 1024);
    check(post, "/admin/v1/apply", large, (413, "body_too_large")).await;
    world.stop().await;
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token_and_no_secret_leaves() {
    let world = World::start().await;
    let random = aws_lc_rs::rand::SystemRandom::new();
    let der = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
    let pem = Passphrase::new("of the test").seal(der.as_ref()).unwrap();
    let spec = json!({"algorithm": "eddsa", "state": "active", "private_key_pem": pem});
    let wish = json!({"entities": [{"kind": "key", "name": "k1", "spec": spec}]});
    assert_eq!(world.post("/admin/v1/apply", &wish).await.0, 200);
    let (_, key) = world.get("/admin/v1/registry/key/k1").await;
    assert_eq!(key["spec"]["private_key_pem"], "[hidden]");

    let url = format!("http://{}/admin/v1/registry", world.manager.address());
    for token in [None, Some("let-me-out"), Some("")] {
        let mut request = world.client.get(&url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{token:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"weir admin\"");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = World::start().await;
    let parts = world.parts.clone();
    let failed = Manager::start(&Config { address }, parts).await.unwrap_err().to_string();
    let expected = format!("admin API: cannot listen on {address}: ");
    assert!(failed.starts_with(&expected), "{failed}");
    assert!(failed.ends_with("; free the port, or set manager.address"), "{failed}");
    world.stop().await;
}

#[tokio::test]
async fn somebody_is_blocked_listed_and_let_go() {
    let world = World::start().await;
    let block = json!({"subject_kind": "address", "subject": "203.0.113.9", "action": "block",
        "for_ms": 60_000, "note": "scans", "by": "ada"});
    let (status, made) = world.post("/admin/v1/decisions", &block).await;
    assert_eq!((status, &made["state"]), (200, &json!("in_force")), "{made}");
    assert_eq!(made["does"], "blocked");
    let slow = json!({"subject_kind": "user", "subject": "eve", "mode": "dry_run", "for_ms": 60_000,
        "action": {"slow": {"max": 10, "window_ms": 60_000}}});
    let (_, slowed) = world.post("/admin/v1/decisions", &slow).await;
    assert_eq!((&slowed["state"], &slowed["by"]), (&json!("dry_run"), &json!("admin")));
    let (_, listed) = world.get("/admin/v1/decisions").await;
    let subjects = |listed: &Value| -> Vec<String> {
        let all = listed["decisions"].as_array().unwrap().iter();
        all.map(|of| of["subject"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(subjects(&listed), ["eve", "203.0.113.9"], "{listed}");
    assert_eq!(listed["detections_enforce"], false);

    let lift = format!("/admin/v1/decisions/{}/lift", made["id"].as_str().unwrap());
    let (status, lifted) = world.post(&lift, &json!({"note": "ours", "by": "ann"})).await;
    assert_eq!((status, &lifted["lifted"]["by"]), (200, &json!("ann")), "{lifted}");
    // Who is second changes nothing of it.
    let (_, again) = world.post(&lift, &json!({"by": "bob"})).await;
    assert_eq!(again, lifted);
    assert_eq!(subjects(&world.get("/admin/v1/decisions").await.1), ["eve"]);
    assert_eq!(subjects(&world.get("/admin/v1/decisions?all=true").await.1).len(), 2);

    let never = json!({"never": {"addresses": ["203.0.113.0/28"], "users": ["eve"]}});
    let wish = json!({"id": "ours", "entities": [
        {"kind": "safeguard", "name": "ours", "spec": never}]});
    let (status, applied) = world.post("/admin/v1/apply", &wish).await;
    assert_eq!(status, 200, "{applied}");
    let check = async |change: Value, code: &str, says: &str| {
        let mut wish = block.clone();
        wish.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, answer) = world.post("/admin/v1/decisions", &wish).await;
        assert!(status >= 400, "{answer}");
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{answer}");
    };
    check(json!({}), "subject_protected", "address 203.0.113.9").await;
    check(json!({"subject": "203.0.113.0/24"}), "subject_protected", "a part of it").await;
    check(json!({"subject": "everybody"}), "body_invalid", "subject: it is no address").await;
    check(json!({"subject": "192.0.2.1", "for_ms": 999}), "body_invalid", "for_ms: 999").await;
    check(json!({"subject": "192.0.2.1", "by": "a\u{0}"}), "body_invalid", "by: ").await;
    check(
        json!({"subject": "192.0.2.1", "action": {"slow": {"max": 0, "window_ms": 1_000}}}),
        "body_invalid",
        "max: 0",
    )
    .await;
    check(json!({"subject_kind": "city"}), "body_invalid", "unknown variant").await;
    let (status, answer) = world.post("/admin/v1/decisions/f00/lift", &json!({})).await;
    assert_eq!((status, &answer["code"]), (404, &json!("decision_unknown")));

    let mut events = world.stop_for_all().await;
    events.retain(|event| event.kind == EventKind::Decision);
    let line = |event: &Event| {
        let [state, subject, by] =
            [&event.decision_state, &event.decision_subject, &event.admin_actor]
                .map(|text| text.as_deref().unwrap_or("-"));
        format!("{state} {subject} by {by}")
    };
    let lines: Vec<String> = events.iter().map(|event| line(event)).collect();
    assert_eq!(
        lines,
        ["made 203.0.113.9 by ada", "made eve by admin", "lifted 203.0.113.9 by ann"]
    );
}
