//! Queues on the console: what is dead in them, and what people decide of it.

use std::time::{Duration, Instant};

use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::deliveries::{give_back, returns, until};
use crate::weir::{PATIENCE, Weir};

/// The program, with messages that are dead, since their target takes no such method.
async fn with_dead(orders: &[Value]) -> (Weir, String, Vec<String>) {
    let mut weir = Weir::new();
    weir.start(&[]);
    let dir = weir.write("returns", &[("returns.yaml", &returns("PUT"))]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    let mut ids = Vec::new();
    for order in orders {
        ids.push(give_back(&weir, order).await);
    }
    let all = format!("{} dead letters in queue returns", orders.len());
    until(&weir, &["deliveries", "list", "returns"], &all);
    (weir, dir, ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_shown_only_to_who_has_the_admin_token() {
    let orders = ["nut", "bolt"].map(|article| json!({"customer": "ada", "article": article}));
    let (mut weir, _, ids) = with_dead(&orders).await;
    let client = reqwest::Client::builder();
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let log_in = async |token: &str, next: &str| {
        let form = [("token", token), ("next", next)];
        let body = serde_urlencoded(&form);
        let asked = client.post(weir.console("/login")).body(body);
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let answer = asked.send().await.unwrap();
        let cookie = answer.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap());
        let cookie = cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned());
        (answer.status().as_u16(), cookie)
    };
    let (page, letter) = (
        weir.console("/queues/returns"),
        weir.console(&format!("/queues/returns/letter?id={}", ids[0])),
    );
    let get = async |url: &str, cookie: &str| {
        let answer = client.get(url).header("cookie", cookie).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let post = async |path: &str, cookie: &str, site: &str, body: String| {
        let asked = client.post(weir.console(path)).header("cookie", cookie).body(body);
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let answer = asked.header("sec-fetch-site", site).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    // What opens the boards opens no queue.
    let (status, reader) = log_in(&weir.read_token("console-token"), "/boards/traffic").await;
    let reader = reader.unwrap();
    assert_eq!(status, 303);
    assert_eq!(get(&weir.console("/boards/traffic"), &reader).await.0, 200);
    for url in [&weir.console("/queues"), &page, &letter] {
        let (status, said) = get(url, &reader).await;
        assert!(status == 401 && said.contains("admin-token") && !said.contains("nut"), "{said}");
    }
    let all = "do=replay-all&sure=1".to_owned();
    let decide = "/queues/returns/decide";
    assert_eq!(post(decide, &reader, "same-origin", all.clone()).await.0, 401);
    assert_eq!(log_in("wrong", "/queues").await, (401, None));
    // Nor does it lead round in a circle.
    assert_eq!(log_in(&weir.read_token("console-token"), "/queues").await, (403, None));

    // Nor what callers sent.
    let search = weir.console("/search?q=nut&within=all");
    let (status, said) = get(&search, &reader).await;
    assert!(status == 401 && said.contains("admin-token"), "{said}");
    assert_eq!(log_in(&weir.read_token("console-token"), "/search?q=nut").await, (403, None));

    let (status, operator) = log_in(&weir.read_token("admin-token"), "/queues").await;
    let operator = operator.unwrap();
    assert_eq!(status, 303);
    assert_eq!(get(&weir.console("/boards/traffic"), &operator).await.0, 200);
    let (status, said) = get(&weir.console("/queues"), &operator).await;
    assert!(status == 200 && said.contains("/queues/returns"), "{said}");
    let (status, said) = get(&page, &operator).await;
    assert!(status == 200 && said.contains(&ids[0]) && said.contains("HTTP 405"), "{said}");
    let (status, said) = get(&letter, &operator).await;
    assert!(status == 200 && said.contains("&quot;nut&quot;"), "{said}");

    // Nothing is done by a form that another page sends, nor by one that says nothing.
    for site in ["cross-site", "same-site"] {
        assert_eq!(post(decide, &operator, site, all.clone()).await.0, 403);
    }
    let (status, said) = post(decide, &operator, "same-origin", "do=drop".to_owned()).await;
    assert!(status == 200 && said.contains("Choose at least one message first."), "{said}");
    let (status, _) = post(decide, &operator, "same-origin", "do=burn&id=x".to_owned()).await;
    assert_eq!(status, 400);
    let (status, said) =
        post(decide, &operator, "same-origin", "do=replay&id=other".to_owned()).await;
    assert!(status == 404 && said.contains("no dead letter of queue returns has the id"), "{said}");
    // What ends a message is asked twice.
    let one = format!("do=drop&id={}", ids[1]);
    let (status, said) = post(decide, &operator, "same-origin", one).await;
    assert!(status == 200 && said.contains("Drop 1 dead letter?"), "{said}");
    until(&weir, &["deliveries", "list", "returns"], "2 dead letters in queue returns");
    let (status, said) = get(&weir.console("/queues/none"), &operator).await;
    assert!(status == 404 && said.contains("there is no queue none"), "{said}");
    weir.stop();
}

fn serde_urlencoded(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", value.replace('/', "%2F")));
    pairs.collect::<Vec<_>>().join("&")
}

pub(crate) async fn click(client: &Client, css: &str) {
    client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
}

/// Waits until the page has a text.
pub(crate) async fn reads(client: &Client, text: &str) -> String {
    let began = Instant::now();
    loop {
        if let Ok(main) = client.find(Locator::Css("main")).await
            && let Ok(page) = main.text().await
        {
            if page.contains(text) {
                return page;
            }
            assert!(began.elapsed() < PATIENCE, "{text}: {page}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_decided_of_in_a_browser() {
    let order = |customer: &str, article: &str| json!({"customer": customer, "article": article});
    let orders = [
        order("ada", "nut"),
        order("bob", "bolt"),
        order("cy", "screw"),
        order("dee", "washer"),
        order("eve", "nail"),
    ];
    let (mut weir, dir, ids) = with_dead(&orders).await;
    let browser = Browser::start().await;
    let client = &browser.client;
    client.goto(&weir.console("/queues")).await.unwrap();
    reads(client, "admin-token").await;
    browser.keep("queues-login").await;
    let token = client.find(Locator::Css("input[name=token]")).await.unwrap();
    token.send_keys(&weir.read_token("admin-token")).await.unwrap();
    click(client, "form button").await;
    reads(client, "What waits to be delivered").await;
    browser.keep("queues").await;
    client.find(Locator::LinkText("returns")).await.unwrap().click().await.unwrap();
    let page = reads(client, "Dead letters").await;
    for id in &ids {
        assert!(page.contains(id.as_str()), "{page}");
    }
    let look = "const wide = document.documentElement; return wide.scrollWidth - wide.clientWidth";
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("queue").await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("queue-narrow").await;
    client.set_window_size(1_280, 1_000).await.unwrap();

    // Paused, so that what is put back waits to be seen.
    let reason = client.find(Locator::Css("input[name=reason]")).await.unwrap();
    reason.send_keys("the warehouse is mended").await.unwrap();
    click(client, ".pausing button").await;
    reads(client, "the warehouse is mended").await;

    // One is chosen, and dropped.
    click(client, &format!("input[value=\"{}\"]", ids[4])).await;
    click(client, "button[value=drop]").await;
    reads(client, "Drop 1 dead letter?").await;
    browser.keep("queue-sure").await;
    click(client, ".question button").await;
    reads(client, "1 dead letter dropped.").await;

    // One is looked into, mended, and put back.
    client.find(Locator::LinkText(&ids[0])).await.unwrap().click().await.unwrap();
    reads(client, "A dead letter of").await;
    browser.keep("letter").await;
    let body = client.find(Locator::Css("textarea")).await.unwrap();
    assert_eq!(body.prop("value").await.unwrap().unwrap(), orders[0].to_string());
    body.clear().await.unwrap();
    body.send_keys("{\n  \"customer\": \"ada\",\n  \"article\": \"nut 5\"\n}").await.unwrap();
    click(client, "button[value=replay]").await;
    reads(client, "1 dead letter put back into the queue.").await;

    // Two are chosen; then all that are left.
    for id in &ids[1..3] {
        click(client, &format!("input[value=\"{id}\"]")).await;
    }
    click(client, "button[value=replay]").await;
    reads(client, "2 dead letters put back into the queue.").await;
    browser.keep("queue-paused").await;
    click(client, "button[value=replay-all]").await;
    reads(client, "Put back all dead letters?").await;
    click(client, ".question button").await;
    reads(client, "No message is dead.").await;

    weir.write("returns", &[("returns.yaml", &returns("POST"))]);
    assert_eq!(weir.run(&["apply", &dir]).0, 0);
    click(client, ".pausing button").await;
    reads(client, "delivers").await;
    let mut expected: Vec<Value> = ids.iter().zip(&orders).take(4).map(as_taken).collect();
    expected[0]["order"]["article"] = "nut 5".into();
    let began = Instant::now();
    loop {
        let url = weir.origin("/warehouse/orders");
        let mut taken: Vec<Value> =
            weir.client.get(url).send().await.unwrap().json().await.unwrap();
        taken.sort_by_key(|of| ids.iter().position(|id| of["id"] == id.as_str()));
        if taken == expected {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{taken:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let decided = "SELECT count(*) AS decisions FROM events WHERE kind = 'admin' AND \
                   delivery_queue = 'returns' AND admin_entity_kind = 'message'";
    until(&weir, &["query", decided], "| 5         |");
    browser.stop().await;
    weir.stop();
}

fn as_taken((id, order): (&String, &Value)) -> Value {
    json!({"id": id, "order": order})
}
