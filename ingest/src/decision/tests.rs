use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::event::Timestamp;
use crate::log::EventLog;
use crate::log::embedded::EmbeddedLog;
use crate::registry::kind::Quota;

const HOUR: Duration = Duration::from_hours(1);

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    time("2026-03-01T12:00:00.000000Z")
}

fn decision(id: &str, subject: &str, maker: Maker) -> Decision {
    Decision {
        id: id.to_owned(),
        subject: Subject::parse(SubjectKind::Address, subject).unwrap(),
        action: Action::Block,
        mode: Mode::Enforce,
        maker,
        at: noon(),
        until: noon().after(HOUR),
    }
}

fn scanner() -> Maker {
    Maker::Detection("scanner".to_owned())
}

#[test]
fn a_subject_is_read_in_one_form_and_no_larger_than_a_customers_network() {
    let check = |text: &str, expected: Result<&str, &str>| {
        let found = Subject::parse(SubjectKind::Address, text).map(|of| of.name());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    };
    check("203.0.113.9", Ok("203.0.113.9"));
    check("203.0.113.9/32", Ok("203.0.113.9"));
    check("203.0.113.9/24", Ok("203.0.113.0/24"));
    check("::ffff:203.0.113.9", Ok("203.0.113.9"));
    check("::ffff:203.0.113.0/120", Ok("203.0.113.0/24"));
    check("2001:DB8::1", Ok("2001:db8::1"));
    check("2001:db8:1:2::/48", Ok("2001:db8:1::/48"));
    check("203.0.112.0/23", Err("the network is larger than a /24"));
    check("2001:db8::/47", Err("the network is larger than a /24, or a /48 of IPv6"));
    check("::/0", Err("the network is larger"));
    check("shop", Err("it is no address"));
    let of_client = |text: &str| text.parse::<Network>().unwrap().of_client().to_string();
    assert_eq!(of_client("203.0.113.9"), "203.0.113.9");
    assert_eq!(of_client("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
    assert_eq!(of_client("2001:db8:1::/48"), "2001:db8:1::/48");
    assert!(Subject::parse(SubjectKind::User, "").is_err());
    assert!(Subject::parse(SubjectKind::Application, "a\nb").is_err());
    let user = Subject::parse(SubjectKind::User, "eve@example.org").unwrap();
    assert_eq!(user.to_string(), "user eve@example.org");
}

#[test]
fn records_read_back_as_they_were_written() {
    let of_person = Maker::Person { by: "ada".to_owned(), note: String::new() };
    let slow = Action::Slow(Quota { max: 10, window_ms: 60_000 });
    let all = [
        decision("a", "203.0.113.9", scanner()),
        Decision { action: slow, mode: Mode::DryRun, ..decision("b", "2001:db8::/64", of_person) },
    ];
    for of in all {
        let (_, record) = made(&of);
        let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), of, "{text}");
    }
    assert_eq!(slow.to_string(), "slowed to 10 requests in 60 s");
    assert!(Action::Slow(Quota { max: 0, window_ms: 60_000 }).check().is_err());
    assert!(Action::Slow(Quota { max: 1, window_ms: 999 }).check().is_err());
}

#[test]
fn what_a_detection_decides_counts_only_where_the_safeguards_let_it() {
    let lift = Lift { by: "ada".to_owned(), note: String::new(), at: noon() };
    let of_person = Maker::Person { by: "ada".to_owned(), note: String::new() };
    let (found, said) =
        (decision("a", "203.0.113.9", scanner()), decision("b", "203.0.113.9", of_person));
    let tried = Decision { mode: Mode::DryRun, ..found.clone() };
    let check = |of: &Decision, lift: Option<&Lift>, at: Timestamp, enforced, expected| {
        assert_eq!(of.state(lift, at, enforced), expected, "{of:?}");
    };
    check(&found, None, noon(), true, State::InForce);
    check(&found, None, noon(), false, State::DryRun);
    check(&tried, None, noon(), true, State::DryRun);
    check(&said, None, noon(), false, State::InForce);
    check(&found, Some(&lift), noon(), true, State::Lifted);
    check(&found, None, noon().after(HOUR), true, State::Ended);
}

#[tokio::test(start_paused = true)]
async fn decisions_are_those_of_the_topic_and_the_old_ones_are_told() {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
    let empty = Decisions::open(&*log).await.unwrap();
    let kept = decision("a", "203.0.113.9", scanner());
    let old = Decision { until: noon(), ..decision("b", "203.0.113.8", scanner()) };
    let lift = Lift { by: "ada".to_owned(), note: "ours".to_owned(), at: noon() };
    log.append(vec![made(&kept), made(&old), lifted("a", &lift)]).await.unwrap();
    let read = Decisions::open(&*log).await.unwrap();
    assert_eq!(read.get("a"), Some((kept.clone(), Some(lift.clone()))));
    assert!(read.held(noon(), |_| true).is_empty(), "one is lifted, the other is over");
    assert_eq!(read.held(time("2026-03-01T11:59:59.000000Z"), |_| true).len(), 1);
    assert!(read.old(noon()).is_empty());
    // What was lifted is not forgotten before it would have ended: it stays lifted.
    assert_eq!(read.old(noon().after(KEPT)), ["b"]);
    assert_eq!(read.old(noon().after(KEPT + HOUR)), ["a", "b"]);

    // Who prolongs it does not undo what a person said.
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(empty.clone().follow(log.clone(), stopped));
    let longer = Decision { until: noon().after(2 * HOUR), ..kept };
    let at = log.append(vec![made(&longer)]).await.unwrap()[0].offset;
    assert!(empty.read_to(at + 1).await);
    assert_eq!(empty.get("a"), Some((longer, Some(lift))));
    log.append(gone("a").into_iter().chain(gone("b")).collect()).await.unwrap();
    assert!(empty.read_to(at + 5).await);
    assert!(empty.all().is_empty());
    stop.send_replace(true);
    following.await.unwrap();
}
