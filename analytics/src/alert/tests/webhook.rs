//! Alerts that are posted to a real HTTP server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rig::Smtp;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{World, alert, mail};
use crate::alert::Webhook;
use crate::query::Severity;
use crate::serve::Config;

const SECRET: &str = "a secret of twenty-four bytes or more";

/// What was posted, and what is answered, one after another; then 204.
#[derive(Clone, Default)]
struct Received {
    posts: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Received {
    async fn serve(answers: &[u16]) -> (Self, String) {
        let received = Self::default();
        received.answers.lock().unwrap().extend(answers.iter().rev());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/weir", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(received.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (received, url)
    }

    fn ids(&self) -> Vec<String> {
        let posts = self.posts.lock().unwrap();
        posts.iter().map(|(headers, _)| text(headers, "webhook-id")).collect()
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = String::from_utf8(body.to_vec()).unwrap();
    received.posts.lock().unwrap().push((headers, body));
    let status = received.answers.lock().unwrap().pop().unwrap_or(204);
    StatusCode::from_u16(status).unwrap()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

fn webhook(dir: &Path, url: &str, severity: Severity) -> Webhook {
    let secret_file = dir.join("secret");
    std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Webhook { name: "siem".to_owned(), url: url.to_owned(), secret_file, severity }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_posted_and_signed_once_over_nodes() {
    let (world, dir) = (World::new().await, tempfile::tempdir().unwrap());
    // One that is away, and one that cannot, are waited for.
    let (received, url) = Received::serve(&[503, 429]).await;
    let webhook = webhook(dir.path(), &url, Severity::High);
    let first = world.telling(None, std::slice::from_ref(&webhook), &[]);
    world.say(&alert("198.51.100.1")).await;
    world.settled(1).await;
    let mut low = alert("198.51.100.2");
    low.severity = Severity::Medium;
    world.say(&low).await;
    drop(first);
    let second = world.telling(None, std::slice::from_ref(&webhook), &[]);
    world.say(&alert("198.51.100.3")).await;
    world.settled(2).await;
    drop(second);

    let id = |last: u32| format!("{:0>32}", 198_511_000 + last);
    assert_eq!(received.ids(), [id(1), id(1), id(1), id(3)], "the low one is not");
    for (headers, body) in received.posts.lock().unwrap().iter() {
        let (id, time) = (text(headers, "webhook-id"), text(headers, "webhook-timestamp"));
        let signature = text(headers, "webhook-signature");
        let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &tag).unwrap();
        let posted: Value = serde_json::from_str(body).unwrap();
        assert_eq!(posted["type"], "alert.opened");
        assert_eq!(
            (&posted["data"]["id"], &posted["data"]["severity"]),
            (&id.into(), &"high".into())
        );
        assert!(posted["data"]["query"].as_str().unwrap().contains("SELECT"), "{posted}");
    }
    let told = world.told().await;
    assert_eq!(told.len(), 2);
    let channels = told.iter().map(|event| event.alert_channel.as_deref());
    assert!(channels.into_iter().all(|channel| channel == Some("webhook")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_away_holds_no_email_up_and_one_that_refuses_is_told_of() {
    let (world, dir) = (World::new().await, tempfile::tempdir().unwrap());
    let server = Smtp::start(&[]).unwrap();
    let (received, url) = Received::serve(&[503; 40]).await;
    let webhook = webhook(dir.path(), &url, Severity::Low);
    let _node = world.telling(Some(&mail(server.port())), &[webhook], &[]);
    world.say(&alert("198.51.100.1")).await;
    world.say(&alert("198.51.100.2")).await;
    world.settled(2).await;
    assert_eq!(server.kept().unwrap().len(), 2);
    // Back, it refuses the first for good, and takes the second.
    *received.answers.lock().unwrap() = vec![204, 410];
    world.settled(4).await;
    let told = world.told().await;
    let of_webhook = |event: &&ingest::event::Event| {
        event.alert_channel.as_deref() == Some("webhook") && event.fault_message.is_some()
    };
    let refused: Vec<_> = told.iter().filter(of_webhook).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].fault_message.as_deref().unwrap().contains("siem answered 410"));
    server.stop().unwrap();
}

#[test]
fn a_webhook_that_cannot_be_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let good = webhook(dir.path(), "https://siem.example/hooks", Severity::Low);
    let short = dir.path().join("short");
    std::fs::write(&short, "short").unwrap();
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    let open = dir.path().join("open");
    std::fs::write(&open, SECRET).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let of = |webhook: Webhook| Config { webhooks: vec![webhook], ..Config::default() };
    let cases = [
        (of(Webhook { name: "a b".to_owned(), ..good.clone() }), "webhooks[0].name"),
        (of(Webhook { url: "http://siem.example/".to_owned(), ..good.clone() }), "webhooks[0].url"),
        (
            of(Webhook { url: "https://u:p@siem.example/".to_owned(), ..good.clone() }),
            "webhooks[0].url",
        ),
        (of(Webhook { secret_file: short, ..good.clone() }), "webhooks[0].secret_file"),
        (of(Webhook { secret_file: open, ..good.clone() }), "webhooks[0].secret_file"),
        (
            Config { webhooks: vec![good.clone(), good.clone()], ..Config::default() },
            "webhooks[1].name",
        ),
        (Config { webhooks: vec![good.clone(); 11], ..Config::default() }, "webhooks"),
    ];
    assert_eq!(of(good.clone()).validate(), Ok(()));
    for (config, path) in cases {
        let faults = config.validate().unwrap_err();
        assert_eq!(faults[0].path, path, "{faults:?}");
        assert!(!format!("{faults:?}").contains("u:p"), "{faults:?}");
    }
}
