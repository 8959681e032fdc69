//! What emails say.

use super::{alert, opened};
use crate::alert::compose::compose;
use crate::alert::note::{Note, Says};
use crate::alert::outbox::{Target, What};
use crate::alert::{Mail, Senders};
use crate::detect::{Alert, State};
use crate::query::Severity;

#[test]
fn an_email_says_what_happened_and_runs_nothing() {
    let email = compose(&opened("198.51.100.1"), None, None);
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
    let hostile = compose(&opened("x\r\nBcc: all@example.org <script>"), None, None);
    assert!(!hostile.subject.contains(['\r', '\n']));
    assert!(!hostile.html.contains("<script"));
}

/// What is gathered, what is over, and what nobody acknowledged.
#[test]
fn an_email_says_what_has_become_of_alerts() {
    let console = Some("https://weir.example.org");
    let live = |subject: &str| Alert { replay_id: None, findings: 3, ..alert(subject) };
    let over = |subject: &str| Alert { state: State::Resolved, ..live(subject) };
    let of = |alerts: Vec<Alert>, says| Note { name: "n".to_owned(), alerts, says };
    let escalated = Says::One(What::Escalated(1));
    for (note, subject, expected) in [
        (
            of(vec![live("a")], escalated),
            "[high, not acknowledged] A client left its usual range: a",
            "It was told of before, and nobody has acknowledged it.",
        ),
        (
            of(vec![live("a")], Says::One(What::Raised(Severity::Critical))),
            "[high] A client left its usual range: a",
            "It was told of before, and has become worse: critical.",
        ),
        (
            of(vec![over("a")], Says::One(What::Resolved)),
            "[resolved] A client left its usual range: a",
            "It is over: nothing more was found after 2015-05-18 09:00:00 UTC.",
        ),
        // Its server was away for as long as it went on.
        (
            of(vec![over("a")], Says::One(What::Opened)),
            "[resolved] A client left its usual range: a",
            "It is over: nothing more was found",
        ),
        (
            of(vec![live("a")], Says::Gathered),
            "[high] A client left its usual range: a",
            "Findings",
        ),
        (
            of(vec![live("a"), over("b")], Says::Gathered),
            "[high] 2 alerts: A client left its usual range",
            "2 alerts",
        ),
    ] {
        let email = compose(&note, console, None);
        assert_eq!(email.subject, subject);
        for alert in &note.alerts {
            let link = format!("https://weir.example.org/alerts/{}", alert.id);
            assert!(email.text.contains(&link) && email.html.contains(&link), "{}", email.text);
        }
        assert!(email.text.contains(expected), "{expected}\n{}", email.text);
        let expected = expected.split(':').next().unwrap();
        assert!(email.html.contains(expected), "{expected}\n{}", email.html);
    }
}

#[tokio::test]
async fn without_a_server_each_alert_is_a_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("mail");
    let senders = Senders::new(Some(&Mail::to_files(directory.clone())), &[]).unwrap();
    let to = |address: &str| Target::Email(address.to_owned());
    for subject in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let sent = senders.send(&opened(subject), &to("../sec urity@example.org"), 0).await;
        assert!(sent.is_err(), "it is no address: {sent:?}");
        senders.send(&opened(subject), &to("security@example.org"), 0).await.unwrap();
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
