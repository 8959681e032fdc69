//! Who may call what and how often, with tokens of a real key manager.

use std::num::NonZeroU32;
use std::sync::Arc;

use gateway::auth::Issuer;
use gateway::keys::{self, KeyManager, Passphrase, new_secret};
use ingest::emit;
use ingest::event::{Event, Producer, SystemClock};

use crate::world::{World, ask, said, told};

const ISSUER: &str = "https://keys.example";

/// A key manager in front of a world's registry, with an emitter of its own.
pub(crate) struct Keys {
    pub(crate) manager: KeyManager,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
    _service: emit::Service,
}

impl Keys {
    pub(crate) async fn start(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new("keys").unwrap();
        let config = emit::Config::new(producer, dir.path(), NonZeroU32::MIN);
        let (emitter, service) =
            emit::open(config, world.log.clone(), Arc::new(SystemClock)).unwrap();
        let config = keys::Config {
            address: "127.0.0.1:0".parse().unwrap(),
            issuer: ISSUER.to_owned(),
            audience: "apis".to_owned(),
            passphrase_file: None,
            token_ttl_s: 600,
        };
        let parts = keys::Parts {
            view: world.view.clone(),
            decisions: world.decisions.clone(),
            proposer: world.proposer.clone(),
            passphrase: Passphrase::new("of the test"),
            emitter,
            clock: Arc::new(SystemClock),
        };
        let manager = Box::pin(KeyManager::start(config, parts)).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { manager, http, _dir: dir, _service: service }
    }

    pub(crate) fn issuer(&self) -> Issuer {
        let jwks_url = format!("http://{}/oauth2/jwks", self.manager.address());
        let issuer =
            serde_json::json!({ "issuer": ISSUER, "audience": "apis", "jwks_url": jwks_url });
        serde_json::from_value(issuer).unwrap()
    }

    /// Asks for a token: status and answer.
    pub(crate) async fn asked(&self, client: &str, secret: &str) -> (u16, serde_json::Value) {
        let url = format!("http://{}/oauth2/token", self.manager.address());
        let request = self.http.post(url).basic_auth(client, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("grant_type=client_credentials&scope=read").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn token(&self, client: &str, secret: &str) -> String {
        let (_, answer) = self.asked(client, secret).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

pub(crate) fn text(text: &Option<ingest::event::Text>) -> &str {
    text.as_deref().unwrap_or("-")
}

pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn request(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_let_in_by_tokens_subscriptions_limits_and_rules() {
    let world = World::empty().await;
    let ((secret, sha256), (other_secret, other)) = (new_secret(), new_secret());
    let api = |name: &str, more: &str| {
        format!(
            r#"api/{name} {{"context": "/{name}", "version": "1", "upstream": "u", "lifecycle": "published",
            {more} "resources": [{{"methods": ["GET"], "path": "/read", "scopes": ["read"]}},
            {{"methods": ["GET"], "path": "/write", "scopes": ["write"]}},
            {{"methods": ["GET"], "path": "/open", "authentication": ["none"]}}]}}"#
        )
        .replace('\n', " ")
    };
    let application = |name: &str, sha256: &str| {
        let scopes = r#"["read", "write"]"#;
        format!(
            r#"application/{name} {{"owner": "ann", "scopes": {scopes}, "secrets": [{{"sha256": "{sha256}"}}]}}"#
        )
    };
    let subscription = |api: &str| {
        format!(
            r#"subscription/shop-{api} {{"api": "{api}", "application": "shop", "tier": "three"}}"#
        )
    };
    world
        .put(
            "first",
            &[
                &world.upstream(""),
                &api("pets", ""),
                &api("walled", r#""allow": ["192.0.2.0/24"],"#),
                &api("denied", ""),
                r#"tier/three {"requests": {"max": 3, "window_ms": 3600000}}"#,
                &application("shop", &sha256),
                &application("stranger", &other),
                &subscription("pets"),
                r#"deny_rule/bots {"match": {"user_agent_contains": "evil"}, "reason": "they are"}"#,
                r#"deny_rule/shop-denied {"match": {"api": "denied"}, "reason": "they are"}"#,
            ],
        )
        .await;
    let keys = Keys::start(&world).await;
    let (token, stranger) =
        (keys.token("shop", &secret).await, keys.token("stranger", &other_secret).await);
    let gateway = world.start_with(|config| config.auth.issuers = vec![keys.issuer()]).await;
    let address = gateway.addresses()[0];
    let mut expected: Vec<&str> = Vec::new();
    let check = async |path: &str, more: &str, code: &str| {
        let answer = ask(address, request(path, more)).await;
        assert_eq!(said(&answer), code, "{path} {more}: {answer}");
        answer
    };
    let answer = check("/pets/1/read", "", "401 token_missing").await;
    assert!(answer.contains("www-authenticate: Bearer realm=\"weir\""), "{answer}");
    let answer = check("/pets/1/read", &bearer("nonsense"), "401 token_malformed").await;
    assert!(answer.contains("error=\"invalid_token\""), "{answer}");
    check("/pets/1/read", &format!("{}{}", bearer(&token), bearer(&token)), "401 token_malformed")
        .await;
    check("/pets/1/read", &bearer(&stranger), "403 subscription_missing").await;
    let answer = check("/pets/1/write", &bearer(&token), "403 scope_missing").await;
    assert!(answer.contains("error=\"insufficient_scope\""), "{answer}");
    check("/walled/1/open", "", "403 address_not_allowed").await;
    check("/pets/1/open", "user-agent: an evil one\r\n", "403 denied_by_rule").await;
    check("/denied/1/open", "", "403 denied_by_rule").await;
    check("/pets/1/open", "", "200").await;
    assert_eq!(world.origin.count(), 1, "what is refused never reaches the origin");
    for left in [2, 1, 0] {
        let answer = check("/pets/1/read", &bearer(&token), "200").await;
        assert!(answer.contains("ratelimit-policy: \"three\";q=3;w=3600\r\n"), "{answer}");
        assert!(answer.contains(&format!("ratelimit: \"three\";r={left};t=")), "{answer}");
    }
    // What was counted outlives a change of the configuration.
    world.put("second", &[r#"upstream/late {"targets": [{"url": "http://a"}]}"#]).await;
    let answer = check("/pets/1/read", &bearer(&token), "429 throttled").await;
    assert!(answer.contains("retry-after: ") && answer.contains("r=0;t="), "{answer}");
    assert_eq!(world.origin.count(), 4);
    let tokens = world
        .origin
        .seen()
        .into_iter()
        .filter_map(|seen| seen.header("authorization").map(str::to_owned));
    assert_eq!(tokens.count(), 0, "a token stays with the gateway");
    expected.extend([
        "denied token_missing",
        "denied token_malformed",
        "denied token_malformed",
        "denied subscription_missing",
        "denied scope_missing",
        "denied address_not_allowed",
        "denied denied_by_rule",
        "denied denied_by_rule",
        "success",
        "success",
        "success",
        "success",
        "throttled throttled",
    ]);
    let events = world.stop(gateway).await;
    let mut found: Vec<String> = events.iter().map(|event| told(event)).collect();
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let of = |code: &str| {
        let found = events.iter().find(|event| told(event) == code);
        &**found.unwrap_or_else(|| panic!("no {code}"))
    };
    check_events(of, &events);
    keys.manager.shutdown().await;
}

fn check_events<'a>(of: impl Fn(&str) -> &'a Event, events: &[Box<Event>]) {
    let scope = of("denied scope_missing");
    assert_eq!(text(&scope.auth_outcome), "denied");
    assert_eq!(text(&scope.auth_reason), "scope_missing");
    assert_eq!(text(&scope.auth_method), "jwt");
    assert_eq!(text(&scope.app_id), "shop");
    assert_eq!(text(&scope.app_owner), "ann");
    assert_eq!(text(&scope.auth_scopes), "read");
    assert_eq!(text(&of("denied denied_by_rule").auth_outcome), "denied");
    assert!(events.iter().any(|event| text(&event.threat_rule) == "bots"));
    let throttled = of("throttled throttled");
    assert_eq!(text(&throttled.throttle_level), "subscription");
    assert_eq!(text(&throttled.throttle_policy), "three");
    assert_eq!(throttled.throttle_limit, Some(3));
    assert_eq!(throttled.throttle_remaining, Some(0));
    assert_eq!(text(&throttled.subscription_id), "shop-pets");
    assert_eq!(text(&throttled.auth_outcome), "allowed");
    let is_let_in = |event: &&Event| told(event) == "success" && event.app_id.is_some();
    let let_in: Vec<_> = events.iter().map(|event| &**event).filter(is_let_in).collect();
    assert_eq!(let_in.len(), 3);
    for event in let_in {
        assert_eq!(text(&event.auth_outcome), "allowed");
        assert!(event.latency_auth_us.is_some() && event.latency_throttle_us.is_some());
    }
    let said = format!("{events:?}");
    assert!(!said.contains("eyJ"), "no token is in an event");
}
