//! The bundled example, as the first start leaves it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use ingest::emit;
use ingest::emit::audit::{Audit, Start};
use ingest::event::{Event, Kind, Outcome, cloudevents};
use ingest::log::embedded::{Config, EmbeddedLog};
use ingest::log::{EventLog, Partition, ReadLimit};
use serde_json::{Value, json};

use crate::weir::{PATIENCE, Weir};

/// Everything that was told, each once, read from the log of a program that has
/// stopped. That nothing is missing is seen to here.
pub(crate) async fn events(weir: &Weir) -> Vec<Box<Event>> {
    let log = EmbeddedLog::open(&Config::new(weir.data_dir().join("log"))).unwrap();
    let partitions = log.topic(emit::TOPIC).await.unwrap().partitions;
    let mut events = Vec::new();
    let mut audit = Audit::new(Start::Beginning);
    for index in 0..partitions {
        let mut reader = log.reader(vec![(Partition::new(emit::TOPIC, index), 0)]).await.unwrap();
        let limit = ReadLimit { wait: Duration::from_millis(1), ..ReadLimit::default() };
        while let Some(batch) = reader.next(limit).await.unwrap() {
            for record in &batch.records {
                let value = record.value.as_deref().unwrap();
                let event = Box::new(cloudevents::read(record.headers.iter(), value).unwrap());
                if audit.see(index, &event).is_new() {
                    events.push(event);
                }
            }
        }
    }
    assert_eq!(audit.report().gaps, 0, "an event is missing");
    events
}

#[tokio::test]
async fn the_example_runs_from_nothing_and_tells_all_of_it() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let secret = weir.secret();

    // The open API, and what is not there.
    let page = weir.client.get(weir.gateway("/site/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("It works"));
    let nothing = weir.client.get(weir.gateway("/nothing")).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
    assert_eq!(nothing.headers()["content-type"], "application/problem+json");

    // The one that needs a token.
    let quote = json!({"article": "bolt", "pieces": 100});
    let (status, problem) = weir.post("/shop/quotes", "", &quote).await.unwrap();
    assert_eq!((status, &problem["code"]), (401, &json!("token_malformed")));
    let token = weir.token(&secret).await;
    // A caller is told what its own message lacks.
    for (lacking, detail) in [
        (json!({"pieces": 3}), "the body is not as the route takes it: it has no article"),
        (json!([]), "the body is not as the route takes it: it has no article"),
        (json!({"article": "bolt"}), "the body is not as the route takes it: it has no pieces"),
    ] {
        let (status, problem) = weir.post("/shop/quotes", &token, &lacking).await.unwrap();
        assert_eq!((status, &problem["code"]), (400, &json!("body_invalid")), "{problem}");
        assert_eq!(problem["detail"], detail, "{problem}");
    }
    for path in ["/shop/quotes", "/shop/orders"] {
        let form = weir.client.post(weir.gateway(path)).bearer_auth(&token);
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let answer = form.body(r#"{"customer": "ada"}"#).send().await.unwrap();
        assert_eq!(answer.status(), 415, "{path}");
    }
    let (status, answer) = weir.post("/shop/quotes", &token, &quote).await.unwrap();
    let expected = json!({"article": "bolt", "pieces": 100, "price": "12.00", "currency": "EUR"});
    assert_eq!((status, &answer), (200, &expected));
    let (status, problem) = weir
        .post("/shop/1/quotes", &token, &json!({"article": "gear", "pieces": 1}))
        .await
        .unwrap();
    assert_eq!((status, &problem["code"]), (502, &json!("soap_fault")));

    // 202, then delivered.
    let order = json!({"customer": "ada", "article": "nut", "pieces": 2});
    let (status, accepted) = weir.post("/shop/orders", &token, &order).await.unwrap();
    assert_eq!(status, 202, "{accepted}");
    let began = Instant::now();
    let taken = loop {
        let url = weir.origin("/warehouse/orders");
        let taken: Value = weir.client.get(url).send().await.unwrap().json().await.unwrap();
        if taken != json!([]) {
            break taken;
        }
        assert!(began.elapsed() < PATIENCE, "the order does not arrive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(taken, json!([{"id": accepted["id"], "order": order}]));

    weir.stop();
    let events = events(&weir).await;
    let of = |kind: Kind| events.iter().filter(move |event| event.kind == kind);
    assert_eq!(of(Kind::Request).count(), 11);
    assert_eq!(of(Kind::Route).count(), 8);
    assert_eq!(of(Kind::Accept).count(), 1);
    assert_eq!(of(Kind::Token).count(), 1);
    assert_eq!(of(Kind::Delivery).filter(|e| e.outcome == Outcome::Success).count(), 1);
    // One journey: the request, its run, its step, its acceptance and its delivery.
    let delivery = of(Kind::Delivery).next().unwrap();
    let journey: Vec<&Box<Event>> =
        events.iter().filter(|event| event.correlation_id == delivery.correlation_id).collect();
    let has = |kind: Kind| journey.iter().any(|event| event.kind == kind);
    for kind in [Kind::Request, Kind::Route, Kind::Step, Kind::Accept, Kind::Delivery] {
        assert!(has(kind), "{kind} is not of the journey");
    }
    let trace = &delivery.trace_id;
    assert!(trace.is_some() && journey.iter().all(|event| event.trace_id == *trace));
    let allowed = of(Kind::Request).filter(|event| event.app_id.is_some()).count();
    assert_eq!(allowed, 8, "eight requests came with a token");

    // No secret is in any event, nor in what the program said after its first words.
    let told: Vec<u8> = events.iter().flat_map(|event| event.to_json()).collect();
    let told = String::from_utf8(told).unwrap();
    assert!(!told.contains(&secret) && !told.contains(&token));
    assert!(!weir.said().contains(&token));
    // Nor is a private key in the log, which others may read, but encrypted.
    let journals = std::fs::read_dir(weir.data_dir().join("log")).unwrap();
    let log: Vec<u8> =
        journals.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let log = String::from_utf8_lossy(&log);
    let holds = |text: &str| log.contains(text);
    assert!(holds("BEGIN ENCRYPTED PRIVATE KEY") && !holds("BEGIN PRIVATE KEY"));
    assert!(!holds(&secret));
}

#[tokio::test]
async fn a_signing_key_is_rotated_by_files_and_its_passphrase_is_not_made_anew() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let secret = weir.secret();
    let old = weir.token(&secret).await;
    let passphrase = weir.data_dir().join("keys-passphrase");
    let mode = std::fs::metadata(&passphrase).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // As docs/gateway.md has it.
    let make = |curve: &str, pass: &str| {
        let script = format!(
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} |
             openssl pkcs8 -topk8 -v2 aes-256-cbc -passout '{pass}'"
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap()
    };
    let key = |name: &str, state: &str, pem: Option<&str>| {
        let pem = pem.map(|pem| format!(", private_key_pem: {pem:?}")).unwrap_or_default();
        format!("kind: key\nname: {name}\nspec: {{algorithm: es256, state: {state}{pem}}}\n")
    };
    let apply = |files: &[(&str, &str)], options: &[&str]| {
        let dir = weir.write("keys", files);
        weir.run(&[&["apply", &dir], options].concat())
    };
    let own = format!("file:{}", passphrase.display());
    for (pem, expected) in [
        (make("P-384", &own), "k.yaml:3:8: key/key-000002: algorithm: is not that of the private"),
        (
            make("P-256", "pass:of-somebody-else"),
            "private_key_pem: does not open by the passphrase",
        ),
    ] {
        let (code, said) = apply(&[("k.yaml", &key("key-000002", "active", Some(&pem)))], &[]);
        assert!(code != 0 && said.contains(expected), "{code} {said}");
    }
    // A file need not repeat a private key, of one that is there.
    let (code, said) = apply(&[("k.yaml", &key("key-000003", "active", None))], &[]);
    assert!(code != 0 && said.contains("the key `private_key_pem` is missing"), "{said}");
    std::fs::remove_file(weir.dir().join("keys/k.yaml")).unwrap();

    let next = key("key-000002", "active", Some(&make("P-256", &own)));
    let retired = key("key-000001", "retired", None);
    let (code, said) = apply(&[("a.yaml", &next), ("b.yaml", &retired)], &[]);
    assert_eq!(code, 0, "{said}");
    let new = weir.token(&secret).await;
    let quote = json!({"article": "nut", "pieces": 1});
    let began = Instant::now();
    for token in [&old, &new] {
        // Gateways read the new key, which was not published before, within a moment.
        loop {
            let (status, answer) = weir.post("/shop/quotes", token, &quote).await.unwrap();
            if status == 200 {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let jwks: Value =
        weir.client.get(weir.keys("/oauth2/jwks")).send().await.unwrap().json().await.unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    weir.stop();

    // What opens the keys is told of, and not made anew over its loss.
    let kept = std::fs::read_to_string(&passphrase).unwrap();
    let check = |expected: &str| {
        let (code, said) = weir.run(&["run"]);
        assert!(code == 2 && said.contains(expected), "{code} {said}");
    };
    std::fs::remove_file(&passphrase).unwrap();
    check("keys-passphrase is not there, and the registry has signing keys, which it opens");
    assert!(!passphrase.exists());
    std::fs::write(&passphrase, &kept).unwrap();
    std::fs::set_permissions(&passphrase, Permissions::from_mode(0o640)).unwrap();
    check("keys-passphrase can be read by others (mode 640); take that right from them");
    std::fs::set_permissions(&passphrase, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&passphrase, "short").unwrap();
    check("keys-passphrase holds fewer than 16 characters");
    std::fs::write(&passphrase, "another passphrase, of another node").unwrap();
    check("give it the keys.passphrase_file of the node that made them");
}

#[tokio::test]
async fn a_change_is_planned_applied_and_counts_at_once() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let token = weir.token(&weir.secret()).await;
    let quote = json!({"article": "nut", "pieces": 1});
    assert_eq!(weir.post("/shop/quotes", &token, &quote).await.unwrap().0, 200);

    let tier = "kind: tier\nname: gold\nspec: {requests: {max: 2, window_ms: 3600000}}\n";
    let dir = weir.write("change", &[("tier.yaml", tier)]);
    let (code, said) = weir.run(&["apply", &dir, "--plan"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("~ tier/gold (version 1)\n    requests.max: 1000 -> 2"), "{said}");
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("applied as revision"), "{said}");
    // The limit counts what came before it too, so a second request is the last.
    let began = Instant::now();
    let (status, problem) = loop {
        let (status, body) = weir.post("/shop/quotes", &token, &quote).await.unwrap();
        if status != 200 {
            break (status, body);
        }
        assert!(began.elapsed() < PATIENCE, "the limit does not count");
    };
    assert_eq!((status, &problem["code"]), (429, &json!("throttled")));

    let bad = "kind: api\nname: shop\nspec: {context: /shop}\n";
    let dir = weir.write("bad", &[("api.yaml", bad)]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 2);
    assert!(said.contains("api.yaml:3:1: spec: the key `version` is missing"), "{said}");

    // A restart finds everything as it was, and makes no other secret.
    weir.stop();
    weir.start(&[]);
    assert!(!weir.said().contains("weirs_"), "{}", weir.said());
    let (status, _) = weir.post("/shop/quotes", &token, &quote).await.unwrap();
    assert_eq!(status, 200, "the old key is still good, the window is the process's");
    weir.stop();
}
