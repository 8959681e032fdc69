//! Decisions against callers: what is refused, for how long, and what events say of it.

use std::time::Duration;

use gateway::keys::new_secret;
use ingest::decision::{self, Action, Decision, Lift, Maker, Mode, Subject, SubjectKind};
use ingest::event::{Event, Timestamp};
use ingest::registry::kind::Quota;

use crate::callers::{Keys, bearer, text};
use crate::world::{PATIENCE, World, ask, said, told};

const HOUR: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    use ingest::event::{Clock as _, SystemClock};
    SystemClock.now()
}

/// A person's, that blocks for an hour.
pub(crate) fn of(id: &str, kind: SubjectKind, subject: &str) -> Decision {
    Decision {
        id: id.to_owned(),
        subject: Subject::parse(kind, subject).unwrap(),
        action: Action::Block,
        mode: Mode::Enforce,
        maker: Maker::Person { by: "ada".to_owned(), note: String::new() },
        at: now(),
        until: now().after(HOUR),
    }
}

fn of_detection(id: &str, subject: &str) -> Decision {
    let maker = Maker::Detection("scanner".to_owned());
    Decision { maker, ..of(id, SubjectKind::Address, subject) }
}

impl World {
    pub(crate) async fn decide(&self, decisions: &[Decision]) {
        let records = decisions.iter().map(decision::made).collect();
        let appended = self.log.append(records).await.unwrap();
        assert!(self.decisions.read_to(appended.last().unwrap().offset + 1).await);
    }

    async fn lift(&self, id: &str) {
        let lift = Lift { by: "ada".to_owned(), note: String::new(), at: now() };
        let appended = self.log.append(vec![decision::lifted(id, &lift)]).await.unwrap();
        assert!(self.decisions.read_to(appended[0].offset + 1).await);
    }
}

fn request(client: &str) -> String {
    format!(
        "GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: {client}\r\n\r\n"
    )
}

/// Asks until the answer is the one: what was written is in force soon, not at once.
pub(crate) async fn until(expected: &str, ask: impl AsyncFn() -> String) -> String {
    let asking = async {
        loop {
            let answer = ask().await;
            if said(&answer) == expected {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never {expected}"))
}

async fn until_is(expected: &str, ask: impl AsyncFn() -> String) {
    let asking = async {
        while ask().await != expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never {expected}"));
}

fn line(event: &Event) -> String {
    let (id, action) = (text(&event.decision_id), text(&event.decision_action));
    let (state, client) = (text(&event.decision_state), text(&event.client_address));
    format!("{} {client} {id} {action} {state}", told(event))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_decided_of_is_refused_until_it_ends_or_is_lifted() {
    let world = World::new().await;
    let gateway = world
        .start_with(|config| config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()])
        .await;
    let address = gateway.addresses()[0];
    let get = async |client: &str| ask(address, request(client)).await;
    let slow = Action::Slow(Quota { max: 2, window_ms: 3_600_000 });
    let address_of = |id, subject| of(id, SubjectKind::Address, subject);
    world
        .decide(&[
            Decision { until: now(), ..address_of("over", "192.0.2.2") },
            Decision { mode: Mode::DryRun, ..address_of("tried", "198.51.100.0/24") },
            Decision { action: slow, ..address_of("slowed", "192.0.2.1") },
            address_of("proxy", "127.0.0.1"),
            address_of("blocked", "203.0.113.9"),
        ])
        .await;
    let answer = until("403 blocked", async || get("203.0.113.9").await).await;
    let wait = answer.split_once("retry-after: ").unwrap().1.split('\r').next().unwrap();
    assert!((3_590..=3_600).contains(&wait.parse::<u64>().unwrap()), "{answer}");
    assert!(!answer.contains("ada"), "who decided is not the caller's to know: {answer}");
    // What there is and what is not, it does not learn.
    for path in ["/nowhere", "/shop/1/x/../y", "/shop/2/x"] {
        let asked = request("203.0.113.9").replace("/shop/1/x", path);
        assert_eq!(said(&ask(address, asked).await), "403 blocked", "{path}");
    }
    for (client, expected) in [
        ("203.0.113.8", "200"),
        ("192.0.2.2", "200"),
        ("198.51.100.7", "200"),
        ("192.0.2.1", "200"),
        ("192.0.2.1", "200"),
        ("192.0.2.1", "429 throttled"),
        // Who came without a name has the proxy's address, as all have who do.
        ("nonsense", "200"),
    ] {
        assert_eq!(said(&get(client).await), expected, "{client}");
    }
    world.lift("blocked").await;
    until("200", async || get("203.0.113.9").await).await;
    // Nothing but the time ends it.
    let until_soon = now().after(Duration::from_millis(700));
    world.decide(&[Decision { until: until_soon, ..address_of("soon", "203.0.113.7") }]).await;
    until("403 blocked", async || get("203.0.113.7").await).await;
    until("200", async || get("203.0.113.7").await).await;

    let mut lines: Vec<String> =
        world.stop(gateway).await.iter().map(|event| line(event)).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(
        lines,
        [
            "denied blocked 203.0.113.7 soon block in_force",
            "denied blocked 203.0.113.9 blocked block in_force",
            "success 127.0.0.1 - - -",
            "success 192.0.2.1 - - -",
            "success 192.0.2.2 - - -",
            "success 198.51.100.7 tried block dry_run",
            "success 203.0.113.7 - - -",
            "success 203.0.113.8 - - -",
            "success 203.0.113.9 - - -",
            "throttled throttled 192.0.2.1 slowed slow in_force",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_detection_decides_is_under_the_safeguards_of_this_moment() {
    let world = World::new().await;
    let gateway = world
        .start_with(|config| config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()])
        .await;
    let address = gateway.addresses()[0];
    let get = async |client: &str| ask(address, request(client)).await;
    let state = async |expected: &str, client: &str| {
        until(expected, async || get(client).await).await;
    };
    let found = [of_detection("found", "203.0.113.9"), of_detection("net", "2001:db8:1::/64")];
    let said_by_ada = of("said", SubjectKind::Address, "192.0.2.2");
    world.decide(&[&found[..], &[said_by_ada]].concat()).await;
    state("403 blocked", "192.0.2.2").await;
    // Nobody has said that detections may refuse somebody.
    assert_eq!(said(&get("203.0.113.9").await), "200");
    world.put("on", &[r#"safeguard/all {"mode": "enforce"}"#]).await;
    state("403 blocked", "203.0.113.9").await;
    state("403 blocked", "2001:db8:1::7").await;
    // An address of a network that is blocked is protected, then all others are not.
    let never = r#"{"mode": "enforce", "never": {"addresses": ["2001:db8:1::7/128"]}}"#;
    world.replace("never", "safeguard/all", never).await;
    state("200", "2001:db8:1::7").await;
    assert_eq!(said(&get("2001:db8:1::8").await), "403 blocked");
    // One that says dry run is enough.
    world.put("off", &[r#"safeguard/other {"mode": "dry_run"}"#]).await;
    state("200", "203.0.113.9").await;
    // What a person says holds all the same.
    world.decide(&[of("too", SubjectKind::Address, "203.0.113.9")]).await;
    state("403 blocked", "203.0.113.9").await;
    let events = world.stop(gateway).await;
    let tried = events.iter().filter(|event| text(&event.decision_state) == "dry_run");
    assert!(tried.count() >= 2, "what would have been refused is told of");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_and_a_user_are_refused_wherever_they_come_from() {
    let world = World::empty().await;
    let ((secret, sha256), (other_secret, other)) = (new_secret(), new_secret());
    let application = |name: &str, sha256: &str| {
        let secrets = format!(r#"[{{"sha256": "{sha256}"}}]"#);
        format!(
            r#"application/{name} {{"owner": "ann", "scopes": ["read"], "secrets": {secrets}}}"#
        )
    };
    let subscription = |name: &str| {
        format!(r#"subscription/{name} {{"api": "shop", "application": "{name}", "tier": "all"}}"#)
    };
    world
        .put(
            "first",
            &[
                &world.upstream(""),
                r#"tier/all {"requests": {"max": 1000, "window_ms": 60000}}"#,
                r#"api/shop {"context": "/shop", "version": "1", "upstream": "u", "lifecycle": "published", "resources": [{"methods": ["GET"], "path": "/*"}]}"#,
                &application("web", &sha256),
                &application("till", &other),
                &subscription("web"),
                &subscription("till"),
            ],
        )
        .await;
    let keys = Keys::start(&world).await;
    let web = bearer(&keys.token("web", &secret).await);
    let till = bearer(&keys.token("till", &other_secret).await);
    let gateway = world.start_with(|config| config.auth.issuers = vec![keys.issuer()]).await;
    let address = gateway.addresses()[0];
    let get = async |token: &str| {
        let asked =
            format!("GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{token}\r\n");
        ask(address, asked).await
    };
    assert_eq!(said(&get(&web).await), "200");
    world.decide(&[of("a", SubjectKind::Application, "web")]).await;
    until("403 blocked", async || get(&web).await).await;
    assert_eq!(said(&get(&till).await), "200");
    // Nor is it given another token, though it proves itself; others are.
    let refused = keys.asked("web", &secret).await;
    assert_eq!((refused.0, &refused.1["error"]), (403, &"access_denied".into()));
    keys.token("till", &other_secret).await;
    world.lift("a").await;
    until("200", async || get(&web).await).await;
    // The subject of a token of client_credentials is the client.
    world.decide(&[of("u", SubjectKind::User, "till")]).await;
    until("403 blocked", async || get(&till).await).await;
    let never = r#"safeguard/ours {"mode": "enforce", "never": {"users": ["till"]}}"#;
    world.put("never", &[never]).await;
    until("200", async || get(&till).await).await;
    // Whose address is blocked tries no secret.
    world.decide(&[of("here", SubjectKind::Address, "127.0.0.1")]).await;
    let asked = async || keys.asked("web", "a wrong one").await.0.to_string();
    until_is("403", asked).await;
    let events = world.stop(gateway).await;
    let blocked = events.iter().find(|event| text(&event.decision_id) == "a").unwrap();
    assert_eq!(text(&blocked.decision_subject_kind), "application");
    assert_eq!(text(&blocked.app_name), "web", "whom it refuses is told of");
    keys.manager.shutdown().await;
}

/// Every request of a slowed caller counts, one that guesses tokens too; and dry run tells of
/// as many as would be refused.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_count_of_whom_a_decision_slows() {
    let world = World::empty().await;
    let api = r#"api/shop {"context": "/shop", "version": "1", "upstream": "u", "lifecycle": "published", "resources": [{"methods": ["GET"], "path": "/*"}]}"#;
    world.put("first", &[&world.upstream(""), api]).await;
    let gateway = world
        .start_with(|config| config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()])
        .await;
    let address = gateway.addresses()[0];
    let guess = async |client: &str| {
        let token = bearer("nonsense");
        ask(address, request(client).replace("host: a", &format!("host: a\r\n{}", token.trim())))
            .await
    };
    let slow = Action::Slow(Quota { max: 2, window_ms: 3_600_000 });
    let slowed =
        |id, mode, client| Decision { action: slow, mode, ..of(id, SubjectKind::Address, client) };
    world
        .decide(&[
            slowed("tried", Mode::DryRun, "192.0.2.2"),
            slowed("slowed", Mode::Enforce, "192.0.2.1"),
            of("blocked", SubjectKind::Address, "203.0.113.9"),
        ])
        .await;
    until("403 blocked", async || guess("203.0.113.9").await).await;
    for (client, expected) in [
        ("192.0.2.1", "401 token_malformed"),
        ("192.0.2.1", "401 token_malformed"),
        ("192.0.2.1", "429 throttled"),
        ("192.0.2.2", "401 token_malformed"),
        ("192.0.2.2", "401 token_malformed"),
        ("192.0.2.2", "401 token_malformed"),
    ] {
        assert_eq!(said(&guess(client).await), expected, "{client}");
    }
    let events = world.stop(gateway).await;
    let told = |id: &str| events.iter().filter(|of| text(&of.decision_id) == id).count();
    assert_eq!((told("slowed"), told("tried")), (1, 1));
    let throttled = events.iter().find(|event| text(&event.decision_id) == "slowed").unwrap();
    assert_eq!(text(&throttled.throttle_level), "decision");
    assert!(throttled.decision_subject.is_none(), "a rule may have taken it from the event");
}
