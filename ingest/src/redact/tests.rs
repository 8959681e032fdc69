use std::borrow::Cow;

use super::body::body;
use super::json::{Looked, json};
use super::pattern::Suspected;
use super::query::{address, decoded, query};
use super::rules::{Place, Rules, selected};
use super::xml::xml;
use super::{Action, JsonPath, Pattern, Pseudonyms, Redactor, Rule};
use crate::event::{Event, EventId, Kind, Outcome, Producer, Timestamp};

/// Each text of a corpus is written as is said behind it.
fn check_corpus(corpus: &str, look: impl for<'a> Fn(&'a str, &Rules) -> Cow<'a, str>) {
    let rules = Rules::default();
    let mut lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut checked = 0;
    while let Some(text) = lines.next() {
        let text = text.strip_prefix('.').expect("a text begins with a dot");
        let expected = lines.next().expect("what is written of it");
        check_suspected(text);
        let masked = look(text, &rules);
        match expected {
            "=" => {
                assert!(matches!(masked, Cow::Borrowed(same) if same == text), "{text}: {masked}")
            }
            _ => assert_eq!(masked, expected, "{text}"),
        }
        // What was looked at once stays as it is.
        assert_eq!(look(&masked, &rules), masked, "{text}");
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

/// What is found was suspected.
fn check_suspected(text: &str) {
    let suspected = Suspected::of(text);
    for pattern in Pattern::ALL {
        assert!(suspected.has(pattern) || pattern.find(text).is_empty(), "{pattern:?}: {text}");
    }
}

fn whole(looked: Looked<'_>) -> Cow<'_, str> {
    match looked {
        Looked::Whole(text) => text,
        Looked::Beginning(text) => panic!("only {text}"),
    }
}

#[test]
fn what_is_known_by_its_form_or_name_is_taken_out_and_the_rest_stays() {
    check_corpus(include_str!("corpus/text.txt"), |text, rules| rules.text(text));
    check_corpus(include_str!("corpus/query.txt"), query);
    check_corpus(include_str!("corpus/address.txt"), address);
    check_corpus(include_str!("corpus/json.txt"), |text, rules| {
        whole(json(text, rules, Place::Member))
    });
    check_corpus(include_str!("corpus/headers.txt"), |text, rules| {
        whole(json(text, rules, Place::Header))
    });
    check_corpus(include_str!("corpus/xml.txt"), |text, rules| whole(xml(text, rules)));
}

/// A rule as a file has it.
fn rule(json: &str) -> Rule {
    serde_json::from_str(json).unwrap()
}

fn rules(all: &[&str]) -> Rules {
    let mut rules = Rules::new(Pseudonyms::new(&[7; 32]));
    let all = all.iter().map(|json| rule(json)).collect::<Vec<_>>();
    rules.add(&selected(&all));
    rules
}

#[test]
fn rules_take_out_what_they_name_and_keep_what_they_are_told_to() {
    let rules = rules(&[
        r#"{"json_path": "$.items[*].iban", "action": "hash"}"#,
        r#"{"json_path": "$.order.key", "action": "keep"}"#,
        r#"{"json_path": "$..password", "action": "keep"}"#,
        r#"{"name": "customerNumber"}"#,
        r#"{"name": "sort_key", "action": "keep"}"#,
        r#"{"name": "contact", "action": "keep"}"#,
        r#"{"header": "X-Customer", "action": "mask"}"#,
        r#"{"regex": "KD-[0-9]{4}"}"#,
        r#"{"pattern": "card", "action": "hash"}"#,
        r#"{"pattern": "iban", "action": "keep"}"#,
    ]);
    let member = |text| whole(json(text, &rules, Place::Member)).into_owned();
    let one = member(r#"{"items":[{"iban":"DE1"},{"iban":"DE1"},{"iban":"DE2"}],"iban":"DE1"}"#);
    let parts = one.split('"').filter(|part| part.starts_with("hash:")).collect::<Vec<_>>();
    assert_eq!(parts.len(), 3, "{one}");
    assert!(parts[0] == parts[1] && parts[0] != parts[2] && one.ends_with(r#""iban":"DE1"}"#));
    assert_eq!(
        member(r#"{"CUSTOMERnumber":12,"a":"at KD-1234"}"#),
        r#"{"CUSTOMERnumber":"***","a":"at ***"}"#
    );
    let kept = r#"{"contact":"bob@example.org","password":"x","iban":"DE89370400440532013000"}"#;
    assert_eq!(member(kept), kept);
    assert_eq!(
        query("sort_key=a&customernumber=7&api_key=x", &rules),
        "sort_key=a&customernumber=***&api_key=***"
    );
    let headers = whole(json(r#"{"x-customer":"7","x-other":"7"}"#, &rules, Place::Header));
    assert_eq!(headers, r#"{"x-customer":"***","x-other":"7"}"#);
    // A header's rule is no member's.
    assert_eq!(member(r#"{"x-customer":"7"}"#), r#"{"x-customer":"7"}"#);
    let markup = "<a contact=\"bob@example.org\"><contact>bob@example.org<b>KD-1234</b></contact>\
                  <c customerNumber='7'>KD-1234</c></a>";
    let expected = "<a contact=\"bob@example.org\"><contact>bob@example.org<b>KD-1234</b></contact>\
                    <c customerNumber=\"***\">***</c></a>";
    assert_eq!(whole(xml(markup, &rules)), expected);
    let card = rules.text("4111111111111111").into_owned();
    assert!(card.starts_with("hash:"), "{card}");
    // Who writes it otherwise has another pseudonym.
    assert_ne!(rules.text("4111 1111 1111 1111"), card);
    // What it became stays, also within another text.
    assert_eq!(rules.text(&card), card);
    // Paths are those of bodies.
    let rules = self::rules(&[r#"{"json_path": "$.*", "action": "keep"}"#]);
    let headers = whole(json(r#"{"authorization":"hush"}"#, &rules, Place::Header));
    assert_eq!(headers, r#"{"authorization":"***"}"#);
}

#[test]
fn of_two_rules_the_stricter_holds() {
    let twice = |one: &str, other: &str| {
        let rules = rules(&[one, other]);
        rules.named(Place::Member, "a", false)
    };
    let (keep, mask, hash) = (
        r#"{"name": "a", "action": "keep"}"#,
        r#"{"name": "a"}"#,
        r#"{"name": "A", "action": "hash"}"#,
    );
    assert_eq!(twice(keep, mask), Some(Action::Mask));
    assert_eq!(twice(mask, keep), Some(Action::Mask));
    assert_eq!(twice(hash, keep), Some(Action::Hash));
    assert_eq!(twice(hash, mask), Some(Action::Mask));
}

#[test]
fn a_rule_that_cannot_hold_is_told_of_with_its_mend() {
    let check = |json: &str, key: &str, what: &str, mend: &str| {
        let fault = rule(json).check().unwrap_err();
        assert_eq!((fault.key, &*fault.what, &*fault.mend), (key, what, mend), "{json}");
    };
    let one = "give field, name, header, json_path, pattern or regex";
    check("{}", "", "is of nothing", one);
    let several = "give one of field, name, header, json_path, pattern and regex";
    check(r#"{"name": "a", "header": "b"}"#, "", "is of several things", several);
    check(r#"{"name": "a", "pattern": "card"}"#, "", "is of several things", several);
    check(r#"{"name": ""}"#, "name", "has 0 bytes", "give 1 to 256 bytes");
    check(
        r#"{"field": "client_adress"}"#,
        "field",
        "there is no field client_adress",
        "did you mean client_address?",
    );
    check(
        r#"{"field": "api_name"}"#,
        "field",
        "api_name tells of no person, and queries rest on it",
        "give one of docs/events.md whose column `personal` is not empty",
    );
    check(
        r#"{"json_path": "$.a[?@.b]"}"#,
        "json_path",
        "at character 5: expected *, a quoted name or an index",
        "write names, [*], indexes and .. as in $.items[*].iban",
    );
    check(r#"{"regex": "(a"}"#, "regex", "unclosed group", "see the syntax of the crate `regex`");
    for regex in ["a*", r"\\b", r"\\b(KD-[0-9]+)?", "x|"] {
        check(
            &format!(r#"{{"regex": "{regex}"}}"#),
            "regex",
            "also fits where there is nothing",
            "use + in place of *, and leave ? out",
        );
    }
    check(
        r#"{"regex": "a", "action": "keep"}"#,
        "action",
        "what only an expression fits cannot be kept",
        "keep the field, name, header, path or pattern that it stands in",
    );
    check(
        r#"{"header": "User-Agent"}"#,
        "header",
        "user-agent is in a field of every event",
        "give field: user_agent_original",
    );
    check(
        r#"{"regex": "\\w{5000}"}"#,
        "regex",
        "takes more than 262144 bytes once it is compiled",
        "repeat less, or write ASCII classes as [0-9]",
    );
    check(
        r#"{"name": "a", "action": "remove"}"#,
        "action",
        "only a field can be left out",
        "use mask",
    );
    let address = "only a field of an address can be shortened";
    check(r#"{"name": "a", "action": "shorten"}"#, "action", address, "use mask or hash");
    check(r#"{"field": "url_path", "action": "shorten"}"#, "action", address, "use mask or hash");
}

#[test]
fn of_what_was_cut_no_beginning_of_a_secret_is_kept() {
    let rules = Rules::default();
    let check = |text: &str, content_type: &str, expected: &str| {
        let kept = body(text, Some(content_type), true, &rules).unwrap();
        assert_eq!((&*kept.text, kept.is_cut), (expected, true), "{text}");
    };
    check(r#"{"a":"x","b":{"c":"hus"#, "application/json", r#"{"a":"x","b":{"c":"#);
    check(r#"{"a":1,"n":41111111111111"#, "application/json", r#"{"a":1,"n":"#);
    check(r#"{"a":1,"pass"#, "application/json", r#"{"a":"#);
    check(r#"{"password":"hush","#, "application/json", r#"{"password":"***""#);
    check("{\"a\":1}\n{\"password\":\"hu", "application/x-ndjson", "{\"a\":1}\n{\"password\":");
    check("<a><b>x</b><password>hus", "text/xml", "<a><b>x</b><password>");
    check("<a><b>x</b><c>bob@exampl", "application/soap+xml", "<a><b>x</b><c>");
    check("<a><b pass", "text/xml", "<a>");
    check("a=1&b=41111111111", "application/x-www-form-urlencoded", "a=1");
    check("so, it is 4111 1111 1111 11", "text/plain", "so, it is");
    check("(bob@example.org) eyJhbGciOiJI.ey", "text/plain", "([email])");
    check("see amqp://me:S3cret!Pass", "text/plain", "see");
    check("41111111111", "application/json", "");
    check("1\n41111111111", "application/x-ndjson", "1\n");
}

#[test]
fn what_is_not_understood_is_not_kept() {
    let rules = Rules::default();
    let kept = |text, content_type| {
        body(text, content_type, false, &rules).map(|kept| (kept.text.into_owned(), kept.is_cut))
    };
    assert_eq!(kept("hush", None), None);
    assert_eq!(kept("hush", Some("application/octet-stream")), None);
    assert_eq!(kept("hush", Some("multipart/form-data; boundary=x")), None);
    assert_eq!(kept("hush", Some("nonsense")), None);
    let whole = |text: &str| Some((text.to_owned(), false));
    let cut = |text: &str| Some((text.to_owned(), true));
    assert_eq!(kept("{\"a\":1}", Some("Application/Problem+JSON; x=y")), whole("{\"a\":1}"));
    assert_eq!(kept("{\"a\":1} trailing hush", Some("application/json")), cut("{\"a\":1}"));
    assert_eq!(kept("{'password':'hush'}", Some("application/json")), cut(""));
    assert_eq!(kept("{\"a\":\"\\x\"}", Some("application/json")), cut("{\"a\":"));
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    assert_eq!(kept(&deep, Some("application/json")), cut(&"[".repeat(64)));
    assert_eq!(kept("<a></b>hush", Some("text/xml")), cut("<a>"));
    assert_eq!(kept("<a b=hush></a>", Some("text/xml")), cut(""));
    assert_eq!(kept("a bob@example.org", Some("text/plain")), whole("a [email]"));
    assert_eq!(
        kept("password: hush\nnote: b", Some("text/plain")),
        whole("password: [token]\nnote: b")
    );
    // What is called otherwise than it is.
    let masked = r#"{"password":"***"}"#;
    let json = r#"{"password":"hush"}"#;
    for content_type in ["text/plain", "text/json", "application/x-www-form-urlencoded", "text/csv"]
    {
        assert_eq!(kept(json, Some(content_type)), whole(masked), "{content_type}");
    }
    assert_eq!(kept("<pin>1</pin>", Some("text/plain")), whole("<pin>***</pin>"));
    assert_eq!(kept("data: {\"password\":\"hush\"}", Some("text/event-stream")), None);
    assert_eq!(kept("<p>password=hush", Some("text/html")), None);
    assert_eq!(kept(json, Some("application/xml")), cut(""));
    assert_eq!(kept("<a/>password=hush", Some("application/xml")), cut("<a/>"));
    assert_eq!(kept("<a/><b/>", Some("application/xml")), cut("<a/>"));
}

fn event() -> Event {
    let id = EventId { producer: Producer::new("edge-1").unwrap(), boot: 1, sequence: 1 };
    let mut event = Event::new(id, Timestamp::from_micros(0), Kind::Request, Outcome::Success);
    event.client_address = Some("203.0.113.77".into());
    event.auth_subject = Some("alice@example.org".into());
    event.url_path = Some("/orders/bob@example.org".into());
    event.url_query = Some("token=hush&a=1".into());
    event.user_agent_original = Some("bot/1 (ops@example.org)".into());
    event.correlation_id = Some("bob@example.org-4539578763621486".into());
    event.server_address = Some("4539578763621486".into());
    event.payload_request = Some(r#"{"password":"hush","secretary":"bob"}"#.into());
    event.payload_request_content_type = Some("application/json".into());
    event.payload_response = Some("\u{1}\u{2}".into());
    event.payload_response_content_type = Some("image/png".into());
    event
}

#[test]
fn an_event_is_looked_at_by_the_form_of_each_field() {
    let mut event = event();
    Redactor::default().apply(&mut event);
    assert_eq!(event.url_path.as_deref(), Some("/orders/[email]"));
    assert_eq!(event.url_query.as_deref(), Some("token=***&a=1"));
    assert_eq!(event.payload_request.as_deref(), Some(r#"{"password":"***","secretary":"bob"}"#));
    assert_eq!(event.payload_response, None);
    assert_eq!(event.user_agent_original.as_deref(), Some("bot/1 ([email])"));
    // Of ids the digits stay.
    assert_eq!(event.correlation_id.as_deref(), Some("[email]-4539578763621486"));
    assert_eq!(event.server_address.as_deref(), Some("4539578763621486"));
    // Who somebody is stays until a rule says otherwise.
    assert_eq!(event.client_address.as_deref(), Some("203.0.113.77"));
    assert_eq!(event.auth_subject.as_deref(), Some("alice@example.org"));
    let once = event.clone();
    Redactor::default().apply(&mut event);
    assert_eq!(event, once);
}

#[test]
fn rules_of_an_api_are_for_its_events_alone() {
    let of_all = [rule(r#"{"field": "client_address", "action": "shorten"}"#)];
    let of_orders = [
        rule(r#"{"field": "auth_subject", "action": "hash"}"#),
        rule(r#"{"field": "url_path", "action": "keep"}"#),
        rule(r#"{"field": "url_query", "action": "remove"}"#),
        rule(r#"{"name": "secretary"}"#),
    ];
    let key = Pseudonyms::new(&[7; 32]);
    let sets = [(vec![], &of_all[..]), (vec!["orders"], &of_orders[..])];
    let redactor = Redactor::new(sets, key.as_ref());
    let (mut orders, mut other) = (event(), event());
    orders.api_name = Some("orders".into());
    other.api_name = Some("other".into());
    redactor.apply(&mut orders);
    redactor.apply(&mut other);
    assert_eq!(orders.client_address.as_deref(), Some("203.0.113.0"));
    assert_eq!(other.client_address.as_deref(), Some("203.0.113.0"));
    assert!(orders.auth_subject.as_ref().unwrap().starts_with("hash:"));
    assert_eq!(other.auth_subject.as_deref(), Some("alice@example.org"));
    assert_eq!(orders.url_path.as_deref(), Some("/orders/bob@example.org"));
    assert_eq!(other.url_path.as_deref(), Some("/orders/[email]"));
    assert_eq!((&orders.url_query, other.url_query.as_deref()), (&None, Some("token=***&a=1")));
    assert_eq!(orders.payload_request.as_deref(), Some(r#"{"password":"***","secretary":"***"}"#));
    // An event that is offered again is as it was.
    let once = orders.clone();
    redactor.apply(&mut orders);
    assert_eq!(orders, once);
}

#[test]
fn what_rules_make_of_a_text_is_no_longer_than_an_event_takes() {
    let digits = [rule(r#"{"regex": "[0-9]", "action": "hash"}"#)];
    let key = Pseudonyms::new(&[7; 32]);
    let redactor = Redactor::new([(vec![], &digits[..])], key.as_ref());
    let mut event = event();
    event.payload_request = Some(format!("[{}1]", "1,".repeat(32_000)).into());
    event.payload_response = Some("1".repeat(65_536).into());
    event.payload_response_content_type = Some("text/plain".into());
    event.fault_message = Some("7".repeat(1_000).into());
    redactor.apply(&mut event);
    assert_eq!((event.payload_request, event.payload_request_truncated), (None, Some(true)));
    assert_eq!(event.payload_response.as_deref(), Some("***"));
    assert_eq!(event.fault_message.as_deref(), Some("***"));
}

/// Whatever is written, in whatever form: it ends, nothing of a known form is left, and a
/// second look changes nothing.
#[test]
fn no_text_breaks_it() {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\\u",
        ":",
        ",",
        "<a ",
        ">",
        "</",
        "&#",
        ";",
        "<![CDATA[",
        "]]>",
        "=",
        "&",
        "%",
        "4111111111111111",
        "bob@example.org",
        "eyJ",
        ".",
        "é",
        "\u{0}",
        "1",
        "password",
        "<!--",
        "://",
        "@",
        "-----BEGIN PRIVATE KEY-----",
        "\n",
        "DE89",
        "null",
    ];
    let seed = 20_261_130;
    let mut random = fastrand::Rng::with_seed(seed);
    let types = [
        "application/json",
        "text/xml",
        "text/plain",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
    ];
    let rules = Rules::default();
    for _ in 0..2_000 {
        let text = (0..random.usize(0..24)).map(|_| parts[random.usize(..parts.len())]);
        let text = text.collect::<String>();
        check_suspected(&text);
        for content_type in types {
            let is_cut = random.bool();
            let Some(kept) = body(&text, Some(content_type), is_cut, &rules) else { continue };
            let again = body(&kept.text, Some(content_type), kept.is_cut, &rules).unwrap();
            // Of a form, what a name became is the name of a secret too.
            if !kept.is_cut && !content_type.ends_with("urlencoded") {
                assert_eq!(again.text, kept.text, "seed {seed}: {content_type}: {text:?}");
            }
            for pattern in [Pattern::Card, Pattern::Email, Pattern::Iban] {
                let is_form = content_type.ends_with("urlencoded");
                let read = if is_form { decoded(&kept.text) } else { kept.text.clone() };
                let left = pattern.find(&read);
                assert!(left.is_empty(), "seed {seed}: {content_type}: {text:?}: {:?}", kept.text);
            }
        }
        address(&text, &rules);
    }
}

#[test]
fn a_path_is_shown_as_it_is_read() {
    let path = JsonPath::parse("$..items[*].a['b c'][3]").unwrap();
    assert_eq!(path.to_string(), r#"$..["items"][*]["a"]["b c"][3]"#);
    assert_eq!(JsonPath::parse(&path.to_string()).unwrap(), path);
}
