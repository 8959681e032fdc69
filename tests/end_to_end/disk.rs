//! A disk that is full, and then is not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::deliveries::{give_back, returns};
use crate::replay::until;
use crate::weir::{PATIENCE, Weir};

/// The log takes two files of 64 MiB ahead; a third one only without what is taken.
const DISK_MIB: usize = 260;
const TAKEN_MIB: usize = 70;
const MESSAGE_BYTES: usize = 800 * 1024;
/// So many are refused one after another before the disk counts as full.
const REFUSED: usize = 20;
const SENT_MAX: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_it_cannot_keep_and_goes_on_with_room() {
    let mut weir = Weir::new();
    let taken = weir.start_on_small_disk(DISK_MIB, TAKEN_MIB);
    let dir = weir.write("returns", &[("returns.yaml", &returns("POST"))]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    let url = format!("http://{}/returns", weir.mediator_address());
    let note = "x".repeat(MESSAGE_BYTES);
    let order = |number: usize| json!({"customer": format!("c{}", number % 7), "article": note});
    let mut accepted = BTreeSet::from([give_back(&weir, &order(0)).await]);
    let mut refused = 0;
    for number in 1.. {
        assert!(number < SENT_MAX, "the disk does not become full");
        let answer = weir.client.post(&url).json(&order(number)).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        if status == 202 {
            accepted.insert(answer["id"].as_str().unwrap().to_owned());
            refused = 0;
            continue;
        }
        // The message has no room, or its event has none.
        let codes = [json!("queue_unavailable"), json!("events_unavailable")];
        assert!(status == 503 && codes.contains(&answer["code"]), "{status} {answer}");
        refused += 1;
        if refused == REFUSED {
            break;
        }
    }
    assert!(accepted.len() > 20, "{} were accepted", accepted.len());
    assert!(weir.said().contains("free some space, the log then goes on by itself"));
    // What needs no new room goes on.
    let (code, said) = weir.run(&["deliveries", "queues"]);
    assert!(code == 0 && said.contains("returns"), "{said}");

    std::fs::remove_file(taken).unwrap();
    accepted.insert(accepted_again(&weir, &order(0)).await);
    // All of it is delivered, and accounted for.
    let account = "SELECT * FROM delivery_account WHERE queue = 'returns'";
    let is_even = |of: &Value| of["identity"] == "holds" && of["delivered"] == of["accepted"];
    let account = until(&weir, account, is_even).await;
    let url = weir.origin("/warehouse/orders");
    let orders: Vec<Value> = weir.client.get(url).send().await.unwrap().json().await.unwrap();
    let taken: BTreeSet<String> =
        orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<&String> = accepted.difference(&taken).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", accepted.len());
    assert_eq!(account["delivered"], taken.len(), "{account}");
    weir.stop();
}

/// Sends until there is room again.
async fn accepted_again(weir: &Weir, order: &Value) -> String {
    let url = format!("http://{}/returns", weir.mediator_address());
    let began = Instant::now();
    loop {
        let answer = weir.client.post(&url).json(order).send().await.unwrap();
        if answer.status() == 202 {
            let accepted: Value = answer.json().await.unwrap();
            return accepted["id"].as_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "{}", weir.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
