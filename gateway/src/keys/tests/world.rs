//! A registry with an application, the key managers on it, and a gateway that takes
//! their tokens.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ingest::decision::Decisions;
use ingest::emit;
use ingest::event::{Event, Kind, ManualClock, Producer, Timestamp, cloudevents};
use ingest::http::Code;
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use ingest::registry::kind::{Key, KeyState};
use ingest::registry::{
    Change, ChangeSet, EntityKey, Json, Outcome as Judged, Proposer, Topics, View, no_deep_check,
    run_applier,
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::auth::tests::until;
use crate::auth::{self, KeyFetcher, KeySets, Verifier};
use crate::keys::{Config, KeyManager, Parts, Passphrase, new_secret};

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const ISSUER: &str = "https://keys.example";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const GRANT: &str = "grant_type=client_credentials";

/// A registry with one application, `shop`, and what key managers need.
pub(crate) struct World {
    pub(super) log: Arc<dyn EventLog>,
    pub(crate) view: View,
    pub(super) proposer: Proposer,
    pub(super) clock: Arc<ManualClock>,
    pub(super) emitter: emit::Emitter,
    pub(super) service: Option<emit::Service>,
    pub(super) passphrase: Passphrase,
    pub(super) secret: String,
    pub(super) sandbox_secret: String,
    pub(super) http: Client,
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

    pub(super) async fn with(when_full: emit::WhenFull) -> Self {
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
            passphrase: Passphrase::new("of the test"),
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

    pub(super) async fn manager(&self) -> KeyManager {
        let config = Config {
            address: "127.0.0.1:0".parse().unwrap(),
            issuer: ISSUER.to_owned(),
            audience: "apis".to_owned(),
            passphrase_file: None,
            token_ttl_s: 600,
        };
        let parts = Parts {
            decisions: Decisions::default(),
            view: self.view.clone(),
            proposer: self.proposer.clone(),
            passphrase: self.passphrase.clone(),
            emitter: self.emitter.clone(),
            clock: self.clock.clone(),
        };
        Box::pin(KeyManager::start(config, parts)).await.unwrap()
    }

    pub(super) fn post(&self, manager: &KeyManager) -> RequestBuilder {
        let url = format!("http://{}/oauth2/token", manager.address());
        self.http.post(url).header("content-type", FORM)
    }

    pub(super) async fn get(&self, manager: &KeyManager, path: &str) -> Value {
        let url = format!("http://{}{path}", manager.address());
        let answer = self.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// A token of `shop`.
    pub(super) async fn token(&self, manager: &KeyManager) -> String {
        let request = self.post(manager).basic_auth("shop", Some(&self.secret)).body(GRANT);
        let answer = json_of(request.send().await.unwrap(), 200).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub(super) fn keys(&self) -> Vec<(String, KeyState)> {
        let snapshot = self.view.snapshot();
        snapshot.all::<Key>().map(|(name, key)| (name.to_string(), key.state)).collect()
    }

    /// The change of a key's state; none: its removal.
    pub(super) fn rotate(&self, key: &str, state: Option<&str>) -> Change {
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
    pub(super) async fn events(&mut self, count: usize) -> Vec<(Box<Event>, String)> {
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

pub(super) async fn json_of(answer: Response, status: u16) -> Value {
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["pragma"], "no-cache");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let found = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(found, status, "{}", body["error_description"]);
    body
}

/// A gateway: its fetcher, and a verifier.
pub(super) struct Gateway {
    pub(super) verifier: Verifier,
    pub(super) sets: KeySets,
    pub(super) stop: CancellationToken,
}

impl Gateway {
    pub(super) fn new(manager: &KeyManager) -> Self {
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

    pub(super) fn verify(&mut self, token: &str) -> Result<Arc<auth::Caller>, Code> {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        self.verifier.verify(Some(&value), NOW).map_err(|denied| denied.code)
    }

    /// Verifies until the answer is this one; a refusal has the keys fetched.
    pub(super) async fn until(&mut self, token: &str, expected: Result<(), Code>) {
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
