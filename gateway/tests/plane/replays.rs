//! Requests of a replay: told of as they were, and believed by the credential alone.

use gateway::Config;
use ingest::decision::SubjectKind;
use ingest::event::{Event, Kind};

use crate::decisions::{of, until};
use crate::world::{ANY, World, ask, said, shop, told};

const CREDENTIAL: &str = "a-credential-of-more-than-32-characters";

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n")
}

fn replayed(credential: &str, client: &str) -> String {
    format!(
        "weir-replay-credential: {credential}\r\nweir-replay-id: may\r\n\
         weir-replay-time: 2015-05-17T10:05:03Z\r\nweir-replay-client: {client}\r\n\
         weir-replay-status: 404\r\nweir-replay-size: 17\r\n"
    )
}

fn with_token(world: &World) -> impl FnOnce(&mut Config) {
    let file = world.dir.path().join("replay-token");
    std::fs::write(&file, format!("{CREDENTIAL}\n")).unwrap();
    move |config| config.replay_token_file = Some(file)
}

/// An API for clients of one network alone.
async fn with_a_network() -> World {
    let world = World::empty().await;
    let upstream = world.upstream("");
    let allow = r#""allow": ["192.0.2.0/24"],"#;
    world.put("first", &[&upstream, &shop(allow, ANY)]).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_request_is_told_of_as_it_was() {
    let world = with_a_network().await;
    let gateway = world.start_with(with_token(&world)).await;
    let address = gateway.addresses()[0];
    let get = |headers: &str| ask(address, request("GET", "/shop/1/x", headers));
    assert_eq!(said(&get(&replayed(CREDENTIAL, "192.0.2.7")).await), "200");
    // Rules see the client that is named.
    assert_eq!(said(&get(&replayed(CREDENTIAL, "203.0.113.9")).await), "403 address_not_allowed");
    assert_eq!(said(&get(&replayed("guessed", "192.0.2.7")).await), "403 replay_denied");
    let without = replayed(CREDENTIAL, "192.0.2.7").replace("credential", "unknown");
    assert_eq!(said(&get(&without).await), "403 address_not_allowed");

    assert_eq!(world.origin.count(), 1, "the others went no further");
    let seen = &world.origin.seen()[0];
    assert_eq!(seen.header("weir-replay-status"), Some("404"));
    assert_eq!(seen.header("weir-replay-size"), Some("17"));
    assert_eq!(seen.header("weir-replay-id"), Some("may"));
    for secret in ["credential", "time", "client", "unknown"] {
        assert_eq!(seen.header(&format!("weir-replay-{secret}")), None);
    }
    let events = world.stop(gateway).await;
    let line = |event: &Event| {
        let then = event.event_time.to_string().starts_with("2015-05-17T10:05:03");
        let (replay, client) = (event.replay_id.as_deref(), event.client_address.as_deref());
        let peer = event.network_peer_address.as_deref();
        assert_eq!(peer, Some("127.0.0.1"), "who really sent it is known");
        format!("{} {} {} {then}", told(event), replay.unwrap_or("live"), client.unwrap_or("-"))
    };
    let mut lines: Vec<String> = events.iter().map(|event| line(event)).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "denied address_not_allowed live 127.0.0.1 false",
            "denied address_not_allowed may 203.0.113.9 true",
            "denied replay_denied live 127.0.0.1 false",
            "success may 192.0.2.7 true",
        ]
    );
}

/// Whom a decision is against now is not who called then.
#[tokio::test(flavor = "multi_thread")]
async fn no_decision_of_this_moment_refuses_a_replay() {
    let world = with_a_network().await;
    let gateway = world.start_with(with_token(&world)).await;
    let address = gateway.addresses()[0];
    let get = |headers: &str| ask(address, request("GET", "/shop/1/x", headers));
    let blocked = ["192.0.2.7", "127.0.0.1"].map(|of_it| of(of_it, SubjectKind::Address, of_it));
    world.decide(&blocked).await;
    until("403 blocked", async || get("").await).await;
    assert_eq!(said(&get(&replayed(CREDENTIAL, "192.0.2.7")).await), "200");
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_of_its_own_a_gateway_takes_no_replay() {
    let world = with_a_network().await;
    let gateway = world.start().await;
    let asked = request("GET", "/shop/1/x", &replayed(CREDENTIAL, "192.0.2.7"));
    assert_eq!(said(&ask(gateway.addresses()[0], asked).await), "403 replay_denied");
    let end = request("POST", "/.weir/replays/may/end", &replayed(CREDENTIAL, "192.0.2.7"));
    assert_eq!(said(&ask(gateway.addresses()[0], end).await), "403 replay_denied");
    world.stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_replay_is_in_the_log_when_it_is_answered() {
    let world = World::new().await;
    let gateway = world.start_with(with_token(&world)).await;
    let address = gateway.addresses()[0];
    let asked = request("GET", "/shop/1/x", &replayed(CREDENTIAL, "192.0.2.7"));
    assert_eq!(said(&ask(address, asked).await), "200");
    let post = |path: &str| ask(address, request("POST", path, &replayed(CREDENTIAL, "192.0.2.7")));
    assert_eq!(said(&post("/.weir/replays/other/end").await), "404 resource_not_found");
    assert_eq!(said(&post("/.weir/replays/may/flush").await), "204");
    assert_eq!(said(&post("/.weir/replays/may/end").await), "204");
    // Without a stop: what was answered is there.
    let mut events = world.events().await;
    events.retain(|event| event.replay_id.as_deref() == Some("may"));
    let kinds: Vec<_> = events.iter().map(|event| (event.kind, event.source_partition)).collect();
    assert_eq!(kinds, [(Kind::Request, None), (Kind::ReplayEnded, Some(0))]);
    world.stop(gateway).await;
}
