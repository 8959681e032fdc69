//! Queues from the command line: what waits and what is dead, and what becomes of it.

use std::time::{Duration, Instant};

use ingest::event::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::weir::{PATIENCE, Weir};

/// A queue whose messages go out by a method, and a route into it.
pub(crate) fn returns(method: &str) -> String {
    format!(
        "kind: queue\nname: returns\nspec:\n  deliver: {{upstream: warehouse, method: {method}, \
         path: /warehouse/orders}}\n---\nkind: route\nname: return\nspec:\n  from:\n    http: {{methods: \
         [POST], path: /returns}}\n  steps:\n  - id: keep\n    store: {{queue: returns, key: \
         .customer}}\n"
    )
}

/// Sends a message by the route: its id.
pub(crate) async fn give_back(weir: &Weir, order: &Value) -> String {
    let url = format!("http://{}/returns", weir.mediator_address());
    let began = Instant::now();
    let answer = loop {
        let answer = weir.client.post(&url).json(order).send().await.unwrap();
        // A route is there a moment after its configuration.
        if answer.status() != 404 || began.elapsed() > PATIENCE {
            break answer;
        }
    };
    assert_eq!(answer.status(), 202);
    let accepted: Value = answer.json().await.unwrap();
    accepted["id"].as_str().unwrap().to_owned()
}

/// Waits until the command says so.
pub(crate) fn until(weir: &Weir, arguments: &[&str], expected: &str) -> String {
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
    let mut sent = Vec::new();
    for article in ["nut", "bolt"] {
        let order = json!({"customer": "ada", "article": article});
        sent.push((give_back(&weir, &order).await, order));
    }
    let [(nut, order), (bolt, _)] = &sent[..] else { panic!("{sent:?}") };

    let said = until(&weir, &["deliveries", "list", "returns"], "2 dead letters in queue returns");
    let row = said.lines().find(|line| line.ends_with(nut.as_str())).expect(&said);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..5], ["refused", "405", "-", "1"], "{said}");
    assert_eq!(cells[5], "ada", "{said}");
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
    refused(&["deliveries", "list", "a b"], "invalid value 'a b' for '<QUEUE>'");
    refused(&["deliveries", "replay", "returns"], "<IDS|--all|--since <TIME>|");
    refused(&["deliveries", "replay", "returns", "--since", "today"], "died_since: ");
    refused(&["deliveries", "drop", "returns", "--sql", "SELECT 1"], "the query answers no texts");
    refused(&["deliveries", "drop", "returns", "--sql", "SELEKT"], "query_invalid");
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
    // What the events say was dead, of which one is settled already.
    let dead = "SELECT DISTINCT messaging_message_id FROM events WHERE delivery_outcome = 'dead' \
                AND delivery_key = 'ada'";
    let replay = ["deliveries", "replay", "returns", "--sql", dead];
    until(&weir, &replay, "1 dead letter put back into queue returns");
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

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_decided_of_from_the_command_line() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let held = returns("PUT").replace("  deliver:", "  on_exhausted: hold\n  deliver:");
    let dir = weir.write("returns", &[("returns.yaml", &held)]);
    assert_eq!(weir.run(&["apply", &dir]).0, 0);
    let mut ids = Vec::new();
    for customer in ["ada", "bob", "cy"] {
        let order = json!({"customer": customer, "article": "nut"});
        ids.push(give_back(&weir, &order).await);
    }
    let [ada, bob, _] = &ids[..] else { panic!("{ids:?}") };
    let began = Instant::now();
    let said = loop {
        let said =
            until(&weir, &["deliveries", "waiting", "returns"], "3 messages in queue returns");
        // An attempt that is under way is listed too.
        if said.matches(" held ").count() == 3 {
            break said;
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
    };
    let row = said.lines().find(|line| line.ends_with(ada.as_str())).expect(&said);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..5], ["held", "-", "1", "ada"], "{said}");
    let (code, said) = weir.run(&["deliveries", "queues"]);
    let row = said.lines().find(|line| line.starts_with("returns")).expect(&said);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((code, &cells[1..6]), (0, &["3", "0", "0", "0", "3"][..]), "{said}");

    let (code, said) = weir.run(&["deliveries", "pause", "returns", "--reason", "it moves"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("queue returns is paused; weir deliveries resume returns"), "{said}");
    let (code, said) = weir.run(&["deliveries", "queues", "returns"]);
    assert!(code == 0 && said.contains("by admin: it moves"), "{said}");
    // What was configured stays so beside it.
    let (code, said) = weir.run(&["apply", &dir]);
    assert!(code == 0 && said.contains("nothing to change"), "{said}");
    let (code, said) = weir.run(&["deliveries", "give-up", "returns", ada, "none"]);
    assert!(code == 2 && said.contains("waits with the id none"), "{code} {said}");
    let (code, said) = weir.run(&["deliveries", "give-up", "returns", ada]);
    assert_eq!(
        (code, said.as_str()),
        (0, "1 message of queue returns will be given up, to the dead letters\n")
    );
    let (code, said) = weir.run(&["deliveries", "resume", "returns"]);
    assert_eq!((code, said.as_str()), (0, "queue returns goes on\n"));
    until(&weir, &["deliveries", "list", "returns"], "1 dead letter in queue returns");
    let (code, said) = weir.run(&["deliveries", "retry", "returns", bob]);
    assert_eq!((code, said.as_str()), (0, "1 message of queue returns will be tried again\n"));
    // The target still refuses it.
    until(&weir, &["deliveries", "waiting", "returns"], "2 messages in queue returns");
    let (code, said) = weir.run(&["deliveries", "retry", "returns", bob, "--held"]);
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    until(&weir, &["deliveries", "queues", "--json"], "\"held\":2");
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scheduled_or_has_ended_is_sent_from_the_command_line() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let text = returns("POST")
        .replace("  deliver:", "  history_ms: 3600000\n  deliver:")
        .replace(".customer}", ".customer, deliver_at: .at}");
    let dir = weir.write("returns", &[("returns.yaml", &text)]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 0, "{said}");
    let url = format!("http://{}/returns", weir.mediator_address());
    let due = SystemClock.now().after(Duration::from_secs(86_400)).to_string();
    for id in ["one", "two"] {
        let order = json!({"customer": "ada", "article": id, "at": due});
        let began = Instant::now();
        let answer = loop {
            let request = weir.client.post(&url).header("idempotency-key", id).json(&order);
            let answer = request.send().await.unwrap();
            if answer.status() != 404 || began.elapsed() > PATIENCE {
                break answer;
            }
        };
        assert_eq!(answer.status(), 202);
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told, json!({"id": id, "due": due}));
    }
    let run = |arguments: &[&str]| weir.run(&[&["deliveries"], arguments].concat());
    let (code, said) = run(&["scheduled", "returns"]);
    assert!(code == 0 && said.ends_with("2 scheduled messages in queue returns\n"), "{said}");
    assert!(said.contains(&due), "{said}");
    let (code, said) = run(&["queues", "returns"]);
    assert!(code == 0 && said.contains("scheduled"), "{said}");
    let (code, said) = run(&["retry", "returns", "one"]);
    assert_eq!((code, said.as_str()), (0, "1 message of queue returns will be tried again\n"));
    let (code, said) = run(&["give-up", "returns", "two"]);
    assert_eq!(code, 0, "{said}");
    until(&weir, &["deliveries", "list", "returns"], "given_up");
    until(&weir, &["deliveries", "history", "returns"], "1 message in queue returns");
    let (code, said) = run(&["scheduled", "returns"]);
    assert_eq!((code, said.as_str()), (0, "no message of queue returns is scheduled\n"));

    let (code, said) = run(&["resend", "returns", "one"]);
    assert_eq!((code, said.as_str()), (0, "1 message sent again into queue returns\n"));
    let delivered = "SELECT DISTINCT messaging_message_id FROM events \
                     WHERE delivery_queue = 'returns' AND delivery_outcome = 'delivered'";
    let again = ["deliveries", "resend", "returns", "--new-ids", "--sql", delivered];
    until(&weir, &again, "1 message sent again into queue returns");
    for (arguments, expected) in [
        (&["resend", "returns"][..], "<IDS|--since <TIME>|"),
        (&["resend", "returns", "one", "--since", "x"], "cannot be used with"),
        (&["resend", "returns", "--since", "today"], "since: "),
        (&["resend", "returns", "none"], "has no message with the id none"),
        (&["resend", "returns", "one", "--to", "no"], "there is no queue no (entity_not_found"),
        (&["history", "orders"], "queue orders keeps no history; give it a history_ms"),
        (&["scheduled", "returns", "--limit", "0"], "0 is out of range; use 1 to 1000"),
    ] {
        let (code, said) = run(arguments);
        assert!(code == 2 && said.contains(expected), "{arguments:?}: {code} {said}");
    }
    let account = "SELECT accepted, delivered, waiting, dead, identity FROM delivery_account";
    let query = ["query", account, "--format", "csv"];
    until(&weir, &query, "3,2,0,1,holds");
    weir.stop();
}
