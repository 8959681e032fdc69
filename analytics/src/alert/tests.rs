use ingest::emit::{self, Emitter};
use ingest::event::{Event, Producer, SystemClock};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Headers, NewRecord, Partition, ReadLimit, TopicSpec};
use rig::{Kept, Smtp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod webhook;

use super::*;
use crate::detect::{Alert, Column, State};
use crate::query::Severity;
use crate::run::NOTICES_TOPIC;

fn alert(subject: &str) -> Alert {
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
    }
}

fn mail(port: u16) -> Mail {
    Mail {
        host: "127.0.0.1".to_owned(),
        directory: None,
        port: Some(port),
        ..Mail::to_files(std::path::PathBuf::new())
    }
}

/// A log with notices, and what tells of their sending.
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
        log.create_topic(&TopicSpec::kept(NOTICES_TOPIC, 1)).await.unwrap();
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

    async fn notice(&self, alert: &Alert) {
        let value = Some(serde_json::to_vec(alert).unwrap().into());
        let record = NewRecord { key: None, value, headers: Headers::default() };
        self.log.append(vec![(Partition::new(NOTICES_TOPIC, 0), record)]).await.unwrap();
    }

    /// A node that sends; ends when it is dropped, as a kill would.
    fn node(&self, mail: &Mail) -> Node {
        self.sending(Sender::mail(mail).unwrap())
    }

    fn sending(&self, sender: Sender) -> Node {
        let sender = sender.pausing(std::time::Duration::from_millis(20));
        let sender = std::sync::Arc::new(sender);
        let parts = Parts { log: self.log.clone(), emitter: self.emitter.clone(), sender };
        let (stop, stopped) = watch::channel(false);
        Node { running: tokio::spawn(run(parts, stopped)), _stop: stop }
    }

    async fn committed(&self, offset: u64) {
        self.committed_by("weir.alert-mail", offset).await;
    }

    async fn committed_by(&self, group: &str, offset: u64) {
        let partition = Partition::new(NOTICES_TOPIC, 0);
        let began = std::time::Instant::now();
        while self.log.committed(group, &partition).await.unwrap() != Some(offset) {
            assert!(began.elapsed().as_secs() < 30, "nothing was sent up to {offset}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Stops, and answers the events of notices.
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
        world.notice(&alert(subject)).await;
        world.committed(at as u64 + 1).await;
    }
    drop(first);
    world.notice(&alert("198.51.100.4")).await;
    world.committed(4).await;
    drop(second);
    let third = world.node(&mail);
    world.notice(&alert("198.51.100.5")).await;
    world.committed(5).await;
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
    world.notice(&alert("198.51.100.1")).await;
    world.committed(1).await;
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
    world.notice(&to_two).await;
    world.notice(&alert("198.51.100.2")).await;
    world.committed(2).await;
    drop(node);
    let kept = server.kept().unwrap();
    let recipients: Vec<&str> = kept.iter().map(|kept| kept.recipients.as_str()).collect();
    assert_eq!(recipients, ["here@example.org", "security@example.org"]);
    let told = world.told().await;
    let failed: Vec<_> = told.iter().filter(|event| event.fault_message.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].alert_recipient.as_deref(), Some("gone@example.org"));
    assert!(failed[0].fault_message.as_deref().unwrap().contains("no such mailbox"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_waited_for() {
    let world = World::new().await;
    let port = rig::free_ports(1).unwrap()[0];
    let _node = world.node(&mail(port));
    world.notice(&alert("198.51.100.1")).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let server = Smtp::start_at(port, &[]).unwrap();
    world.committed(1).await;
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
    world.notice(&alert("198.51.100.1")).await;
    world.committed(1).await;
    assert_eq!(server.kept().unwrap().len(), 1);
    drop(node);

    // A server without STARTTLS gets nothing, and a strange certificate no password.
    let plain = Smtp::start(&[]).unwrap();
    let clear = Sender::mail(&Mail { port: Some(plain.port()), ..secure.clone() }).unwrap();
    let strange = Sender::mail(&Mail { ca_file: None, ..secure }).unwrap();
    for sender in [clear, strange] {
        let (sender, alert) = (sender.pausing(std::time::Duration::from_secs(9)), alert("x"));
        let sending = sender.send(&alert, "a@example.org");
        let sent = tokio::time::timeout(std::time::Duration::from_millis(500), sending);
        assert!(!matches!(sent.await, Ok(Ok(()))));
    }
    assert!(plain.kept().unwrap().is_empty());
    assert_eq!(server.kept().unwrap().len(), 1);
}

#[test]
fn an_email_says_what_happened_and_runs_nothing() {
    let email = compose(&alert("198.51.100.1"));
    let expected = "[high] A client left its usual range: 198.51.100.1 (replay may)";
    assert_eq!(email.subject, expected);
    for expected in [
        "sent 1208 requests within an hour",
        "Window       2015-05-18 08:00:00 UTC to 2015-05-18 09:00:00 UTC",
        "Replay       may: replayed history, not live traffic",
        "requests             1,208",
        "requests limit       39",
        "WHERE client_address = '198.51.100.1'",
    ] {
        assert!(email.text.contains(expected), "{expected}\n{}", email.text);
    }
    assert!(email.html.contains("&lt;b&gt;&amp;&lt;/b&gt; more."), "{}", email.html);
    assert!(email.html.contains("1,208") && !email.html.contains("<script"));
    let hostile = compose(&alert("x\r\nBcc: all@example.org <script>"));
    assert!(!hostile.subject.contains(['\r', '\n']));
    assert!(!hostile.html.contains("<script"));
}

#[test]
fn settings_that_cannot_be_are_told_of() {
    let bad = Mail {
        host: "mail.example.org".to_owned(),
        from: "nobody".to_owned(),
        recipients: Vec::new(),
        username: Some("weir".to_owned()),
        ca_file: Some("/nowhere/ca.pem".into()),
        ..mail(25)
    };
    let faults = bad.faults();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        ["mail.from", "mail.recipients", "mail.security", "mail.username", "mail.ca_file"]
    );
    assert_eq!(mail(25).faults(), []);
    let paths = |of: Mail| of.faults().into_iter().map(|of| of.path).collect::<Vec<_>>();
    let directory = Some("/var/mail/weir".into());
    assert_eq!(paths(Mail { directory: directory.clone(), ..mail(25) }), ["mail.host"]);
    assert_eq!(paths(Mail { host: String::new(), ..mail(25) }), ["mail.host"]);
    assert_eq!(paths(Mail { host: String::new(), directory, ..mail(25) }), [""; 0]);
}

#[tokio::test]
async fn without_a_server_each_alert_is_a_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("mail");
    let sender = Sender::mail(&Mail::to_files(directory.clone())).unwrap();
    for subject in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let sent = sender.send(&alert(subject), "../sec urity@example.org").await;
        assert!(sent.is_err(), "it is no address: {sent:?}");
        sender.send(&alert(subject), "security@example.org").await.unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|of| of.unwrap()).collect();
    files.sort_by_key(std::fs::DirEntry::path);
    assert_eq!(files.len(), 2, "{files:?}");
    for (file, subject) in files.iter().zip(["192.0.2.1", "192.0.2.2"]) {
        let name = file.file_name().into_string().unwrap();
        assert_eq!(name, format!("{}.security@example.org.eml", alert(subject).id));
        let email = std::fs::read_to_string(file.path()).unwrap();
        assert!(email.starts_with("From: Weir <weir@example.org>\r\n"), "{email}");
        assert!(email.contains(subject) && email.contains("multipart/alternative"), "{email}");
    }
}
