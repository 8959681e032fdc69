//! Tokens of real keys: every refusal, the cache, and keys over a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{rsa, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ingest::http::Code;
use ingest::registry::kind::Environment;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::key_sets::read;
use super::{
    Caller, Config, DenyRules, Facts, Issuer, KeyFetcher, KeySets, Subscriptions, Verifier,
};
use crate::keys::tests::{World, put};

const NOW: i64 = 1_800_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn caller(subject: &str) -> Arc<Caller> {
    Arc::new(Caller {
        subject: subject.into(),
        client_id: "shop".into(),
        scopes: Box::default(),
        scope: "".into(),
        environment: Environment::Production,
        token_id: "0".into(),
        expires_s: 0,
    })
}

/// A key of an issuer.
struct Signer {
    kid: &'static str,
    algorithm: jsonwebtoken::Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(kid: &'static str, algorithm: jsonwebtoken::Algorithm) -> Self {
        let random = SystemRandom::new();
        let es256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pem = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
        };
        let key = match algorithm {
            jsonwebtoken::Algorithm::ES256 => {
                let der = signature::EcdsaKeyPair::generate_pkcs8(es256, &random).unwrap();
                EncodingKey::from_ec_pem(pem(der.as_ref()).as_bytes()).unwrap()
            }
            jsonwebtoken::Algorithm::EdDSA => {
                let der = signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
                EncodingKey::from_ed_pem(pem(der.as_ref()).as_bytes()).unwrap()
            }
            _ => {
                let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
                let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
                EncodingKey::from_rsa_pem(pem(der.as_ref()).as_bytes()).unwrap()
            }
        };
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        let jwk = serde_json::to_value(jwk).unwrap();
        Self { kid, algorithm, key, jwk }
    }

    fn es256(kid: &'static str) -> Self {
        Self::new(kid, jsonwebtoken::Algorithm::ES256)
    }

    fn header(&self) -> Value {
        let alg = format!("{:?}", self.algorithm);
        json!({ "alg": alg, "typ": "at+jwt", "kid": self.kid })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    fn token(&self) -> String {
        self.sign(&self.header(), &claims())
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn claims() -> Value {
    json!({
        "iss": "https://keys", "sub": "ann", "client_id": "shop", "aud": "apis",
        "exp": NOW + 600, "nbf": NOW, "iat": NOW, "jti": "t-1",
        "scope": "write read", "environment": "sandbox",
    })
}

/// `value` with a member that is another, or gone if it is null.
fn with(mut value: Value, member: &str, other: Value) -> Value {
    let object = value.as_object_mut().unwrap();
    object.remove(member);
    if !other.is_null() {
        object.insert(member.to_owned(), other);
    }
    value
}

fn issuer(jwks_url: &str) -> Issuer {
    let json = json!({ "issuer": "https://keys", "audience": "apis", "jwks_url": jwks_url });
    serde_json::from_value(json).unwrap()
}

fn config(jwks_url: &str) -> Config {
    Config { issuers: vec![issuer(jwks_url)], ..Config::default() }
}

fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>() }).to_string()
}

fn publish(sets: &KeySets, jwks: &str) {
    sets.publish(0, read(jwks.as_bytes(), &issuer("http://unused")).unwrap());
}

/// A verifier that knows the keys.
fn verifier(signers: &[&Signer]) -> (Verifier, KeySets) {
    let config = config("http://unused");
    let sets = KeySets::new(&config);
    publish(&sets, &jwks(signers));
    (Verifier::new(&config, &sets), sets)
}

fn verify(verifier: &mut Verifier, token: &str, now_s: i64) -> Result<Arc<Caller>, Code> {
    let header = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    verifier.verify(Some(&header), now_s).map_err(|denied| denied.code)
}

#[test]
fn a_good_token_of_each_algorithm_says_who_calls() {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, RS256};
    for algorithm in [ES256, RS256, EdDSA] {
        let signer = Signer::new("k1", algorithm);
        let (mut verifier, _) = verifier(&[&signer]);
        let caller = verify(&mut verifier, &signer.token(), NOW).unwrap();
        assert_eq!((&*caller.subject, &*caller.client_id), ("ann", "shop"), "{algorithm:?}");
        assert!(caller.has_scope("read") && caller.has_scope("write"));
        assert_eq!((caller.environment, caller.expires_s), (Environment::Sandbox, NOW + 600));
        // printf t-1 | sha256sum
        assert_eq!(caller.token_id.len(), 32);
        assert_eq!(caller.token_id, super::verifier::token_id("t-1"));
    }
}

#[test]
fn every_wrong_token_is_refused_by_its_code() {
    let (signer, stranger) = (Signer::es256("k1"), Signer::es256("k1"));
    let (mut verifier, _) = verifier(&[&signer]);
    let mut check = |token: String, expected: Code| {
        for _ in 0..2 {
            assert_eq!(verify(&mut verifier, &token, NOW), Err(expected), "{token}");
        }
    };
    let claim =
        |member: &str, other: Value| signer.sign(&signer.header(), &with(claims(), member, other));
    let header =
        |member: &str, other: Value| signer.sign(&with(signer.header(), member, other), &claims());
    check(claim("iss", json!("https://other")), Code::TokenIssuerInvalid);
    check(claim("iss", Value::Null), Code::TokenIssuerInvalid);
    check(claim("aud", json!("others")), Code::TokenAudienceInvalid);
    check(claim("aud", json!(["others"])), Code::TokenAudienceInvalid);
    check(claim("aud", Value::Null), Code::TokenAudienceInvalid);
    check(claim("exp", json!(NOW - 30)), Code::TokenExpired);
    check(claim("exp", Value::Null), Code::TokenMalformed);
    check(claim("exp", json!("tomorrow")), Code::TokenMalformed);
    check(claim("nbf", json!(NOW + 31)), Code::TokenNotYetValid);
    check(claim("iat", json!(NOW + 31)), Code::TokenNotYetValid);
    check(claim("client_id", Value::Null), Code::TokenMalformed);
    check(claim("sub", json!("")), Code::TokenMalformed);
    check(header("kid", json!("k2")), Code::TokenKeyUnknown);
    check(header("kid", Value::Null), Code::TokenMalformed);
    check(header("typ", json!("JWT")), Code::TokenMalformed);
    check(header("typ", Value::Null), Code::TokenMalformed);
    check(header("crit", json!(["exp"])), Code::TokenMalformed);
    check(stranger.token(), Code::TokenSignatureInvalid);
    check("a.b".to_owned(), Code::TokenMalformed);
    check(format!("{}.x", signer.token()), Code::TokenMalformed);
    check("x".repeat(16 * 1024 + 1), Code::TokenMalformed);
    check("é".to_owned(), Code::TokenMalformed);
    assert_eq!(verifier.verify(None, NOW).unwrap_err().code, Code::TokenMissing);
    let basic = HeaderValue::from_static("Basic YTpi");
    assert_eq!(verifier.verify(Some(&basic), NOW).unwrap_err().code, Code::TokenMissing);
    let empty = HeaderValue::from_static("Bearer ");
    assert_eq!(verifier.verify(Some(&empty), NOW).unwrap_err().code, Code::TokenMalformed);
}

#[test]
fn what_is_within_the_leeway_is_good() {
    let signer = Signer::es256("k1");
    let (mut verifier, _) = verifier(&[&signer]);
    let mut check = |member: &str, other: Value| {
        let token = signer.sign(&signer.header(), &with(claims(), member, other.clone()));
        assert!(verify(&mut verifier, &token, NOW).is_ok(), "{member} {other}");
    };
    check("exp", json!(NOW - 29));
    check("exp", json!(NOW as f64 + 0.5));
    check("nbf", json!(NOW + 30));
    check("iat", json!(NOW + 30));
    check("aud", json!(["others", "apis"]));
    check("jti", Value::Null);
    let typ = with(signer.header(), "typ", json!("application/AT+JWT"));
    assert!(verify(&mut verifier, &signer.sign(&typ, &claims()), NOW).is_ok());
}

#[test]
fn a_plain_jwt_is_taken_only_if_configured() {
    let signer = Signer::es256("k1");
    let config = Config { accept_plain_jwt: true, ..config("http://unused") };
    let sets = KeySets::new(&config);
    publish(&sets, &jwks(&[&signer]));
    let mut verifier = Verifier::new(&config, &sets);
    for (typ, good) in [(json!("JWT"), true), (Value::Null, true), (json!("logout+jwt"), false)] {
        let token = signer.sign(&with(signer.header(), "typ", typ.clone()), &claims());
        assert_eq!(verify(&mut verifier, &token, NOW).is_ok(), good, "{typ}");
    }
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let signer = Signer::new("k1", jsonwebtoken::Algorithm::RS256);
    let (mut verifier, _) = verifier(&[&signer]);
    let mut refused = |token: String| {
        let found = verify(&mut verifier, &token, NOW);
        assert_eq!(found, Err(Code::TokenSignatureInvalid), "{token}");
    };
    // The public key, in every form that somebody might take it, as an HMAC secret.
    let modulus = signer.jwk["n"].as_str().unwrap();
    let jwk = signer.jwk.to_string();
    let raw = URL_SAFE_NO_PAD.decode(modulus).unwrap();
    let header = with(signer.header(), "alg", json!("HS256"));
    for secret in [modulus.as_bytes(), jwk.as_bytes(), &raw] {
        let signed = unsigned(&header, &claims());
        let key = EncodingKey::from_secret(secret);
        let algorithm = jsonwebtoken::Algorithm::HS256;
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        refused(format!("{signed}.{signature}"));
    }
    for alg in ["none", "None", "", "RS512", "PS256", "ES256"] {
        let header = with(signer.header(), "alg", json!(alg));
        refused(format!("{}.", unsigned(&header, &claims())));
        refused(signer.sign(&header, &claims()));
    }
}

#[test]
fn a_key_that_is_not_for_this_is_never_taken() {
    let signer = Signer::es256("k1");
    let symmetric = json!({ "kty": "oct", "kid": "k1", "k": "c2VjcmV0" });
    let rsa = |bits: usize| {
        let modulus = URL_SAFE_NO_PAD.encode(vec![0xC1; bits / 8]);
        json!({ "kty": "RSA", "kid": "k1", "n": modulus, "e": "AQAB" })
    };
    for jwk in [
        with(signer.jwk.clone(), "use", json!("enc")),
        with(signer.jwk.clone(), "alg", json!("RS256")),
        with(signer.jwk.clone(), "alg", json!("HS256")),
        with(signer.jwk.clone(), "crv", json!("P-384")),
        with(signer.jwk.clone(), "kid", Value::Null),
        symmetric,
        rsa(1_024),
        rsa(16_384),
    ] {
        let (mut verifier, sets) = verifier(&[]);
        publish(&sets, &json!({ "keys": [jwk] }).to_string());
        assert_eq!(sets.count("https://keys"), 0, "{jwk}");
        let found = verify(&mut verifier, &signer.token(), NOW);
        assert_eq!(found, Err(Code::TokenKeyUnknown));
    }
    let issuer = Issuer { algorithms: vec![super::Algorithm::Rs256], ..issuer("http://unused") };
    assert!(read(jwks(&[&signer]).as_bytes(), &issuer).unwrap().is_empty());
}

#[test]
fn a_cached_token_ends_in_time_and_with_its_key() {
    let (signer, other) = (Signer::es256("k1"), Signer::es256("k2"));
    let (mut verifier, sets) = verifier(&[&signer]);
    let token = signer.token();
    let first = verify(&mut verifier, &token, NOW).unwrap();
    let again = verify(&mut verifier, &token, NOW + 629).unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!format!("{verifier:?}").contains(signature), "a token is never shown");
    assert!(Arc::ptr_eq(&first, &again), "it comes from the cache");
    assert_eq!(verify(&mut verifier, &token, NOW + 630), Err(Code::TokenExpired));
    assert_eq!(verify(&mut verifier, &token, NOW - 31), Err(Code::TokenNotYetValid));

    assert!(verify(&mut verifier, &token, NOW).is_ok());
    publish(&sets, &jwks(&[&signer, &other]));
    assert!(verify(&mut verifier, &token, NOW).is_ok());
    publish(&sets, &jwks(&[&other]));
    assert_eq!(verify(&mut verifier, &token, NOW), Err(Code::TokenKeyUnknown));
}

#[test]
fn a_tampered_token_is_refused_while_the_original_is_cached() {
    let signer = Signer::es256("k1");
    let (mut verifier, _) = verifier(&[&signer]);
    let token = signer.token();
    assert!(verify(&mut verifier, &token, NOW).is_ok());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    // The same signature under other claims.
    let other = unsigned(&signer.header(), &with(claims(), "sub", json!("eve")));
    let (_, payload) = other.split_once('.').unwrap();
    let found = verify(&mut verifier, &format!("{header}.{payload}.{signature}"), NOW);
    assert_eq!(found, Err(Code::TokenSignatureInvalid));
    // Another signature under the same claims.
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let found = verify(&mut verifier, &format!("{signed}.{first}{}", &signature[1..]), NOW);
    assert_eq!(found, Err(Code::TokenSignatureInvalid));
    assert!(verify(&mut verifier, &token, NOW).is_ok());
}

#[test]
fn keys_that_stay_the_same_leave_the_cache_alone() {
    let signer = Signer::es256("k1");
    let (mut verifier, sets) = verifier(&[&signer]);
    let token = signer.token();
    let first = verify(&mut verifier, &token, NOW).unwrap();
    publish(&sets, &jwks(&[&signer]));
    assert!(Arc::ptr_eq(&first, &verify(&mut verifier, &token, NOW).unwrap()));
}

#[test]
fn bad_documents_are_said_to_be_so() {
    let check = |body: &str, expected: &str| {
        assert_eq!(read(body.as_bytes(), &issuer("http://unused")).unwrap_err(), expected);
    };
    check("<html>", "is not JSON");
    check("{}", "has no list of keys");
    check(&json!({ "keys": vec![json!({}); 101] }).to_string(), "has more than 100 keys");
    let one_bad = format!(r#"{{"keys":[{{"kty":"new"}},{}]}}"#, Signer::es256("k1").jwk);
    assert_eq!(read(one_bad.as_bytes(), &issuer("http://unused")).unwrap().len(), 1);
}

#[tokio::test]
async fn rules_and_subscriptions_are_those_of_the_registry() {
    let world = World::new().await;
    let resources = json!([{ "methods": ["GET"], "path": "/" }]);
    let api = json!({
        "context": "/o", "version": "v1", "upstream": "u", "tiers": ["gold"],
        "resources": resources,
    });
    let subscription = json!({ "api": "orders", "application": "shop", "tier": "gold" });
    let rule = |cidr: &str| json!({ "match": { "cidr": cidr }, "reason": "scans" });
    let changes = vec![
        put("tier/gold", None, json!({ "burst_requests_max": 5 })),
        put("upstream/u", None, json!({ "targets": [{ "url": "http://u" }] })),
        put("api/orders", None, api),
        put("subscription/s1", None, subscription),
        put("deny_rule/wide", None, rule("198.51.0.0/16")),
        put("deny_rule/narrow", None, rule("198.51.100.0/24")),
    ];
    world.change("s", changes).await;
    let snapshot = world.view.snapshot();
    let held = Subscriptions::compile(&snapshot).check("orders", "shop").cloned().unwrap();
    assert_eq!((held.name.as_str(), held.tier.as_str()), ("s1", "gold"));

    let rules = DenyRules::compile(&snapshot);
    let check = |address: &str, expected: Option<&str>| {
        let address = Some(address.parse().unwrap());
        let found = rules.find(&Facts { address, ..Facts::default() });
        assert_eq!(found.map(|rule| rule.name.as_str()), expected, "{address:?}");
    };
    check("198.51.100.7", Some("narrow"));
    check("198.51.7.7", Some("wide"));
    check("198.52.7.7", None);
}

/// An issuer's server: what it answers can be changed, and it counts.
#[derive(Clone, Default)]
struct Server {
    answer: Arc<Mutex<(u16, String)>>,
    fetches: Arc<AtomicUsize>,
}

impl Server {
    async fn start(body: String) -> (Self, String) {
        let server = Self::default();
        *server.answer.lock() = (200, body);
        let shared = server.clone();
        let handler = move || async move {
            shared.fetches.fetch_add(1, Ordering::SeqCst);
            let (status, body) = shared.answer.lock().clone();
            (axum::http::StatusCode::from_u16(status).unwrap(), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/jwks", axum::routing::get(handler));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_unknown_key_id_has_the_keys_fetched() {
    let (old, new) = (Signer::es256("k1"), Signer::es256("k2"));
    let (server, url) = Server::start(jwks(&[&old])).await;
    // No wait between fetches, so that the test has none.
    let config = Config { jwks_min_interval_s: 0, ..config(&url) };
    let sets = KeySets::new(&config);
    let stop = CancellationToken::new();
    let fetcher = KeyFetcher::new(&config, sets.clone()).unwrap();
    let running = tokio::spawn(fetcher.run(stop.clone()));
    let mut verifier = Verifier::new(&config, &sets);
    until("first keys", || sets.count("https://keys") == 1).await;
    assert!(verify(&mut verifier, &old.token(), NOW).is_ok());

    *server.answer.lock() = (200, jwks(&[&old, &new]));
    assert_eq!(verify(&mut verifier, &new.token(), NOW), Err(Code::TokenKeyUnknown));
    until("new key", || verify(&mut verifier, &new.token(), NOW).is_ok()).await;
    let fetches = server.fetches();

    // A failing issuer, by status and by body: the last good keys stay.
    for answer in [(500, String::new()), (200, "<html>".into()), (200, " ".repeat(2 << 20))] {
        let before = server.fetches();
        *server.answer.lock() = answer;
        let mut stranger = Signer::es256("k3");
        stranger.kid = "k3";
        until("another fetch", || {
            let _ = verify(&mut verifier, &stranger.token(), NOW);
            server.fetches() > before + 1
        })
        .await;
        assert!(verify(&mut verifier, &new.token(), NOW).is_ok());
    }
    assert!(server.fetches() > fetches);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn unknown_key_ids_do_not_flood_the_issuer() {
    let (known, unknown) = (Signer::es256("k1"), Signer::es256("k2"));
    let (server, url) = Server::start(jwks(&[&known])).await;
    let config = Config { jwks_min_interval_s: 3_600, ..config(&url) };
    let sets = KeySets::new(&config);
    let stop = CancellationToken::new();
    let fetcher = KeyFetcher::new(&config, sets.clone()).unwrap();
    let running = tokio::spawn(fetcher.run(stop.clone()));
    until("first keys", || sets.count("https://keys") == 1).await;
    let mut verifier = Verifier::new(&config, &sets);
    for _ in 0..100 {
        assert_eq!(verify(&mut verifier, &unknown.token(), NOW), Err(Code::TokenKeyUnknown));
        tokio::task::yield_now().await;
    }
    assert_eq!(server.fetches(), 1);
    stop.cancel();
    running.await.unwrap();
}
