//! The key manager over a real socket, with a real registry and a real spool.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ingest::emit;
use ingest::event::{Clock, Event, Kind, ManualClock, Outcome, Producer, Timestamp, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use ingest::registry::kind::{Environment, Key, KeyState};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Outcome as Judged, Proposer, Topics, View, no_deep_check,
    run_applier,
};
use mediator::endpoint::http::Code;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Config, KeyManager, Parts, new_secret};
use crate::auth::tests::until;
use crate::auth::{self, KeyFetcher, KeySets, Verifier};

const NOW: i64 = 1_800_000_000;
const PATIENCE: Duration = Duration::from_secs(20);
const ISSUER: &str = "https://keys.example";
const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";

/// A registry with one application, `shop`, and what key managers need.
pub(crate) struct World {
    log: Arc<dyn EventLog>,
    pub(crate) view: View,
    proposer: Proposer,
    clock: Arc<ManualClock>,
    emitter: emit::Emitter,
    service: Option<emit::Service>,
    secret: String,
    sandbox_secret: String,
    http: Client,
    applier: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.applier.abort();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(emit::WhenFull::Refuse).await
    }

    async fn with(when_full: emit::WhenFull) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        let topics = Topics::default();
        topics.create(&*log).await.unwrap();
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
        let view = Box::pin(View::open(log.clone(), topics.clone())).await.unwrap();
        let proposer = Proposer::new(log.clone(), topics, PATIENCE);
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(NOW * 1_000_000)));
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new("keys-1").unwrap();
        let config = emit::Config {
            segment_bytes: 64 * 1024,
            spool_bytes_max: 1024 * 1024,
            reserve_bytes: 256 * 1024,
            drain_interval: Duration::from_millis(1),
            when_full,
            ..emit::Config::new(producer, dir.path(), NonZeroU32::MIN)
        };
        let (emitter, service) = emit::open(config, log.clone(), clock.clone()).unwrap();
        let ((secret, sha256), (sandbox_secret, sandbox)) = (new_secret(), new_secret());
        let world = Self {
            log,
            view,
            proposer,
            clock,
            emitter,
            service: Some(service),
            secret,
            sandbox_secret,
            http: Client::builder().no_proxy().build().unwrap(),
            applier,
            _dir: dir,
        };
        let shop = json!({
            "owner": "me", "scopes": ["read", "write"],
            "secrets": [{ "sha256": sha256 }, { "sha256": sandbox, "environment": "sandbox" }],
        });
        world.change("shop", vec![put("application/shop", None, shop)]).await;
        world
    }

    pub(crate) async fn change(&self, id: &str, changes: Vec<Change>) {
        let (author, message) = ("a test".to_owned(), "m".to_owned());
        let set = ChangeSet { id: id.parse().unwrap(), author, message, changes };
        let verdict = Box::pin(self.proposer.propose(&set)).await.unwrap();
        let Judged::Accepted { revision, .. } = verdict.outcome else { panic!("{verdict:?}") };
        self.view.wait_for(revision).await.unwrap();
    }

    async fn manager(&self) -> KeyManager {
        let config = Config {
            address: "127.0.0.1:0".parse().unwrap(),
            issuer: ISSUER.to_owned(),
            audience: "apis".to_owned(),
            token_ttl_s: 600,
        };
        let parts = Parts {
            view: self.view.clone(),
            proposer: self.proposer.clone(),
            emitter: self.emitter.clone(),
            clock: self.clock.clone(),
        };
        Box::pin(KeyManager::start(config, parts)).await.unwrap()
    }

    fn post(&self, manager: &KeyManager) -> RequestBuilder {
        let url = format!("http://{}/oauth2/token", manager.address());
        self.http.post(url).header("content-type", FORM)
    }

    async fn get(&self, manager: &KeyManager, path: &str) -> Value {
        let url = format!("http://{}{path}", manager.address());
        let answer = self.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// A token of `shop`.
    async fn token(&self, manager: &KeyManager) -> String {
        let request = self.post(manager).basic_auth("shop", Some(&self.secret)).body(GRANT);
        let answer = json_of(request.send().await.unwrap(), 200).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn keys(&self) -> Vec<(String, KeyState)> {
        let snapshot = self.view.snapshot();
        snapshot.all::<Key>().map(|(name, key)| (name.to_string(), key.state)).collect()
    }

    /// The change of a key's state; none: its removal.
    fn rotate(&self, key: &str, state: Option<&str>) -> Change {
        let key = EntityKey::parse(key).unwrap();
        let snapshot = self.view.snapshot();
        let entity = snapshot.entity(&key).unwrap();
        let (EntityKey { kind, name }, version) = (key, entity.version);
        let Some(state) = state else { return Change::Remove { kind, name, expected: version } };
        let mut spec = entity.json.0.clone();
        spec.insert("state".into(), state.into());
        Change::Put { kind, name, expected: Some(version), spec: Json(spec) }
    }

    /// The events so far, but for those of the emitter itself.
    async fn events(&mut self, count: usize) -> Vec<(Box<Event>, String)> {
        let service = self.service.take().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(service.run(stop.clone().cancelled_owned()));
        let from = vec![(Partition::new(emit::TOPIC, 0), 0)];
        let mut reader = self.log.reader(from).await.unwrap();
        let mut events = Vec::new();
        let read = async {
            while events.len() < count {
                let batch = reader.next(ReadLimit::default()).await.unwrap();
                for record in batch.into_iter().flat_map(|batch| batch.records) {
                    let text = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
                    let event = Box::new(
                        cloudevents::read(record.headers.iter(), text.as_bytes()).unwrap(),
                    );
                    if matches!(event.kind, Kind::Token | Kind::Authentication) {
                        events.push((event, text));
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the events are in the log");
        stop.cancel();
        running.await.unwrap().unwrap();
        events
    }
}

pub(crate) fn put(key: &str, expected: Option<u64>, spec: Value) -> Change {
    let EntityKey { kind, name } = EntityKey::parse(key).unwrap();
    let Value::Object(spec) = spec else { panic!("a spec is an object") };
    Change::Put { kind, name, expected, spec: Json(spec) }
}

async fn json_of(answer: Response, status: u16) -> Value {
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["pragma"], "no-cache");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let found = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(found, status, "{}", body["error_description"]);
    body
}

/// A gateway: its fetcher, and a verifier.
struct Gateway {
    verifier: Verifier,
    sets: KeySets,
    stop: CancellationToken,
}

impl Gateway {
    fn new(manager: &KeyManager) -> Self {
        let jwks_url = format!("http://{}/oauth2/jwks", manager.address());
        let issuer = json!({ "issuer": ISSUER, "jwks_url": jwks_url, "audience": "apis" });
        let issuers = vec![serde_json::from_value(issuer).unwrap()];
        // No wait between fetches, so that the test has none.
        let config = auth::Config { issuers, jwks_min_interval_s: 0, ..Default::default() };
        let sets = KeySets::new(&config);
        let stop = CancellationToken::new();
        let fetcher = KeyFetcher::new(&config, sets.clone()).unwrap();
        tokio::spawn(fetcher.run(stop.clone()));
        Self { verifier: Verifier::new(&config, &sets), sets, stop }
    }

    fn verify(&mut self, token: &str) -> Result<Arc<auth::Caller>, Code> {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        self.verifier.verify(Some(&value), NOW).map_err(|denied| denied.code)
    }

    /// Verifies until the answer is this one; a refusal has the keys fetched.
    async fn until(&mut self, token: &str, expected: Result<(), Code>) {
        let stranger = "eyJhbGciOiJFUzI1NiIsImtpZCI6Im5vbmUifQ.\
                        eyJpc3MiOiJodHRwczovL2tleXMuZXhhbXBsZSJ9.c2ln";
        until("the gateway's answer", || {
            // It names a key that is not there.
            assert_eq!(self.verify(stranger), Err(Code::TokenKeyUnknown));
            self.verify(token).map(|_| ()) == expected
        })
        .await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_token_is_given_and_a_gateway_knows_its_caller() {
    let world = World::new().await;
    let manager = world.manager().await;
    let mut gateway = Gateway::new(&manager);
    let token = world.token(&manager).await;
    gateway.until(&token, Ok(())).await;
    let caller = gateway.verify(&token).unwrap();
    assert_eq!((&*caller.subject, &*caller.client_id), ("shop", "shop"));
    assert_eq!(caller.expires_s, NOW + 600);
    assert!(caller.has_scope("read") && caller.has_scope("write"));
    assert_ne!(world.token(&manager).await, token, "each token is another");

    // By parameters, some scopes, and the other environment's secret.
    let secret = &world.sandbox_secret;
    let body = format!("{GRANT}&client_id=shop&client_secret={secret}&scope=write");
    let answer = json_of(world.post(&manager).body(body).send().await.unwrap(), 200).await;
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!((&answer["expires_in"], &answer["scope"]), (&json!(600), &json!("write")));
    let caller = gateway.verify(answer["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(caller.environment, Environment::Sandbox);
    assert!(caller.has_scope("write") && !caller.has_scope("read"));
    manager.shutdown().await;
}

#[tokio::test]
async fn where_things_are_is_published_and_no_private_key() {
    let world = World::new().await;
    let manager = world.manager().await;
    let metadata = world.get(&manager, "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth2/token"));
    assert_eq!(metadata["jwks_uri"], format!("{ISSUER}/oauth2/jwks"));
    let health = world.get(&manager, "/health").await;
    assert_eq!(health, json!({ "signing_key": true, "events": true }));
    let jwks = world.get(&manager, "/oauth2/jwks").await;
    let key = jwks["keys"][0].as_object().unwrap();
    let members: Vec<&str> = key.keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!((&key["kid"], &key["use"]), (&json!("key-000001"), &json!("sig")));
    manager.shutdown().await;
}

#[tokio::test]
async fn a_key_is_rotated_without_a_token_lost_and_removed_with_its_tokens() {
    let world = World::new().await;
    let manager = world.manager().await;
    let mut gateway = Gateway::new(&manager);
    let old = world.token(&manager).await;
    gateway.until(&old, Ok(())).await;

    // A new key, of another algorithm: published first.
    let random = aws_lc_rs::rand::SystemRandom::new();
    let der = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
    let pem = super::signing::pem(der.as_ref());
    let next = json!({ "algorithm": "eddsa", "state": "next", "private_key_pem": pem });
    world.change("r1", vec![put("key/key-000002", None, next)]).await;
    assert_eq!(world.get(&manager, "/oauth2/jwks").await["keys"].as_array().unwrap().len(), 2);
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_eq!(kid(&world.token(&manager).await), "key-000001", "it does not sign yet");

    // Both are active for a moment: the newer signs.
    world.change("r2", vec![world.rotate("key/key-000002", Some("active"))]).await;
    let new = world.token(&manager).await;
    assert_eq!(kid(&new), "key-000002");
    world.change("r3", vec![world.rotate("key/key-000001", Some("retired"))]).await;
    gateway.until(&new, Ok(())).await;
    assert!(gateway.verify(&old).is_ok(), "what a retired key signed is good");

    world.change("r4", vec![world.rotate("key/key-000001", None)]).await;
    gateway.until(&old, Err(Code::TokenKeyUnknown)).await;
    assert!(gateway.verify(&new).is_ok());
    assert_eq!(gateway.sets.count(ISSUER), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn managers_that_start_at_once_make_one_key() {
    let world = World::new().await;
    let (a, b, c) = tokio::join!(world.manager(), world.manager(), world.manager());
    assert_eq!(world.keys(), [("key-000001".to_owned(), KeyState::Active)]);
    let jwks = world.get(&a, "/oauth2/jwks").await;
    for manager in [&b, &c] {
        assert_eq!(world.get(manager, "/oauth2/jwks").await, jwks);
        world.token(manager).await;
    }
    // A manager that comes later uses the key too; without an active one it makes
    // the next.
    drop((a, b, c));
    let _ = world.manager().await;
    assert_eq!(world.keys().len(), 1);
    world.change("r", vec![world.rotate("key/key-000001", Some("retired"))]).await;
    let _ = world.manager().await;
    assert_eq!(world.keys()[1], ("key-000002".to_owned(), KeyState::Active));
}

#[tokio::test]
async fn every_wrong_request_is_refused_as_the_rfc_says() {
    let world = World::new().await;
    let manager = world.manager().await;
    let check = async |client: Option<(&str, &str)>, body: &str, status: u16, error: &str| {
        let mut request = world.post(&manager).body(body.to_owned());
        if let Some((id, secret)) = client {
            request = request.basic_auth(id, Some(secret));
        }
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().contains_key("www-authenticate");
        assert_eq!(challenge, status == 401, "{body}");
        let found = json_of(answer, status).await;
        assert_eq!(found["error"], error, "{body}");
        assert!(!found["correlation_id"].as_str().unwrap().is_empty());
        assert!(!found.to_string().contains("weirs_"), "{found}");
    };
    let secret = world.secret.as_str();
    let shop = Some(("shop", secret));
    check(None, GRANT, 401, "invalid_client").await;
    check(Some(("shop", "weirs_wrong")), GRANT, 401, "invalid_client").await;
    check(Some(("nobody", secret)), GRANT, 401, "invalid_client").await;
    check(Some(("no name", secret)), GRANT, 401, "invalid_client").await;
    check(Some((secret, "shop")), GRANT, 401, "invalid_client").await;
    check(shop, "", 400, "invalid_request").await;
    check(shop, &format!("{GRANT}&{GRANT}"), 400, "invalid_request").await;
    check(shop, &format!("{GRANT}&client_secret={secret}"), 400, "invalid_request").await;
    check(shop, "grant_type=password", 400, "unsupported_grant_type").await;
    check(shop, &format!("{GRANT}&scope=read+admin"), 400, "invalid_scope").await;
    check(shop, &format!("{GRANT}&x={}", "y".repeat(64 * 1024)), 413, "invalid_request").await;
    let url = format!("http://{}/oauth2/token", manager.address());
    let request = world.http.post(url).header("content-type", "application/json").body("{}");
    let found = json_of(request.send().await.unwrap(), 415).await;
    assert_eq!(found["error"], "invalid_request");
    manager.shutdown().await;
}

#[tokio::test]
async fn guesses_are_slowed_and_the_right_client_waits_with_them() {
    let world = World::new().await;
    let manager = world.manager().await;
    let ask = async |secret: &str| {
        let request = world.post(&manager).basic_auth("shop", Some(secret)).body(GRANT);
        let answer = request.send().await.unwrap();
        let wait = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        (answer.status().as_u16(), wait)
    };
    for _ in 0..10 {
        assert_eq!(ask("weirs_wrong").await, (401, None));
    }
    assert_eq!(ask(&world.secret).await, (429, Some("60".to_owned())));
    world.clock.advance(59_000_000);
    assert_eq!(ask(&world.secret).await, (429, Some("1".to_owned())));
    world.clock.advance(1_000_000);
    assert_eq!(ask(&world.secret).await, (200, None));
    manager.shutdown().await;
}

#[tokio::test]
async fn each_answer_has_its_event_and_no_event_a_secret() {
    let mut world = World::new().await;
    let manager = world.manager().await;
    let token = world.token(&manager).await;
    let (secret, other) = (world.secret.clone(), world.sandbox_secret.clone());
    for (id, given) in [("shop", "weirs_wrong"), (&other, &secret), ("nobody", &secret)] {
        let request = world.post(&manager).basic_auth(id, Some(given)).body(GRANT);
        json_of(request.send().await.unwrap(), 401).await;
    }
    let request = world.post(&manager).basic_auth("shop", Some(&secret)).body("grant_type=x");
    let request = request.header("x-correlation-id", "journey-1");
    json_of(request.send().await.unwrap(), 400).await;
    manager.shutdown().await;

    let events = world.events(5).await;
    let found: Vec<_> = events
        .iter()
        .map(|(event, _)| {
            let text = |text: &Option<ingest::event::Text>| {
                text.as_ref().map(ToString::to_string).unwrap_or_default()
            };
            let who = (text(&event.auth_subject), text(&event.app_id));
            (event.kind, event.outcome, who, text(&event.auth_reason))
        })
        .collect();
    let row = |kind, outcome, subject: &str, app: &str, reason: &str| {
        (kind, outcome, (subject.to_owned(), app.to_owned()), reason.to_owned())
    };
    let refused = "client_invalid";
    assert_eq!(
        found,
        [
            row(Kind::Token, Outcome::Success, "shop", "shop", ""),
            row(Kind::Authentication, Outcome::Denied, "shop", "", refused),
            row(Kind::Authentication, Outcome::Denied, "", "", refused),
            row(Kind::Authentication, Outcome::Denied, "nobody", "", refused),
            row(Kind::Token, Outcome::ClientError, "shop", "shop", "grant_unsupported"),
        ]
    );
    let issued = &events[0].0;
    assert_eq!(issued.token_action.as_deref(), Some("issue"));
    assert_eq!(issued.token_grant.as_deref(), Some("client_credentials"));
    assert_eq!(issued.auth_scopes.as_deref(), Some("read write"));
    assert_eq!(issued.auth_token_id.as_deref().map(str::len), Some(32));
    assert_eq!(issued.event_time, world.clock.now());
    assert_eq!(events[4].0.correlation_id.as_deref(), Some("journey-1"));
    for (_, text) in &events {
        for hidden in [&secret[6..], &other[6..], "weirs_", &token, "eyJ"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

#[tokio::test]
async fn a_full_spool_gives_no_token() {
    for when_full in [emit::WhenFull::Refuse, emit::WhenFull::Drop] {
        let world = World::with(when_full).await;
        let manager = world.manager().await;
        // Nobody drains it.
        loop {
            let mut event = world.emitter.event(Kind::Error, Outcome::InternalError);
            event.url_path = Some("x".repeat(100).into());
            if !matches!(world.emitter.emit(event), Ok(emit::Emitted::Spooled(_))) {
                break;
            }
        }
        let request = world.post(&manager).basic_auth("shop", Some(&world.secret)).body(GRANT);
        let found = json_of(request.send().await.unwrap(), 503).await;
        assert_eq!(found["error"], "temporarily_unavailable", "{when_full:?}");
        assert!(found.get("access_token").is_none());
        if when_full == emit::WhenFull::Refuse {
            let url = format!("http://{}/health", manager.address());
            assert_eq!(world.http.get(url).send().await.unwrap().status(), 503);
        }
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn a_wrong_start_says_why() {
    let world = World::new().await;
    let running = world.manager().await;
    let start = async |address: std::net::SocketAddr, audience: &str| {
        let parts = Parts {
            view: world.view.clone(),
            proposer: world.proposer.clone(),
            emitter: world.emitter.clone(),
            clock: world.clock.clone(),
        };
        let (issuer, audience) = (ISSUER.to_owned(), audience.to_owned());
        let config = Config { address, issuer, audience, token_ttl_s: 600 };
        Box::pin(KeyManager::start(config, parts)).await.unwrap_err().to_string()
    };
    let taken = running.address();
    let found = start(taken, "apis").await;
    assert!(found.starts_with(&format!("key manager cannot listen on {taken}: ")), "{found}");
    let found = start(taken, "").await;
    assert_eq!(found, "key manager: audience: is empty; give the name that gateways expect");
    running.shutdown().await;
}
