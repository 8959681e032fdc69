use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ingest::emit::{self, Emitter};
use ingest::event::{Event, Producer, SystemClock};
use ingest::http::Correlation;
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, NewRecord, Partition, ReadLimit, Scan, TopicSpec};
use rig::{Kept, Smtp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod emails;
mod settings;
mod webhook;

use super::note::{Note, Says};
use super::outbox::{Message, Target, What};
use super::*;
use crate::detect::{Alert, Column, State};
use crate::query::Severity;
use crate::run::ALERTS_TOPIC;
use crate::word::Word;

pub(super) fn alert(subject: &str) -> Alert {
    let column = |name: &str, value: serde_json::Value| Column { name: name.to_owned(), value };
    Alert {
        id: format!("{:0>32}", subject.replace('.', "")),
        revision: 1,
        state: State::Open,
        detection: "client_out_of_range".to_owned(),
        title: "A client left its usual range".to_owned(),
        severity: Severity::High,
        owner: "security".to_owned(),
        recipients: Vec::new(),
        replay_id: Some("may".to_owned()),
        subject_kind: "client_address".to_owned(),
        subject: subject.to_owned(),
        of_others: false,
        from: "2015-05-18T08:00:00Z".parse().unwrap(),
        until: "2015-05-18T09:00:00Z".parse().unwrap(),
        findings: 1,
        message: format!("{subject} sent 1208 requests within an hour <b>&</b> more."),
        evidence: vec![
            column("window_start", "2015-05-18T08:00:00Z".into()),
            column("client_address", subject.into()),
            column("requests", 1208.into()),
            column("requests_limit", 39.into()),
            column("learnt_from", "860 hours of clients of all kinds".into()),
        ],
        query: format!("SELECT event_time\nFROM events\nWHERE client_address = '{subject}'"),
        decision: None,
    }
}

/// What is said of an alert that opens.
fn opened(subject: &str) -> Note {
    let alert = alert(subject);
    Note { name: alert.id.clone(), alerts: vec![alert], says: Says::One(What::Opened) }
}

pub(super) fn mail(port: u16) -> Mail {
    Mail {
        host: "127.0.0.1".to_owned(),
        directory: None,
        port: Some(port),
        ..Mail::to_files(std::path::PathBuf::new())
    }
}

/// A log with alerts, and what tells of their sending.
struct World {
    log: std::sync::Arc<dyn EventLog>,
    emitter: Emitter,
    stop: watch::Sender<bool>,
    events: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let log: std::sync::Arc<dyn EventLog> = std::sync::Arc::new(EmbeddedLog::in_memory());
        for topic in [ALERTS_TOPIC, ACTS_TOPIC, OUTBOX_TOPIC] {
            log.create_topic(&TopicSpec::compacted(topic, 1)).await.unwrap();
        }
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new("node").unwrap();
        let one = std::num::NonZeroU32::new(1).unwrap();
        let settings = emit::Config::new(producer, dir.path().join("spool"), one);
        let (emitter, service) =
            emit::open(settings, log.clone(), std::sync::Arc::new(SystemClock)).unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let events = tokio::spawn(async move {
            let stop = Box::pin(async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
            service.run(stop).await.unwrap();
        });
        Self { log, emitter, stop, events, _dir: dir }
    }

    /// What a detection says of an alert.
    async fn say(&self, alert: &Alert) {
        let record = NewRecord::keyed(alert.id.clone(), serde_json::to_vec(alert).unwrap());
        self.log.append(vec![(Partition::new(ALERTS_TOPIC, 0), record)]).await.unwrap();
    }

    /// A node that sends emails; ends when it is dropped, as a kill would.
    fn node(&self, mail: &Mail) -> Node {
        self.telling(Some(mail), &[], &[])
    }

    fn telling(&self, mail: Option<&Mail>, webhooks: &[Webhook], routes: &[Route]) -> Node {
        let pause = Duration::from_millis(20);
        let senders = Senders::pausing(mail, webhooks, pause, Duration::from_secs(5)).unwrap();
        let routes = Routes::new(routes, mail, webhooks);
        let (log, emitter) = (self.log.clone(), self.emitter.clone());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(run(
            Parts { log, emitter, routes, senders: std::sync::Arc::new(senders) },
            stopped,
        ));
        Node { running, _stop: stop }
    }

    /// The messages of the outbox, by key, each as it is now.
    async fn messages(&self) -> BTreeMap<String, Message> {
        let mut messages = BTreeMap::new();
        let outbox = Partition::new(OUTBOX_TOPIC, 0);
        let mut scan = Scan::open(&*self.log, [outbox]).await.unwrap();
        while let Some(batch) = scan.next().await.unwrap() {
            for record in batch.records {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                messages.insert(key, serde_json::from_slice(&record.value.unwrap()).unwrap());
            }
        }
        messages
    }

    /// Waits until so many messages were sent or given up.
    async fn settled(&self, count: usize) {
        let began = Instant::now();
        loop {
            let messages = self.messages().await;
            let settled = messages.values().filter(|message| !message.is_waiting()).count();
            if settled >= count {
                assert_eq!(settled, count, "{messages:?}");
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{messages:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops, and answers the events of what was sent.
    async fn told(self) -> Vec<Event> {
        self.stop.send_replace(true);
        self.events.await.unwrap();
        let partition = Partition::new(emit::TOPIC, 0);
        let end = self.log.bounds(&partition).await.unwrap().end;
        let mut reader = self.log.reader(vec![(partition, 0)]).await.unwrap();
        let (mut events, mut next) = (Vec::new(), 0);
        while next < end {
            let Some(batch) = reader.next(ReadLimit::default()).await.unwrap() else { continue };
            next = batch.next;
            let of = batch.records.iter().filter_map(|record| record.value.as_ref());
            events.extend(of.map(|value| Event::from_json(value).unwrap()));
        }
        events.retain(|event: &Event| event.kind == ingest::event::Kind::Alert);
        events
    }
}

struct Node {
    running: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn header(kept: &Kept, name: &str) -> String {
    let line = kept.email.lines().find(|line| line.starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{}", kept.email))[name.len() + 2..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_one_email_over_nodes_and_restarts() {
    let (world, server) = (World::new().await, Smtp::start(&["--defer", "2"]).unwrap());
    let mail = mail(server.port());
    let (first, second) = (world.node(&mail), world.node(&mail));
    for (at, subject) in ["198.51.100.1", "198.51.100.2", "198.51.100.3"].iter().enumerate() {
        world.say(&alert(subject)).await;
        world.settled(at + 1).await;
    }
    drop(first);
    world.say(&alert("198.51.100.4")).await;
    world.settled(4).await;
    drop(second);
    let third = world.node(&mail);
    world.say(&alert("198.51.100.5")).await;
    world.settled(5).await;
    drop(third);

    let kept = server.kept().unwrap();
    let ids: Vec<String> = kept.iter().map(|kept| header(kept, "Message-ID")).collect();
    let expected = [1, 2, 3, 4, 5].map(|of| format!("<{:0>32}@example.org>", 198_511_000 + of));
    assert_eq!(ids, expected);
    assert!(kept.iter().all(|kept| kept.recipients == "security@example.org"));
    assert_eq!(header(&kept[0], "Auto-Submitted"), "auto-generated");
    let told = world.told().await;
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|event| event.alert_state.as_deref() == Some("notified")));
    server.stop().unwrap();
}

/// The one window in which SMTP can repeat: the server kept it, and its answer was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_whose_answer_was_lost_comes_again_by_the_same_id() {
    let (world, server) = (World::new().await, Smtp::start(&["--drop", "1"]).unwrap());
    let _node = world.node(&mail(server.port()));
    world.say(&alert("198.51.100.1")).await;
    world.settled(1).await;
    let kept = server.kept().unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(header(&kept[0], "Message-ID"), header(&kept[1], "Message-ID"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_recipient_stops_neither_others_nor_later_alerts() {
    let refuse = ["--refuse", "gone@example.org"];
    let (world, server) = (World::new().await, Smtp::start(&refuse).unwrap());
    let node = world.node(&mail(server.port()));
    let mut to_two = alert("198.51.100.1");
    to_two.recipients = vec!["gone@example.org".to_owned(), "here@example.org".to_owned()];
    world.say(&to_two).await;
    world.say(&alert("198.51.100.2")).await;
    world.settled(3).await;
    drop(node);
    let kept = server.kept().unwrap();
    let recipients: BTreeSet<&str> = kept.iter().map(|kept| kept.recipients.as_str()).collect();
    assert_eq!(Vec::from_iter(recipients), ["here@example.org", "security@example.org"]);
    assert_eq!(kept.len(), 2);
    let told = world.told().await;
    let failed: Vec<_> = told.iter().filter(|event| event.fault_message.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].alert_recipient.as_deref(), Some("gone@example.org"));
    assert!(failed[0].fault_message.as_deref().unwrap().contains("no such mailbox"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_who_is_held_back_holds_no_other_up() {
    let later = ["--later", "grey@example.org"];
    let (world, server) = (World::new().await, Smtp::start(&later).unwrap());
    let node = world.node(&mail(server.port()));
    let recipients = vec!["grey@example.org".to_owned(), "here@example.org".to_owned()];
    for subject in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        world.say(&Alert { recipients: recipients.clone(), ..alert(subject) }).await;
    }
    world.settled(3).await;
    drop(node);
    let kept = server.kept().unwrap();
    let recipients: Vec<&str> = kept.iter().map(|kept| kept.recipients.as_str()).collect();
    assert_eq!(recipients, ["here@example.org"; 3]);
    let waiting: Vec<String> = world
        .messages()
        .await
        .into_values()
        .filter(Message::is_waiting)
        .map(|message| message.to.to_string())
        .collect();
    assert_eq!(waiting, ["grey@example.org"; 3]);
    server.stop().unwrap();
}

/// It goes up step by step, stops at the word of somebody, and all who know hear of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_goes_up_until_somebody_looks_at_it() {
    let (world, server) = (World::new().await, Smtp::start(&[]).unwrap());
    let step = |after_ms, email: &str| Escalation {
        after_ms,
        emails: vec![email.to_owned()],
        webhooks: Vec::new(),
    };
    let route = Route {
        escalate: vec![step(4_000, "lead@example.org"), step(8_000, "boss@example.org")],
        ..Route::default()
    };
    let mail = mail(server.port());
    let first = world.telling(Some(&mail), &[], std::slice::from_ref(&route));
    let live = Alert { replay_id: None, ..alert("198.51.100.1") };
    world.say(&live).await;
    world.settled(1).await;
    drop(first);
    let _second = world.telling(Some(&mail), &[], &[route]);
    world.settled(2).await;

    let table = AlertTable::default();
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(table.clone().follow(world.log.clone(), stopped));
    let (log, emitter) = (world.log.clone(), world.emitter.clone());
    let desk = Desk { log, table: table.clone(), emitter, service: "test" };
    let journey = Correlation::of(&axum::http::HeaderMap::new(), || 1);
    let word = |by: &str| Word { by: by.to_owned(), note: "a customer's test".to_owned() };
    while table.alert(&live.id).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let unknown = desk.acknowledge("0", word("ann"), &journey).await;
    assert!(matches!(unknown, Err(DeskError::Unknown(_))), "{unknown:?}");
    let nobody = desk.acknowledge(&live.id, word(" "), &journey).await;
    assert!(matches!(nobody, Err(DeskError::Invalid(_))), "{nobody:?}");
    let told = desk.acknowledge(&live.id, word("ann"), &journey).await.unwrap();
    // The first word stays.
    let again = desk.acknowledge(&live.id, word("bob"), &journey).await.unwrap();
    assert_eq!((told.by.as_str(), &again), ("ann", &told));
    // The second step would have been 4 s after the first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.settled(2).await;
    world.say(&Alert { state: State::Resolved, revision: 2, ..live.clone() }).await;
    world.settled(4).await;
    while table.alert(&live.id).is_some_and(|(alert, _)| alert.state == State::Open) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let over = desk.acknowledge(&live.id, word("bob"), &journey).await;
    assert_eq!(over.unwrap(), told, "the word stands");
    stop.send_replace(true);
    following.await.unwrap();

    let kept = server.kept().unwrap();
    let subject = |kept: &Kept| {
        let subject = header(kept, "Subject");
        subject[..=subject.find(']').unwrap()].to_owned()
    };
    let (first, last): (Vec<&Kept>, Vec<&Kept>) =
        (kept[..2].iter().collect(), kept[2..].iter().collect());
    let of = |kept: &&Kept| (kept.recipients.clone(), subject(kept));
    assert_eq!(
        first.iter().map(of).collect::<Vec<_>>(),
        [
            ("security@example.org".to_owned(), "[high]".to_owned()),
            ("lead@example.org".to_owned(), "[high, not acknowledged]".to_owned()),
        ]
    );
    let mut last_told: Vec<_> = last.iter().map(of).collect();
    last_told.sort();
    let resolved = |of: &str| (of.to_owned(), "[resolved]".to_owned());
    assert_eq!(last_told, [resolved("lead@example.org"), resolved("security@example.org")]);
    for later in &kept[1..] {
        let first_id = format!("<{}@example.org>", live.id);
        assert_eq!(header(later, "In-Reply-To"), first_id);
        assert_ne!(header(later, "Message-ID"), first_id);
    }
    let states: Vec<_> = world.told().await.iter().map(|event| event.alert_state.clone()).collect();
    let states: Vec<&str> = states.iter().flatten().map(|state| &**state).collect();
    assert_eq!(states, ["notified", "escalated", "resolved", "resolved"]);
    server.stop().unwrap();
}

/// At any moment, also between the server's answer and the note of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_end_while_they_send_lose_nothing_and_repeat_one_email_at_most() {
    const ALERTS: usize = 60;
    let (world, server) = (World::new().await, Smtp::start(&["--defer", "5"]).unwrap());
    let mail = mail(server.port());
    let mut nodes = vec![world.node(&mail), world.node(&mail)];
    let mut ends = 0;
    for at in 0..ALERTS {
        world.say(&alert(&format!("198.51.100.{at}"))).await;
        if at % 6 == 5 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..200))).await;
            drop(nodes.remove(0));
            nodes.push(world.node(&mail));
            ends += 1;
        }
    }
    world.settled(ALERTS).await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for kept in server.kept().unwrap() {
        *times.entry(header(&kept, "Message-ID")).or_default() += 1;
    }
    assert_eq!(times.len(), ALERTS);
    let repeated: usize = times.values().map(|times| times - 1).sum();
    assert!(repeated <= ends, "{repeated} of {ends} ends: {times:?}");
    server.stop().unwrap();
}

/// One that takes the connection and is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_is_tried_again_for_a_day() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mail = mail(silent.local_addr().unwrap().port());
    let pause = Duration::from_millis(20);
    let senders = Senders::pausing(Some(&mail), &[], pause, Duration::from_millis(200)).unwrap();
    let (note, to) = (opened("x"), Target::Email("a@example.org".to_owned()));
    // It was due a day ago, but for a second and a half.
    let due_ms = owner::now_ms() - 24 * 3_600_000 + 1_500;
    let sending = tokio::spawn(async move { senders.send(&note, &to, due_ms).await });
    let mut taken = Vec::new();
    while !sending.is_finished() {
        let next = tokio::time::timeout(Duration::from_millis(50), silent.accept()).await;
        taken.extend(next.map(Result::unwrap));
    }
    let why = sending.await.unwrap().unwrap_err();
    assert!(why.contains("the server did not answer within"), "{why}");
    assert!(taken.len() > 1, "it was not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_waited_for() {
    let world = World::new().await;
    let port = rig::free_ports(1).unwrap()[0];
    let _node = world.node(&mail(port));
    world.say(&alert("198.51.100.1")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let server = Smtp::start_at(port, &[]).unwrap();
    world.settled(1).await;
    assert_eq!(server.kept().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls_and_a_login_are_used_and_no_less() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = write("certificate.pem", &made.cert.pem());
    let key = write("key.pem", &made.signing_key.serialize_pem());
    let (certificate_path, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let arguments =
        ["--certificate", certificate_path, "--key", key, "--password", "correct horse"];
    let (world, server) = (World::new().await, Smtp::start(&arguments).unwrap());
    let secure = Mail {
        host: "localhost".to_owned(),
        security: Security::Starttls,
        ca_file: Some(certificate.clone()),
        username: Some("weir".to_owned()),
        password_file: Some(write("password", "correct horse\n")),
        ..mail(server.port())
    };
    assert_eq!(secure.faults(), []);
    let node = world.node(&secure);
    world.say(&alert("198.51.100.1")).await;
    world.settled(1).await;
    assert_eq!(server.kept().unwrap().len(), 1);
    drop(node);

    // A server without STARTTLS gets nothing, and a strange certificate no password.
    let plain = Smtp::start(&[]).unwrap();
    let clear = Mail { port: Some(plain.port()), ..secure.clone() };
    let strange = Mail { ca_file: None, ..secure.clone() };
    // A login that is refused is mended some day: no alert is lost by it.
    let wrong = Mail { password_file: Some(write("wrong", "battery staple\n")), ..secure };
    for mail in [clear, strange, wrong] {
        let pause = Duration::from_millis(50);
        let senders = Senders::pausing(Some(&mail), &[], pause, Duration::from_secs(5)).unwrap();
        let (note, to) = (opened("x"), Target::Email("a@example.org".to_owned()));
        let sending = senders.send(&note, &to, i64::MAX);
        let sent = tokio::time::timeout(Duration::from_secs(1), sending).await;
        assert!(sent.is_err(), "{:?}: {sent:?}", mail.password_file);
    }
    assert!(plain.kept().unwrap().is_empty());
    assert_eq!(server.kept().unwrap().len(), 1);
}
