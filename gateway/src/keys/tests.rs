//! The key manager over a real socket, with a real registry and a real spool.

use ingest::decision::Decisions;
use ingest::emit;
use ingest::event::{Clock, Kind, Outcome};
use ingest::http::Code;
use ingest::registry::kind::{Environment, KeyState};
use serde_json::json;

mod world;

use self::world::{GRANT, Gateway, ISSUER, NOW, json_of};
pub(crate) use self::world::{World, put};
use super::{Config, KeyManager, Parts, Passphrase};

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
    let pem = world.passphrase.seal(der.as_ref()).unwrap();
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
    let start = async |address: std::net::SocketAddr, audience: &str, passphrase: &str| {
        let parts = Parts {
            decisions: Decisions::default(),
            view: world.view.clone(),
            proposer: world.proposer.clone(),
            passphrase: Passphrase::new(passphrase),
            emitter: world.emitter.clone(),
            clock: world.clock.clone(),
        };
        let (issuer, audience) = (ISSUER.to_owned(), audience.to_owned());
        let config = Config { address, issuer, audience, passphrase_file: None, token_ttl_s: 600 };
        Box::pin(KeyManager::start(config, parts)).await.unwrap_err().to_string()
    };
    let taken = running.address();
    let found = start(taken, "apis", "").await;
    assert!(found.starts_with(&format!("key manager cannot listen on {taken}: ")), "{found}");
    let found = start(taken, "", "").await;
    assert_eq!(found, "key manager: audience: is empty; give the name that gateways expect");
    let found = start(([127, 0, 0, 1], 0).into(), "apis", "another").await;
    assert!(found.starts_with("no active signing key of the registry opens by this"), "{found}");
    running.shutdown().await;
}
