//! What detections decide: within the safeguards, once, over kills.

use std::collections::{BTreeMap, BTreeSet};

use ingest::decision::{
    Action, Decision, Decisions, Lift, Maker, Mode, SubjectKind, TOPIC as DECISIONS_TOPIC, lifted,
    made,
};
use ingest::event::{Clock as _, ManualClock};
use ingest::log::Writer;
use ingest::registry::{
    Change as Put, ChangeSet, Json, Kind as EntityKind, Outcome as Judged, Proposer, Topics, View,
    no_deep_check, run_applier,
};

use super::*;
use crate::detect::{Change, DecidedState, State};
use crate::query::Act;
use crate::run::decider::Verdicts;

const HALF_HOUR: Duration = Duration::from_secs(1_800);

/// [`DETECTION`], that decides.
fn deciding() -> String {
    let header = "-- quiet: 2 min\n-- action: {block: address, for: 30 min}";
    DETECTION.replace("-- quiet: 2 min", header)
}

/// A registry with some entities, and what judges it.
async fn registry(
    log: &Arc<dyn EventLog>,
    entities: &[(EntityKind, &str)],
) -> (View, JoinHandle<()>) {
    let topics = Topics::default();
    topics.create(&**log).await.unwrap();
    let applier = tokio::spawn(run_applier(log.clone(), topics.clone(), no_deep_check));
    let view = View::open(log.clone(), topics.clone()).await.unwrap();
    if entities.is_empty() {
        return (view, applier);
    }
    let proposer = Proposer::new(log.clone(), topics, Duration::from_secs(10));
    let put = |(kind, spec): &(EntityKind, &str)| {
        let spec = Json(serde_json::from_str(spec).unwrap());
        Put::Put { kind: *kind, name: "all".parse().unwrap(), expected: None, spec }
    };
    let changes = entities.iter().map(put).collect();
    let (author, message) = ("a test".to_owned(), "entities".to_owned());
    let set = ChangeSet { id: "one".parse().unwrap(), author, message, changes };
    let verdict = Box::pin(proposer.propose(&set)).await.unwrap();
    let Judged::Accepted { revision, .. } = verdict.outcome else { panic!("{verdict:?}") };
    view.wait_for(revision).await.unwrap();
    (view, applier)
}

const ENFORCE: &str = r#"{"mode": "enforce"}"#;
const LOUD: &str = "198.51.100.200";

/// Five requests of one client at once.
async fn burst(traffic: &mut Traffic) {
    let mut events = Vec::new();
    for _ in 0..5 {
        let mut event = traffic.event("a", 0, traffic.now, Kind::Request);
        event.client_address = Some(LOUD.into());
        events.push(event);
    }
    traffic.append(events).await;
}

/// Each live alert has its decision, no replayed one has; each is written once for each time
/// that it ends at, though its makers are killed; and the alert says what was decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_is_decided_of_once_over_kills_and_owners() {
    let dir = tempfile::tempdir().unwrap();
    let mut traffic = Traffic::new(7).await;
    let log = traffic.log.clone();
    let spec = r#"{"mode": "enforce", "decisions_max": 9000, "decisions_of_detection_max": 9000}"#;
    let (_view, applier) = registry(&log, &[(EntityKind::Safeguard, spec)]).await;
    let (name, text) = ("deciding", deciding());
    let given = [(name, text.as_str())];
    let mut node = Node::with(&log, dir.path(), (1, &given)).await;
    while !checkpointed(&log).await.iter().any(|of| of == name) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..8 {
        traffic.requests(60).await;
        traffic.all(Kind::Heartbeat).await;
        let wait = traffic.rng.u64(0..150);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let next = Node::with(&log, dir.path(), (1, &given));
        if traffic.rng.bool() {
            // Another waits for its turn, and takes over.
            let next = next.await;
            node.kill().await;
            node = next;
        } else {
            node.kill().await;
            node = next.await;
        }
    }
    // One whose alert goes on: it is found now, and again below.
    traffic.now = (traffic.now.div_euclid(60 * S) + 2) * 60 * S;
    burst(&mut traffic).await;
    traffic.now += 121 * S;
    traffic.all(Kind::Heartbeat).await;
    let is_of_it = |of: &Alert| of.subject == LOUD && of.detection == name;
    let began = std::time::Instant::now();
    while !values::<Alert>(&log, ALERTS_TOPIC).await.iter().any(is_of_it) {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Somebody takes all of them back while nobody runs the queries.
    node.kill().await;
    let before = values::<Decision>(&log, DECISIONS_TOPIC).await;
    let told_before = values::<Alert>(&log, ALERTS_TOPIC).await.len();
    let taken_back: BTreeSet<&String> = before.iter().map(|of| &of.id).collect();
    let lift =
        Lift { by: "ada".to_owned(), note: String::new(), at: Timestamp::from_micros(BEGIN) };
    log.append(taken_back.iter().map(|id| lifted(id, &lift)).collect()).await.unwrap();
    let node = Node::with(&log, dir.path(), (1, &given)).await;
    burst(&mut traffic).await;
    for _ in 0..2 {
        traffic.requests(60).await;
        traffic.all(Kind::Heartbeat).await;
    }
    traffic.end_replay().await;
    traffic.now += 600 * S;
    traffic.all(Kind::Heartbeat).await;
    let own = |alerts: Vec<Alert>| -> Vec<Alert> {
        alerts.into_iter().filter(|of| of.detection == name && of.replay_id.is_none()).collect()
    };
    // Every live alert is over in the end, and the replay is answered.
    let began = std::time::Instant::now();
    let mut alerts = BTreeMap::new();
    let mut has_replay = false;
    while !has_replay
        || alerts.is_empty()
        || alerts.values().any(|of: &Alert| of.state == State::Open)
    {
        assert!(began.elapsed() < Duration::from_secs(30), "{alerts:#?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
        let all = values::<Alert>(&log, ALERTS_TOPIC).await;
        has_replay = all.iter().any(|of| of.replay_id.is_some());
        alerts = own(all).into_iter().map(|of| (of.id.clone(), of)).collect();
    }
    assert!(alerts.len() > 5, "{} alerts", alerts.len());
    let written = values::<serde_json::Value>(&log, DECISIONS_TOPIC).await.into_iter();
    let written: Vec<Decision> = written.filter_map(|of| serde_json::from_value(of).ok()).collect();
    let mut ends: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for of in &written {
        assert_eq!(of.maker, Maker::Detection(name.to_owned()));
        assert_eq!((of.action, of.mode), (Action::Block, Mode::Enforce));
        ends.entry(of.id.clone()).or_default().push(of.until);
    }
    let ids = |of: Vec<&String>| -> Vec<String> { of.into_iter().cloned().collect() };
    assert_eq!(ids(ends.keys().collect()), ids(alerts.keys().collect()));
    for (id, ends) in &ends {
        assert!(ends.is_sorted_by(|a, b| a < b), "{id} was written more than once: {ends:?}");
        let alert = &alerts[id];
        if taken_back.contains(id) {
            continue;
        }
        assert_eq!(*ends.last().unwrap(), alert.until.after(HALF_HOUR), "{alert:#?}");
        let decision = alert.decision.as_ref().expect("the alert says it");
        assert_eq!((decision.state, decision.until), (DecidedState::InForce, ends.last().copied()));
    }
    let all = values::<Alert>(&log, ALERTS_TOPIC).await;
    // Who took over knows what was taken back.
    let later = all[told_before..].iter().filter(|of| of.subject == LOUD && of.detection == name);
    let later: Vec<&Alert> = later.filter(|of| of.state == State::Open).collect();
    assert!(!later.is_empty(), "something was found of those that were taken back");
    for of in later {
        let decision = of.decision.as_ref().expect("the alert says it");
        assert_eq!(decision.state, DecidedState::Lifted, "{of:#?}");
    }
    assert!(ends.keys().any(|id| !taken_back.contains(id)), "and of others");
    assert!(all.iter().all(|of| of.replay_id.is_none() || of.decision.is_none()));
    // What is there is known to every node.
    assert_eq!(node.decisions.all().len(), ends.len());
    node.stop().await;
    applier.abort();
}

/// A decider under a safeguard, at [`BEGIN`], and what it has written.
struct Bench {
    decider: Decider,
    clock: Arc<ManualClock>,
    log: Arc<dyn EventLog>,
    writer: Box<dyn Writer>,
    applier: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(entities: &[(EntityKind, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        log.create_topic(&TopicSpec::kept(TOPIC, PARTITIONS.get())).await.unwrap();
        let decisions = Decisions::open(&*log).await.unwrap();
        let (view, applier) = registry(&log, entities).await;
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(BEGIN)));
        let emitter = emitter(dir.path(), &log);
        let decider = Decider { decisions, view, emitter, clock: clock.clone() };
        let writer = log.writer("of the test").await.unwrap();
        Self { decider, clock, log, writer, applier, _dir: dir }
    }

    /// Takes a finding about somebody, in a window that ended `ago` before [`BEGIN`]; says what
    /// the alert tells of it.
    async fn find(&mut self, id: &str, subject: &str, ago: i64) -> Option<String> {
        let alert = alert(id, subject, BEGIN - ago * S);
        self.change(Change { alert, opens: true }).await
    }

    async fn change(&mut self, change: Change) -> Option<String> {
        let lasts = HALF_HOUR;
        let act = Act { against: SubjectKind::Address, action: Action::Block, lasts };
        let mut verdicts = Verdicts::default();
        let mut changes = [change];
        self.decider.decide(Some(&act), &mut changes, &mut verdicts);
        self.decider.commit(verdicts, &mut *self.writer).await.unwrap();
        let [change] = changes;
        change.alert.decision.map(|of| of.sentence(|at| at.to_string()[11..19].to_owned()))
    }

    /// How many records of decisions there are, and of what takes them back.
    async fn written(&self) -> usize {
        values::<serde_json::Value>(&self.log, DECISIONS_TOPIC).await.len()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.applier.abort();
    }
}

fn alert(id: &str, subject: &str, until: i64) -> Alert {
    Alert {
        id: id.to_owned(),
        revision: 1,
        state: State::Open,
        detection: "scanner".to_owned(),
        title: "t".to_owned(),
        severity: crate::query::Severity::High,
        owner: "o".to_owned(),
        recipients: Vec::new(),
        replay_id: None,
        subject_kind: "client_address".to_owned(),
        subject: subject.to_owned(),
        of_others: false,
        from: Timestamp::from_micros(until - 60 * S),
        until: Timestamp::from_micros(until),
        findings: 1,
        message: "m".to_owned(),
        evidence: Vec::new(),
        query: "q".to_owned(),
        decision: None,
    }
}

#[tokio::test]
async fn nothing_is_refused_until_an_operator_says_so() {
    let mut bench = Bench::new(&[]).await;
    let found = bench.find("a", "203.0.113.9", 60).await;
    let says = "would be blocked until 00:29:00 (dry run: nothing is refused)";
    assert_eq!(found.as_deref(), Some(says));
    assert_eq!(bench.decider.decisions.get("a").unwrap().0.mode, Mode::DryRun);
}

#[tokio::test]
async fn a_decision_lasts_from_the_last_finding_on_and_stays_lifted() {
    let mut bench = Bench::new(&[(EntityKind::Safeguard, ENFORCE)]).await;
    let says = async |bench: &mut Bench, ago, expected: &str| {
        assert_eq!(bench.find("a", "203.0.113.9", ago).await.as_deref(), Some(expected));
    };
    says(&mut bench, 60, "blocked until 00:29:00").await;
    // The same again, as after a kill, is written no second time.
    says(&mut bench, 60, "blocked until 00:29:00").await;
    assert_eq!(bench.written().await, 1);
    says(&mut bench, 0, "blocked until 00:30:00").await;
    assert_eq!(bench.written().await, 2);
    let lift = Lift { by: "ada".to_owned(), note: "ours".to_owned(), at: bench.clock.now() };
    bench.log.append(vec![lifted("a", &lift)]).await.unwrap();
    bench.decider.catch_up(&*bench.log).await.unwrap();
    says(&mut bench, -60, "no more blocked; lifted by ada: ours").await;
    // As long as it is found, it is known that it was lifted: a week after the lift, and longer.
    assert_eq!(bench.written().await, 4);
    let (held, lift) = bench.decider.decisions.get("a").unwrap();
    assert_eq!((held.until, lift.is_some()), (Timestamp::from_micros(BEGIN + 1_860 * S), true));
    // Another alert of the same subject is decided of anew.
    let found = bench.find("b", "203.0.113.9", -120).await;
    assert_eq!(found.as_deref(), Some("blocked until 00:32:00"));
}

/// Windows that close in one step are of one alert, and of one decision.
#[tokio::test]
async fn what_one_step_finds_twice_is_made_once() {
    let mut bench = Bench::new(&[(EntityKind::Safeguard, ENFORCE)]).await;
    let act = Act { against: SubjectKind::Address, action: Action::Block, lasts: HALF_HOUR };
    let change =
        |until, opens| Change { alert: alert("a", "203.0.113.9", BEGIN + until * S), opens };
    let (mut changes, mut verdicts) = ([change(0, true), change(60, false)], Verdicts::default());
    bench.decider.decide(Some(&act), &mut changes, &mut verdicts);
    assert_eq!(verdicts.told(), ["made", "prolonged"]);
    bench.decider.commit(verdicts, &mut *bench.writer).await.unwrap();
    let (decision, _) = bench.decider.decisions.get("a").unwrap();
    assert_eq!(decision.until, Timestamp::from_micros(BEGIN + 1_860 * S));
}

#[tokio::test]
async fn some_are_never_decided_of() {
    let never = r#"{"mode": "enforce", "never": {"addresses": ["203.0.113.0/28"]}}"#;
    let mut bench = Bench::new(&[(EntityKind::Safeguard, never)]).await;
    let check = async |bench: &mut Bench, change: &dyn Fn(&mut Alert), expected: Option<&str>| {
        let mut alert = alert("a", "198.51.100.7", BEGIN);
        change(&mut alert);
        let found = bench.change(Change { alert, opens: true }).await;
        assert_eq!(found.as_deref(), expected);
        assert_eq!(bench.written().await, 0);
    };
    let protected = Some("not blocked: a safeguard protects the subject");
    check(&mut bench, &|of| of.subject = "203.0.113.9".to_owned(), protected).await;
    check(&mut bench, &|of| of.subject = "203.0.113.0/24".to_owned(), protected).await;
    let no_address = Some(
        "not blocked: it is no address: give an address, or a network as 192.0.2.0/24 or \
         2001:db8:1::/48",
    );
    check(&mut bench, &|of| of.subject = "orders".to_owned(), no_address).await;
    let many = Some("not blocked: too many alerts of the detection are open for one of each");
    check(&mut bench, &|of| of.of_others = true, many).await;
    check(&mut bench, &|of| of.replay_id = Some("may".to_owned()), None).await;
    check(&mut bench, &|of| of.state = State::Resolved, None).await;
    // The events do not say who it is.
    let rules = r#"{"rules": [{"field": "client_address", "action": "shorten"}]}"#;
    let rules = [(EntityKind::Safeguard, ENFORCE), (EntityKind::Redaction, rules)];
    let mut blind = Bench::new(&rules).await;
    let redacted = Some("not blocked: a rule of redaction takes client_address from the events");
    check(&mut blind, &|_| {}, redacted).await;
    // Long ago, as where a detection learns from history.
    let old = Timestamp::from_micros(BEGIN - 1_800 * S);
    check(&mut bench, &|of| of.until = old, None).await;
}

#[tokio::test]
async fn a_detection_that_runs_wild_is_held_back_and_others_are_not() {
    let caps = r#"{"mode": "enforce", "decisions_max": 4, "decisions_of_detection_max": 3}"#;
    let mut bench = Bench::new(&[(EntityKind::Safeguard, caps)]).await;
    for i in 0..3 {
        let found = bench.find(&format!("a{i}"), &format!("203.0.113.{i}"), 0).await;
        assert_eq!(found.as_deref(), Some("blocked until 00:30:00"));
    }
    let full = "not blocked: 3 decisions of this detection are in force; more may not be";
    assert_eq!(bench.find("a3", "203.0.113.3", 0).await.as_deref(), Some(full));
    // Those that are there go on.
    let longer = bench.find("a0", "203.0.113.0", -60).await;
    assert_eq!(longer.as_deref(), Some("blocked until 00:31:00"));
    let other = |id: &str, subject: &str| {
        let mut alert = alert(id, subject, BEGIN);
        alert.detection = "scraping".to_owned();
        Change { alert, opens: true }
    };
    assert_eq!(
        bench.change(other("b", "198.51.100.1")).await.as_deref(),
        Some("blocked until 00:30:00")
    );
    let full = "not blocked: 4 decisions of detections are in force; more may not be";
    assert_eq!(bench.change(other("c", "198.51.100.2")).await.as_deref(), Some(full));
    // What a person decided takes nobody's place.
    let maker = Maker::Person { by: "ada".to_owned(), note: String::new() };
    let (held, _) = bench.decider.decisions.get("b").unwrap();
    let own = Decision { id: "own".to_owned(), maker, ..held };
    bench.log.append(vec![made(&own)]).await.unwrap();
    bench.decider.catch_up(&*bench.log).await.unwrap();
    bench.clock.set(Timestamp::from_micros(BEGIN + 1_800 * S));
    // Those that are over have made room: all but the one that lasts longer.
    let found = bench.find("a3", "203.0.113.3", -1_800).await;
    assert_eq!(found.as_deref(), Some("blocked until 01:00:00"));
}

#[tokio::test]
async fn whoever_has_a_network_of_ipv6_takes_one_place() {
    let caps = r#"{"mode": "enforce", "decisions_of_detection_max": 2}"#;
    let mut bench = Bench::new(&[(EntityKind::Safeguard, caps)]).await;
    for i in 1..9 {
        let found = bench.find(&format!("a{i}"), &format!("2001:db8::{i}"), 0).await;
        assert_eq!(found.as_deref(), Some("blocked until 00:30:00"));
        let (decision, _) = bench.decider.decisions.get(&format!("a{i}")).unwrap();
        assert_eq!(decision.subject.name(), "2001:db8::/64");
    }
    let found = bench.find("b", "203.0.113.9", 0).await;
    assert_eq!(found.as_deref(), Some("blocked until 00:30:00"));
    let full = "not blocked: 2 decisions of this detection are in force; more may not be";
    assert_eq!(bench.find("c", "203.0.113.8", 0).await.as_deref(), Some(full));
}
