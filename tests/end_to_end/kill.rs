//! kill -9 of the whole program under traffic.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use ingest::event::Kind;
use serde_json::{Value, json};

use crate::example::events;
use crate::replay::until;
use crate::weir::{PATIENCE, Weir};

const KILLS: usize = 3;

/// What arrived: per id the attempts, and the order of first arrivals.
#[derive(Default)]
struct Received {
    order: Vec<(String, Value)>,
    ids: HashSet<String>,
}

type Shared = Arc<Mutex<Received>>;

async fn receive(State(received): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers["idempotency-key"].to_str().unwrap().to_owned();
    let order: Value = serde_json::from_slice(&body).unwrap();
    let mut received = received.lock().unwrap();
    if received.ids.insert(id.clone()) {
        received.order.push((id, order));
    }
    StatusCode::NO_CONTENT
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_202_is_delivered_in_order_whatever_is_killed() {
    let received = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = listener.local_addr().unwrap();
    let router = Router::new().fallback(post(receive)).with_state(received.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let mut weir = Weir::new();
    weir.start(&[]);
    let token = weir.token(&weir.secret()).await;
    let warehouse = format!(
        "kind: upstream\nname: warehouse\nspec: {{targets: [{{url: 'http://{receiver}'}}]}}\n"
    );
    let tier = "kind: tier\nname: gold\nspec: {requests: {max: 1000000, window_ms: 60000}}\n";
    let dir = weir.write("own", &[("warehouse.yaml", &warehouse), ("tier.yaml", tier)]);
    assert_eq!(weir.run(&["apply", &dir]).0, 0);

    // Each customer sends one order after another. One that is not answered is sent
    // again, under its id and correlation id, until it is.
    let weir = Arc::new(tokio::sync::RwLock::new(weir));
    let is_over = Arc::new(AtomicBool::new(false));
    let customers: Vec<_> = ["ada", "ben", "cid"]
        .map(|customer| tokio::spawn(order(customer, weir.clone(), token.clone(), is_over.clone())))
        .into();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(300..900))).await;
        // In the middle of what is under way.
        let mut weir = weir.write().await;
        tokio::task::block_in_place(|| {
            weir.kill();
            weir.start(&[]);
        });
    }
    // However slow the machine is, it is traffic.
    let began = Instant::now();
    while received.lock().unwrap().order.len() <= 100 && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::Relaxed);
    let mut accepted: HashMap<&str, Vec<String>> = HashMap::new();
    let mut resent = 0;
    for customer in customers {
        let (customer, ids, again) = customer.await.unwrap();
        accepted.insert(customer, ids);
        resent += again;
    }
    let mut weir = Arc::into_inner(weir).unwrap().into_inner();
    let count: usize = accepted.values().map(Vec::len).sum();
    assert!(count > 100, "{count} orders are no traffic");
    let began = Instant::now();
    while received.lock().unwrap().order.len() < count {
        let arrived = received.lock().unwrap().order.len();
        assert!(began.elapsed() < PATIENCE, "{arrived} of {count} arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (customer, ids) in &accepted {
        let received = received.lock().unwrap();
        let of_customer = received.order.iter().filter(|(_, order)| order["customer"] == *customer);
        let arrived: Vec<&String> = of_customer.map(|(id, _)| id).collect();
        assert_eq!(arrived, ids.iter().collect::<Vec<_>>(), "{customer}");
    }

    let account = "SELECT max(identity) AS identity, max(delivered) AS delivered,
        max(accepted) AS accepted FROM delivery_account";
    let account = until(&weir, account, |of| of["identity"] == "holds" && of["delivered"] == count);
    assert_eq!(account.await["accepted"], count);

    weir.stop();
    let events = events(&weir).await;
    // Every answer that a customer had has its event; an event without an answer is
    // of a request that was under way at a kill, and was sent again.
    let answered: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == Kind::Request)
        .filter(|event| event.http_response_status_code == Some(202))
        .filter_map(|event| event.correlation_id.as_ref().map(|id| id.as_str()))
        .collect();
    let distinct: HashSet<&str> = answered.iter().copied().collect();
    assert_eq!(distinct.len(), count);
    assert!(answered.len() <= count + resent, "{} events, {resent} sent again", answered.len());
    assert!(events.iter().all(|event| event.kind != Kind::Loss));
}

/// One customer's orders: the ids that were answered 202, in order, and how many
/// requests were sent again.
async fn order(
    customer: &'static str,
    weir: Arc<tokio::sync::RwLock<Weir>>,
    token: String,
    is_over: Arc<AtomicBool>,
) -> (&'static str, Vec<String>, usize) {
    let (mut ids, mut resent) = (Vec::new(), 0);
    let client = reqwest::Client::new();
    let url = weir.read().await.gateway("/shop/orders");
    while !is_over.load(Ordering::Relaxed) {
        let id = format!("{customer}-{}", ids.len());
        let order = json!({"customer": customer, "number": ids.len()});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = client.post(&url).bearer_auth(&token).json(&order);
            let request = request.header("idempotency-key", &id).header("x-correlation-id", &id);
            match request.send().await {
                Ok(response) if response.status() == 202 => break,
                // The program is starting, or was killed.
                Ok(response) => assert!(response.status().is_server_error(), "{response:?}"),
                Err(_) => {}
            }
            resent += 1;
            assert!(Instant::now() < deadline, "{id} is never answered");
            // Not before it runs again.
            drop(weir.read().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ids.push(id);
    }
    (customer, ids, resent)
}
