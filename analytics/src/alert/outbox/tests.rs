use std::collections::{BTreeMap, BTreeSet};

use ingest::log::{Headers, LogTime};

use super::*;
use crate::alert::act::Act;
use crate::alert::tests::{alert, mail};
use crate::alert::{Route, Webhook};
use crate::query::Severity;

const MIN: i64 = 60_000;
const HOUR: i64 = 60 * MIN;
/// A Wednesday, 12:00 UTC.
const NOON: i64 = 1_772_625_600_000;

fn routes(yaml: &str) -> Routes {
    let routes: Vec<Route> = serde_norway::from_str(yaml).unwrap();
    let webhook = Webhook {
        name: "siem".to_owned(),
        url: "http://127.0.0.1/".to_owned(),
        secret_file: "/nowhere".into(),
        severity: Severity::Low,
    };
    let (mail, webhooks) = (mail(25), [webhook]);
    assert_eq!(crate::alert::route_faults(&routes, Some(&mail), &webhooks), []);
    Routes::new(&routes, Some(&mail), &webhooks)
}

fn live(subject: &str) -> Alert {
    Alert { replay_id: None, ..alert(subject) }
}

/// An outbox, its time, and the records that it would be read from again.
struct Lab {
    outbox: Outbox,
    routes: Routes,
    now: i64,
    offset: u64,
    alerts: Vec<Record>,
    acts: Vec<Record>,
    messages: BTreeMap<String, Record>,
    /// Of which alerts who was told that they are over, also where that was said together with
    /// their opening.
    ends: BTreeSet<String>,
}

impl Lab {
    fn new(yaml: &str) -> Self {
        Self {
            outbox: Outbox::default(),
            routes: routes(yaml),
            now: NOON,
            offset: 0,
            alerts: Vec::new(),
            acts: Vec::new(),
            messages: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    fn record(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Record {
        self.offset += 1;
        Record {
            offset: self.offset,
            time: LogTime(self.now),
            key: Some(key.to_vec().into()),
            value: value.map(Into::into),
            headers: Headers::default(),
        }
    }

    fn is(&mut self, alert: &Alert) {
        let record = self.record(alert.id.as_bytes(), serde_json::to_vec(alert).ok());
        self.outbox.take_alert(&record);
        self.alerts.push(record);
    }

    fn is_over(&mut self, alert: &Alert) {
        self.is(&Alert { state: detect::State::Resolved, revision: 2, ..alert.clone() });
    }

    fn act(&mut self, act: &Act) {
        let (_, new) = act.record();
        let (key, value) = (new.key.unwrap(), new.value.map(|value| value.to_vec()));
        let record = self.record(&key, value);
        self.outbox.take_act(&record);
        self.acts.push(record);
    }

    fn acknowledge(&mut self, alert: &Alert) {
        let at = Timestamp::from_micros(self.now * 1_000);
        let act = Acknowledgement { by: "ann".to_owned(), note: String::new(), at };
        self.act(&Act::Acknowledged(alert.id.clone(), Some(act)));
    }

    fn silence(&mut self, detection: Option<&str>, subject: Option<&str>, for_ms: i64) {
        let silence = Silence {
            id: format!("s{}", self.now),
            detection: detection.map(str::to_owned),
            subject: subject.map(str::to_owned),
            from: Timestamp::from_micros(self.now * 1_000),
            until: Timestamp::from_micros((self.now + for_ms) * 1_000),
            by: "ann".to_owned(),
            note: String::new(),
        };
        self.act(&Act::Silenced(silence.id.clone(), Some(silence)));
    }

    /// Plans now, and keeps it; what there is to tell, as `what subject > target +ms`.
    fn plan(&mut self) -> Vec<String> {
        let made = self.outbox.plan(&self.routes, self.now);
        let told = made.iter().map(|message| self.told(message)).collect();
        self.keep(made);
        told
    }

    fn told(&self, message: &Message) -> String {
        let of = message.of.iter().map(|of| {
            let what = match of.what {
                What::Opened => "opened".to_owned(),
                What::Escalated(step) => format!("escalated-{step}"),
                What::Raised(severity) => format!("raised-{}", severity.word()),
                What::Resolved => "resolved".to_owned(),
            };
            format!("{what} {}", self.outbox.alert(&of.alert).unwrap().subject)
        });
        let of = of.collect::<Vec<_>>().join(", ");
        let later = match message.due_ms - self.now {
            0 => String::new(),
            later => format!(" +{later}"),
        };
        format!("{of} > {}{later}", message.to)
    }

    fn keep(&mut self, messages: Vec<Message>) {
        for message in messages {
            let record = self.record(message.key().as_bytes(), serde_json::to_vec(&message).ok());
            self.messages.insert(message.key(), record);
            self.outbox.put(message);
        }
    }

    /// Sends all that is due, as if every server took it at once.
    fn send(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        loop {
            let due = self.outbox.due(self.now, &HashSet::new());
            if due.is_empty() {
                return sent;
            }
            for mut message in due {
                sent.push(self.told(&message));
                let ids = message.of.iter().map(|of| of.alert.clone());
                let is_over = |id: &String| {
                    self.outbox.alert(id).is_some_and(|of| of.state == detect::State::Resolved)
                };
                let over: Vec<String> = ids.filter(is_over).collect();
                let ends =
                    over.iter().map(|id| (&self.outbox.alert(id).unwrap().subject, &message.to));
                self.ends.extend(ends.map(|(subject, to)| format!("over {subject} > {to}")));
                message.over = Some(over);
                message.state = State::Sent;
                self.keep(vec![message]);
            }
        }
    }

    /// As a node that takes over reads it.
    fn read_again(&mut self) {
        self.outbox = Outbox::default();
        self.messages.values().for_each(|record| self.outbox.take_message(record));
        self.acts.iter().for_each(|record| self.outbox.take_act(record));
        // Compacted: the last of each.
        let mut last = BTreeMap::new();
        for record in &self.alerts {
            last.insert(record.key.clone(), record);
        }
        let mut last: Vec<&Record> = last.into_values().collect();
        last.sort_by_key(|record| record.offset);
        last.into_iter().for_each(|record| self.outbox.take_alert(record));
    }

    fn after(&mut self, ms: i64) -> Vec<String> {
        self.now += ms;
        let planned = self.plan();
        self.send();
        // Of what was sent something may follow.
        [planned, self.plan()].concat()
    }
}

#[test]
fn each_is_told_to_each_once() {
    let mut lab = Lab::new("[]");
    let (one, two) = (live("a"), Alert { recipients: vec!["x@example.org".into()], ..live("b") });
    lab.is(&one);
    lab.is(&two);
    assert_eq!(
        lab.plan(),
        [
            "opened a > security@example.org",
            "opened a > webhook:siem",
            "opened b > x@example.org",
            "opened b > webhook:siem",
        ]
    );
    // More findings are no news, nor is a new reader.
    lab.is(&Alert { findings: 2, revision: 2, ..one.clone() });
    assert_eq!(lab.after(HOUR), [""; 0]);
    lab.read_again();
    assert_eq!(lab.after(HOUR), [""; 0]);
    lab.is_over(&one);
    assert_eq!(lab.after(0), ["resolved a > security@example.org", "resolved a > webhook:siem"]);
    lab.read_again();
    assert_eq!(lab.after(HOUR), [""; 0]);
    // Of old news nobody is told, and nothing stays of it; what goes on is no old news.
    lab.is(&live("c"));
    lab.is_over(&live("d"));
    lab.now += 25 * HOUR;
    assert_eq!(lab.after(0), ["opened c > security@example.org", "opened c > webhook:siem"]);
    let old = lab.outbox.old(lab.now);
    assert_eq!(old.len(), 4, "{old:?}");
    for key in old {
        lab.outbox.forget(&key);
    }
    lab.outbox.drop_old(lab.now);
    let left: BTreeMap<_, _> =
        lab.outbox.cases.values().map(|of| (&*of.alert.subject, 0)).collect();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["b", "c"], "they are open");
}

#[test]
fn the_first_route_that_fits_says_who_is_told() {
    let mut lab = Lab::new(
        "- {apis: [pay*], emails: [pay@example.org], webhooks: []}
- {detections: [scan*], severity: critical, emails: [soc@example.org]}
- {replays: true, emails: [], webhooks: []}
- {owners: [security], webhooks: []}",
    );
    let of_api = |subject: &str, api: &str| {
        let mut alert = live(subject);
        alert.evidence.push(detect::Column { name: "api_name".to_owned(), value: api.into() });
        alert
    };
    let scan = |subject: &str, severity| Alert {
        detection: "scanner".to_owned(),
        severity,
        ..live(subject)
    };
    for (alert, expected) in [
        (of_api("a", "payments"), &["opened a > pay@example.org"][..]),
        (of_api("b", "orders"), &["opened b > security@example.org"]),
        (
            Alert { subject_kind: "api_name".to_owned(), ..live("payouts") },
            &["opened payouts > pay@example.org"],
        ),
        (scan("c", Severity::Critical), &["opened c > soc@example.org", "opened c > webhook:siem"]),
        (scan("d", Severity::High), &["opened d > security@example.org"]),
        (alert("e"), &[]),
        (Alert { owner: "ops".to_owned(), ..live("f") }, &[]),
    ] {
        lab.is(&alert);
        assert_eq!(lab.plan(), expected, "{}", alert.subject);
    }
}

#[test]
fn what_nobody_acknowledges_is_told_to_more() {
    let mut lab = Lab::new(
        "- webhooks: []
  escalate:
  - {after_ms: 900000, emails: [lead@example.org]}
  - {after_ms: 1800000, emails: [boss@example.org], webhooks: [siem]}",
    );
    let (left, seen, over, replayed) = (live("left"), live("seen"), live("over"), alert("old"));
    [&left, &seen, &over, &replayed].into_iter().for_each(|alert| lab.is(alert));
    assert_eq!(lab.after(0).len(), 4);
    assert_eq!(lab.after(14 * MIN), [""; 0]);
    lab.acknowledge(&seen);
    lab.is_over(&over);
    assert_eq!(
        lab.after(MIN),
        ["escalated-1 left > lead@example.org", "resolved over > security@example.org"]
    );
    lab.read_again();
    assert_eq!(lab.after(14 * MIN), [""; 0]);
    // Taken back, it goes up step by step, from where it was.
    lab.act(&Act::Acknowledged(seen.id.clone(), None));
    assert_eq!(
        lab.after(MIN),
        [
            "escalated-2 left > boss@example.org",
            "escalated-2 left > webhook:siem",
            "escalated-1 seen > lead@example.org",
        ]
    );
    assert_eq!(lab.after(15 * MIN - 1), [""; 0]);
    assert_eq!(
        lab.after(1),
        ["escalated-2 seen > boss@example.org", "escalated-2 seen > webhook:siem"]
    );
    assert_eq!(lab.after(HOUR), [""; 0]);
    // All who were told of it are told of its end.
    lab.is_over(&left);
    assert_eq!(lab.after(0).len(), 4);
}

#[test]
fn in_the_night_only_the_worst_is_told_of() {
    let mut lab =
        Lab::new("- {webhooks: [], quiet: {from: '22:00', until: '07:00', but: critical}}");
    let worst = Alert { severity: Severity::Critical, ..live("worst") };
    let (a, b) = (live("a"), live("b"));
    lab.now = NOON + 11 * HOUR;
    [&a, &worst].into_iter().for_each(|alert| lab.is(alert));
    assert_eq!(
        lab.after(0),
        [
            "opened a > security@example.org +28800000".to_owned(),
            "opened worst > security@example.org".to_owned(),
        ]
    );
    lab.is(&b);
    lab.is_over(&a);
    let gathered = ["opened a, opened b > security@example.org +25200000"];
    assert_eq!(lab.after(HOUR), gathered);
    lab.read_again();
    assert_eq!(lab.after(HOUR), [""; 0]);
    lab.now = NOON + 19 * HOUR;
    assert_eq!(lab.plan(), [""; 0]);
    assert_eq!(lab.send(), ["opened a, opened b > security@example.org"]);
    // That says that `a` is over.
    lab.is_over(&b);
    assert_eq!(lab.after(0), ["resolved b > security@example.org"]);
}

/// What waits for the morning, or was told of, does not hide that it has become worse.
#[test]
fn that_an_alert_becomes_worse_is_told_at_once() {
    let mut lab = Lab::new(
        "- {severity: critical, webhooks: []}
- {webhooks: [], quiet: {from: '22:00', until: '07:00'}}",
    );
    lab.now = NOON + 11 * HOUR;
    let (waits, told) = (live("waits"), Alert { severity: Severity::Critical, ..live("told") });
    lab.is(&waits);
    assert_eq!(lab.after(0), ["opened waits > security@example.org +28800000"]);
    lab.is(&Alert { severity: Severity::Critical, revision: 2, ..waits.clone() });
    assert_eq!(lab.after(MIN), ["raised-critical waits > security@example.org"]);
    lab.is(&told);
    assert_eq!(lab.after(MIN), ["opened told > security@example.org"]);
    lab.read_again();
    assert_eq!(lab.after(HOUR), [""; 0]);
    let mut lab = Lab::new("- {webhooks: []}");
    lab.is(&waits);
    assert_eq!(lab.after(0), ["opened waits > security@example.org"]);
    lab.is(&Alert { severity: Severity::Critical, revision: 2, ..waits });
    assert_eq!(lab.after(MIN), ["raised-critical waits > security@example.org"]);
    assert_eq!(lab.after(MIN), [""; 0]);
}

/// What a message said of an end before its node ended is what it says again; whoever may not
/// have heard of the end is told of it.
#[test]
fn an_end_that_a_message_may_not_have_told_of_is_told() {
    let mut lab = Lab::new("- {webhooks: []}");
    let alert = live("a");
    lab.is(&alert);
    lab.plan();
    let mut under_way = lab.outbox.due(lab.now, &HashSet::new()).remove(0);
    under_way.over = Some(Vec::new());
    lab.keep(vec![under_way]);
    lab.is_over(&alert);
    lab.read_again();
    assert_eq!(lab.plan(), ["resolved a > security@example.org"]);
    // In this order.
    let due = lab.outbox.due(lab.now, &HashSet::new());
    assert_eq!(due[0].of[0].what, What::Opened);
}

#[test]
fn a_digest_gathers_until_it_is_due() {
    let mut lab = Lab::new("- {webhooks: [], digest_ms: 60000}");
    lab.is(&live("a"));
    assert_eq!(lab.after(0), ["opened a > security@example.org +60000"]);
    lab.is(&live("b"));
    assert_eq!(lab.after(MIN - 1), ["opened a, opened b > security@example.org +1"]);
    // It is due, and would be sent as it is, also by a server that takes it later.
    lab.now += 1;
    lab.is(&live("c"));
    assert_eq!(lab.plan(), ["opened c > security@example.org +60000"]);
    assert_eq!(lab.send(), ["opened a, opened b > security@example.org"]);
    lab.after(MIN);
    // No more than so many in one.
    let alerts: Vec<Alert> = (0..=DIGEST_ALERTS_MAX).map(|at| live(&format!("m{at}"))).collect();
    alerts.iter().for_each(|alert| lab.is(alert));
    lab.plan();
    lab.now += MIN;
    let sizes: Vec<usize> = lab.send().iter().map(|told| told.matches("opened").count()).collect();
    assert_eq!(sizes, [DIGEST_ALERTS_MAX, 1]);
}

#[test]
fn of_what_is_silenced_nobody_is_told_until_it_ends() {
    let mut lab = Lab::new("- {webhooks: []}");
    lab.silence(Some("client_*"), Some("192.0.2.*"), HOUR);
    let (open, over) = (live("192.0.2.1"), live("192.0.2.2"));
    [&open, &over, &live("198.51.100.1")].into_iter().for_each(|alert| lab.is(alert));
    assert_eq!(lab.after(0), ["opened 198.51.100.1 > security@example.org"]);
    lab.is_over(&over);
    assert_eq!(lab.after(HOUR - 1), [""; 0]);
    lab.read_again();
    assert_eq!(lab.after(1), ["opened 192.0.2.1 > security@example.org"]);
    assert_eq!(lab.after(HOUR), [""; 0]);
}

/// What is told does not depend on when a node ends and another reads it all again.
#[test]
fn nodes_that_end_change_nothing_of_what_is_told() {
    const ROUTES: &str = "- severity: high
  digest_ms: 120000
  escalate: [{after_ms: 300000, emails: [lead@example.org]}]
- {quiet: {from: '12:20', until: '12:40'}, webhooks: []}";
    let seed = fastrand::u64(..);
    for seed in seed..seed + 200 {
        let run = |kills: bool| {
            let (mut lab, mut rng) = (Lab::new(ROUTES), fastrand::Rng::with_seed(seed));
            let mut chance = fastrand::Rng::with_seed(seed + 1);
            let mut open: Vec<Alert> = Vec::new();
            let mut told = Vec::new();
            for at in 0..60 {
                lab.now += rng.i64(0..2 * MIN);
                match rng.u8(0..8) {
                    0..3 => {
                        let severity = [Severity::Medium, Severity::High][rng.usize(0..2)];
                        open.push(Alert { severity, ..live(&format!("n{at}")) });
                        lab.is(open.last().unwrap());
                    }
                    3 if !open.is_empty() => {
                        let over = open.swap_remove(rng.usize(0..open.len()));
                        lab.is_over(&over);
                    }
                    4 if !open.is_empty() => {
                        let seen = open[rng.usize(0..open.len())].clone();
                        lab.acknowledge(&seen);
                    }
                    5 => lab.silence(None, Some("n1*"), rng.i64(1..10 * MIN)),
                    _ => {}
                }
                if kills && chance.u8(0..3) == 0 {
                    // It planned, and wrote nothing down.
                    lab.outbox.plan(&lab.routes, lab.now);
                    lab.read_again();
                }
                lab.plan();
                if kills && chance.u8(0..3) == 0 {
                    lab.read_again();
                }
                told.extend(lab.send());
            }
            // What is said together depends on which alert is looked at first.
            let each = |told: String| {
                let (of, to) = told.split_once(" > ").unwrap();
                let to = to.split(' ').next().unwrap();
                of.split(", ").map(|of| format!("{of} > {to}")).collect::<Vec<_>>()
            };
            let mut said: Vec<String> = told.into_iter().flat_map(each).collect();
            said.sort();
            let count = said.len();
            said.dedup();
            assert_eq!(said.len(), count, "seed {seed}: {said:?}");
            // So does whether an end is told with the opening or after it.
            said.retain(|of| !of.starts_with("resolved"));
            said.extend(lab.ends);
            said
        };
        let (whole, killed) = (run(false), run(true));
        assert!(whole.len() > 5, "seed {seed}: {whole:?}");
        assert_eq!(whole, killed, "seed {seed}");
    }
}
