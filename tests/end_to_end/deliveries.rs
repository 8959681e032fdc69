//! Dead letters from the command line: seen, put back, dropped.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::weir::{PATIENCE, Weir};

/// A queue whose messages go out by a method, and a route into it.
fn returns(method: &str) -> String {
    format!(
        "kind: queue\nname: returns\nspec:\n  deliver: {{upstream: warehouse, method: {method}, \
         path: /warehouse/orders}}\n---\nkind: route\nname: return\nspec:\n  from:\n    http: {{methods: \
         [POST], path: /returns}}\n  steps:\n  - id: keep\n    store: {{queue: returns, key: \
         .customer}}\n"
    )
}

/// Waits until the command says so.
fn until(weir: &Weir, arguments: &[&str], expected: &str) -> String {
    let began = Instant::now();
    loop {
        let (code, said) = weir.run(arguments);
        if said.contains(expected) {
            assert_eq!(code, 0, "{said}");
            return said;
        }
        assert!(began.elapsed() < PATIENCE, "{arguments:?}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_put_back_from_the_command_line() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let dir = weir.write("returns", &[("returns.yaml", &returns("PUT"))]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    let url = format!("http://{}/returns", weir.mediator_address());
    let mut sent = Vec::new();
    for article in ["nut", "bolt"] {
        let order = json!({"customer": "ada", "article": article});
        let began = Instant::now();
        let answer = loop {
            let answer = weir.client.post(&url).json(&order).send().await.unwrap();
            // A route is there a moment after its configuration.
            if answer.status() != 404 || began.elapsed() > PATIENCE {
                break answer;
            }
        };
        assert_eq!(answer.status(), 202);
        let accepted: Value = answer.json().await.unwrap();
        sent.push((accepted["id"].as_str().unwrap().to_owned(), order));
    }
    let [(nut, order), (bolt, _)] = &sent[..] else { panic!("{sent:?}") };

    let said = until(&weir, &["deliveries", "list", "returns"], "2 dead letters in queue returns");
    let row = said.lines().find(|line| line.ends_with(nut.as_str())).expect(&said);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..4], ["refused", "405", "1"], "{said}");
    assert_eq!(cells[4], "ada", "{said}");
    let (code, said) = weir.run(&["deliveries", "--json", "list", "returns", "--limit", "1"]);
    let listed: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &listed["total"], &listed["letters"][0]["id"]), (0, &json!(2), &json!(nut)));
    let (code, said) = weir.run(&["deliveries", "show", "returns", nut]);
    assert!(code == 0 && said.ends_with(&format!("\n\n{order}\n")), "{said}");

    // What is asked for wrongly changes nothing.
    let refused = |arguments: &[&str], expected: &str| {
        let (code, said) = weir.run(arguments);
        assert!(code == 2 && said.contains(expected), "{arguments:?}: {code} {said}");
    };
    refused(
        &["deliveries", "list", "nothing"],
        "weir: there is no queue nothing (entity_not_found",
    );
    refused(&["deliveries", "list", "returns", "--limit", "0"], "0 is out of range; use 1 to 1000");
    refused(
        &["deliveries", "replay", "returns", nut, "none"],
        "weir: no dead letter of queue returns has the id none (entity_not_found",
    );
    refused(&["deliveries", "list", "a b"], "no queue is called so: ");
    refused(&["deliveries", "replay", "returns"], "<IDS|--all>");
    refused(&["deliveries", "drop", "returns", nut, "--all"], "cannot be used with");
    refused(
        &["deliveries", "replay", "returns", nut, "--body", "no.json"],
        "read the body no.json",
    );

    let (code, said) = weir.run(&["deliveries", "drop", "returns", bolt]);
    assert_eq!((code, said.as_str()), (0, "1 dead letter of queue returns dropped\n"));
    weir.write("returns", &[("returns.yaml", &returns("POST"))]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = weir.run(&["deliveries", "replay", "returns", "--all"]);
    assert_eq!((code, said.as_str()), (0, "1 dead letter put back into queue returns\n"));
    let began = Instant::now();
    loop {
        let url = weir.origin("/warehouse/orders");
        let taken: Value = weir.client.get(url).send().await.unwrap().json().await.unwrap();
        if taken == json!([{"id": nut, "order": order}]) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{taken}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, said) = weir.run(&["deliveries", "list", "returns"]);
    assert_eq!((code, said.as_str()), (0, "queue returns has no dead letters\n"));

    // Its account holds again, on the board: one delivered, one dead.
    let account = "SELECT count(DISTINCT messaging_message_id) AS messages, count(*) FILTER \
                   (WHERE kind = 'admin' AND admin_entity_kind = 'message') AS decisions FROM \
                   events WHERE delivery_queue = 'returns'";
    until(&weir, &["query", account], "| 2        | 2         |");
    weir.stop();
}
