//! What may not be written is written nowhere.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::replay::{rows, until};
use crate::weir::Weir;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtYWxsb3J5In0.c2lnbmF0dXJlLW9mLW1hbGxvcnk";
/// What is no secret, and has to be found where secrets are looked for.
const CONTROL: &str = "seen-by-everybody";

/// An upstream that answers with what it was sent, and a cookie.
async fn echo() -> String {
    async fn answer(headers: HeaderMap, body: Bytes) -> impl IntoResponse {
        let content_type = headers.get("content-type").cloned();
        let status = if headers.contains_key("x-fail") { 500 } else { 200 };
        let mut answer = axum::response::Response::new(axum::body::Body::from(body));
        *answer.status_mut() = axum::http::StatusCode::from_u16(status).unwrap();
        if let Some(content_type) = content_type {
            answer.headers_mut().insert("content-type", content_type);
        }
        answer.headers_mut().insert("set-cookie", "sid=hush-cookie-set".parse().unwrap());
        answer
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

/// An API of the echo, and what of it is kept.
fn api(name: &str, address: &str, payload: &str) -> String {
    format!(
        "kind: upstream\nname: {name}\nspec: {{targets: [{{url: \"http://{address}\"}}]}}\n---\n\
         kind: api\nname: {name}\nspec:\n  context: /{name}\n  version: \"1\"\n  lifecycle: \
         published\n  default_version: true\n  upstream: {name}\n  authentication: [none]\n  \
         {payload}\n  resources: [{{methods: [GET, POST], path: \"/*\"}}]\n"
    )
}

fn apply(weir: &Weir, files: &[(&str, &str)]) {
    let (code, said) = weir.run(&["apply", &weir.write("rules", files)]);
    assert_eq!(code, 0, "{said}");
}

/// Sends a body, and sees that it arrives and comes back whole.
async fn send(weir: &Weir, path: &str, content_type: &str, body: &str) {
    let request = weir.client.post(weir.gateway(path)).header("content-type", content_type);
    let request = request
        .header("authorization", "Bearer hush-bearer-1234")
        .header("cookie", "sid=hush-cookie-sent")
        .header("x-api-key", "hush-api-key")
        .header("x-control", CONTROL)
        .header("user-agent", "bot/1 (mallory.agent@example.org; Bearer hush-agent-1234)")
        .header("x-correlation-id", "mallory.correlation@example.org")
        .header("referer", "https://me:hush-user@example.org/a?session=hush-session#hush-fragment");
    let answer = request.body(body.to_owned()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    assert_eq!(answer.text().await.unwrap(), body, "{path}");
}

/// The files below that hold a text.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_an_event_a_file_or_a_line_of_the_log() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let address = echo().await;
    let kept = api("kept", &address, "payload: {headers: true}");
    let bare = api("bare", &address, "timeout_ms: 5000");
    apply(&weir, &[("kept.yaml", &kept), ("bare.yaml", &bare)]);

    let json = json!({
        "note": CONTROL,
        "user": {"password": "hush-password", "mail": "mallory.json@example.org"},
        "card": "4539 5787 6362 1486",
        "numbers": [4539578763621486_u64],
        "account": "DE89370400440532013000",
    });
    let xml = format!(
        "<order note=\"{CONTROL}\" pin=\"hush-pin\"><wsse:Password xmlns:wsse=\"urn:w\">hush-wsse\
         </wsse:Password><card>45395787<![CDATA[63621486]]></card></order>"
    );
    let form = format!("note={CONTROL}&client_secret=hush-form&mail=mallory.form%40example.org");
    let text = format!("{CONTROL}: {JWT} of mallory.text@example.org, password: hush-word");
    let mislabelled = json!({"note": CONTROL, "password": "hush-mislabelled"}).to_string();
    for api in ["/kept", "/bare"] {
        let path = |rest: &str| format!("{api}/{rest}");
        let query = format!("a/{CONTROL}?access_token=hush-query&mail=mallory.query%40example.org");
        send(&weir, &path(&query), "application/json", &json.to_string()).await;
        send(&weir, &path("mallory.path@example.org"), "text/xml", &xml).await;
        send(&weir, &path("form"), "application/x-www-form-urlencoded", &form).await;
        send(&weir, &path(&format!("reset/{JWT}")), "text/plain", &text).await;
        send(&weir, &path("image"), "image/png", "hush-image").await;
        send(&weir, &path("b;jsessionid=hush-path"), "text/plain", &mislabelled).await;
    }
    // What other systems send, and the key of a message.
    let (code, said) = weir.run(&["secret", "--json"]);
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&said).unwrap();
    let sha256 = made["sha256"].as_str().unwrap();
    let sender = format!(
        "kind: application\nname: erp\nspec: {{owner: ada@example.org, secrets: [{{sha256: \
         \"{sha256}\"}}], scopes: [events.write]}}\n"
    );
    apply(&weir, &[("sender.yaml", &sender)]);
    let event = json!({"specversion": "1.0", "id": "1", "source": "https://me:hush-source@erp/", "type": "login",
        "subject": "mallory.subject@example.org", "mytoken": "hush-attribute", "data": json});
    let sent = weir.client.post(weir.collector("/v1/events"));
    let sent = sent.basic_auth("erp", made["secret"].as_str());
    let sent = sent.header("content-type", "application/cloudevents+json");
    assert_eq!(sent.body(event.to_string()).send().await.unwrap().status(), 204);
    let token = weir.token(&weir.secret()).await;
    let order = json!({"customer": "mallory.key@example.org", "article": "a"});
    let order = weir.client.post(weir.gateway("/shop/1/orders")).bearer_auth(token).json(&order);
    let order = order.header("idempotency-key", "mallory.id@example.org-17");
    assert_eq!(order.send().await.unwrap().status(), 202);

    let counted = "SELECT count(*) FILTER (WHERE api_name IN ('kept', 'bare')) AS requests,
        count(*) FILTER (WHERE kind = 'external') AS external,
        count(*) FILTER (WHERE kind = 'accept') AS accepted FROM events";
    until(&weir, counted, |row| {
        row["requests"] == 12 && row["external"] == 1 && row["accepted"].as_i64() > Some(0)
    })
    .await;
    let told = rows(
        &weir,
        "SELECT * FROM events WHERE api_name IN ('kept', 'bare', 'shop') OR kind IN ('external',
         'accept', 'delivery', 'step', 'route')",
    );
    let told = told.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    // That of a queue is a message, which is delivered as it came.
    let secrets = ["hush-", "mallory.", "45395787", "4539 5787", JWT, "DE8937", "bWFsbG9yeSJ9"];
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    assert!(told.contains(CONTROL));
    let files = weir.data_dir();
    for secret in ["hush-", "4539578763621486", "4539 5787 6362 1486", JWT, "DE8937040044"] {
        assert_eq!(files_with(&files, secret), Vec::<String>::new(), "{secret}");
        assert!(!weir.said().contains(secret), "{secret}");
    }
    // Its emails are in the queue's message, and in no line of the log either.
    assert!(!weir.said().contains("mallory."));
    assert!(!files_with(&files.join("log"), CONTROL).is_empty());

    // Nor is a word of theirs in the index of the search, which has all others.
    let found = |text: &str| {
        rows(&weir, &format!("SELECT count(*) AS events FROM search('{text}')"))[0]["events"]
            .clone()
    };
    assert_ne!(found(&format!("\"{CONTROL}\"")), 0);
    for word in ["hush", "mallory", "4539578763621486", "DE89370400440532013000"] {
        assert_eq!(found(word), 0, "{word}");
    }

    // What is left says what it was.
    let of = |path: &str| {
        let sql = format!(
            "SELECT payload_request AS request, payload_response AS response, url_path, url_query,
             http_request_header_referer AS referer, payload_request_headers AS headers,
             payload_response_headers AS told FROM events WHERE url_path LIKE '{path}'"
        );
        rows(&weir, &sql).remove(0)
    };
    let row = of("/kept/a/%");
    let expected = r#""user":{"password":"***","mail":"[email]"}"#;
    // serde_json's members are in the order of their names.
    let expected = expected
        .replace(r#""password":"***","mail":"[email]""#, r#""mail":"[email]","password":"***""#);
    let body = row["request"].as_str().unwrap();
    assert!(body.contains(&expected) && body.contains(r#""numbers":["[card]"]"#), "{body}");
    assert_eq!(row["request"], row["response"]);
    assert_eq!(row["url_query"], "access_token=***&mail=[email]");
    assert_eq!(row["referer"], "https://example.org/a?session=***");
    let headers: Value = serde_json::from_str(row["headers"].as_str().unwrap()).unwrap();
    for (name, value) in
        [("authorization", "***"), ("cookie", "***"), ("x-api-key", "***"), ("x-control", CONTROL)]
    {
        assert_eq!(headers[name], value, "{headers}");
    }
    let answered: Value = serde_json::from_str(row["told"].as_str().unwrap()).unwrap();
    assert_eq!(answered["set-cookie"], "***", "{answered}");
    let row = of("/kept/[email]");
    let expected = format!(
        "<order note=\"{CONTROL}\" pin=\"***\"><wsse:Password xmlns:wsse=\"urn:w\">***\
         </wsse:Password><card>[card]</card></order>"
    );
    assert_eq!(row["request"], expected);
    let row = of("/kept/form");
    let expected = format!("note={CONTROL}&client_secret=***&mail=[email]");
    assert_eq!(row["request"], expected);
    let row = of("/kept/reset/[token]");
    assert_eq!(row["response"], format!("{CONTROL}: [token] of [email], password: [token]"));
    assert_eq!(of("/kept/image")["request"], Value::Null);
    let row = of("/kept/b;jsessionid=[token]");
    assert_eq!(row["request"], json!({"note": CONTROL, "password": "***"}).to_string());
    // Where nothing is asked for, nothing of a body is kept.
    let row = of("/bare/form");
    for column in ["request", "response", "headers", "told"] {
        assert_eq!(row[column], Value::Null, "{column}");
    }
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_files_hold_for_their_apis_from_their_change_on() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let address = echo().await;
    let failures = api("failing", &address, "payload: {of: failures, bytes_max: 24}");
    let open = api("open", &address, "payload: {response: false}");
    apply(&weir, &[("failing.yaml", &failures), ("open.yaml", &open)]);
    let body = r#"{"customer":"KD-1234","orders":[{"iban":"DE1"},{"iban":"DE1"}],"sort_key":"a"}"#;
    let ask = async |path: &str, is_failure: bool| {
        let mut request = weir.client.post(weir.gateway(path)).body(body);
        request = request.header("content-type", "application/json");
        if is_failure {
            request = request.header("x-fail", "1");
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/open/before?sort_key=a", false).await, 200);
    // A rule that cannot hold changes nothing, and says why and where.
    let bad = "kind: redaction\nname: bad\nspec:\n  rules:\n  - field: url_paht\n  - regex: a*\n";
    let (code, said) = weir.run(&["apply", &weir.write("bad", &[("bad.yaml", bad)])]);
    assert_eq!(code, 2, "{said}");
    for part in [
        "bad.yaml:5:",
        "there is no field url_paht",
        "did you mean url_path?",
        "bad.yaml:6:",
        "also fits where there is nothing",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let rules = "kind: redaction\nname: house\nspec:\n  rules:\n  - {field: client_address, \
        action: shorten}\n  - {field: url_query, action: keep}\n---\n\
        kind: redaction\nname: orders\nspec:\n  apis: [open]\n  rules:\n  - {regex: \"KD-[0-9]+\"}\n  \
        - {json_path: \"$.orders[*].iban\", action: hash}\n";
    apply(&weir, &[("rules.yaml", rules)]);
    let of = async |path: &str| {
        let at = format!("FROM events WHERE url_path = '{path}'");
        until(&weir, &format!("SELECT count(*) AS events {at}"), |row| row["events"] == 1).await;
        let columns =
            "url_query, client_address, payload_request, payload_response, payload_truncated";
        rows(&weir, &format!("SELECT {columns} {at}")).remove(0)
    };
    // The gateway goes by them a moment after they are applied.
    let began = std::time::Instant::now();
    for number in 0.. {
        let path = format!("/open/until-{number}");
        assert_eq!(ask(&path, false).await, 200);
        if of(&path).await["client_address"] == "127.0.0.0" {
            break;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "they never hold");
    }
    assert_eq!(ask("/open/after?sort_key=a", false).await, 200);
    assert_eq!(ask("/failing/well", false).await, 200);
    assert_eq!(ask("/failing/badly", true).await, 500);
    let before = of("/open/before").await;
    assert_eq!(before["url_query"], "sort_key=***");
    assert_eq!(before["client_address"], "127.0.0.1");
    assert_eq!(
        (&before["payload_request"], &before["payload_response"]),
        (&json!(body), &json!(null))
    );
    let after = of("/open/after").await;
    assert_eq!(
        (&after["url_query"], &after["client_address"]),
        (&json!("sort_key=a"), &json!("127.0.0.0"))
    );
    let text = after["payload_request"].as_str().unwrap();
    let kept: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&kept["customer"], &kept["sort_key"]), (&json!("***"), &json!("a")));
    let ibans = &kept["orders"];
    assert!(ibans[0]["iban"].as_str().unwrap().starts_with("hash:"), "{text}");
    assert_eq!(ibans[0], ibans[1]);
    assert_eq!(of("/failing/well").await["payload_request"], json!(null));
    let failed = of("/failing/badly").await;
    // The rule is not this API's; of a body that was cut its last value is not kept.
    assert_eq!(failed["payload_request"], r#"{"customer":"KD-1234""#);
    assert_eq!(failed["payload_truncated"], true);
    // The same values have the same pseudonyms after a restart.
    weir.stop();
    weir.start(&[]);
    let again = weir.client.post(weir.gateway("/open/again")).body(body);
    let again = again.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(again.status(), 200);
    let at = "FROM events WHERE url_path = '/open/again'";
    until(&weir, &format!("SELECT count(*) AS events {at}"), |row| row["events"] == 1).await;
    let again = rows(&weir, &format!("SELECT payload_request {at}")).remove(0);
    assert_eq!(again["payload_request"], after["payload_request"]);
    weir.stop();
}
