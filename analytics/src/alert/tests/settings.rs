//! Settings that cannot be.

use super::mail;
use crate::alert::{Mail, Route, route_faults};

#[test]
fn settings_that_cannot_be_are_told_of() {
    let bad = Mail {
        host: "mail.example.org".to_owned(),
        from: "nobody".to_owned(),
        recipients: Vec::new(),
        username: Some("weir".to_owned()),
        ca_file: Some("/nowhere/ca.pem".into()),
        console_url: Some("weir.example.org".to_owned()),
        ..mail(25)
    };
    let faults = bad.faults();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "mail.from",
            "mail.recipients",
            "mail.console_url",
            "mail.security",
            "mail.username",
            "mail.ca_file"
        ]
    );
    assert_eq!(mail(25).faults(), []);
    let paths = |of: Mail| of.faults().into_iter().map(|of| of.path).collect::<Vec<_>>();
    let directory = Some("/var/mail/weir".into());
    assert_eq!(paths(Mail { directory: directory.clone(), ..mail(25) }), ["mail.host"]);
    assert_eq!(paths(Mail { host: String::new(), ..mail(25) }), ["mail.host"]);
    assert_eq!(paths(Mail { host: String::new(), directory, ..mail(25) }), [""; 0]);
}

#[test]
fn routes_that_cannot_be_are_told_of_with_their_place() {
    let mail = mail(25);
    let faults = |yaml: &str| {
        let routes: Vec<Route> = serde_norway::from_str(yaml).unwrap();
        let faults = route_faults(&routes, Some(&mail), &[]);
        faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
    };
    for (yaml, path) in [
        ("[{emails: [nobody]}]", "routes[0].emails"),
        ("[{}, {webhooks: [siem]}]", "routes[1].webhooks"),
        ("[{digest_ms: 1}]", "routes[0].digest_ms"),
        ("[{quiet: {from: '22:00'}}]", "routes[0].quiet"),
        ("[{escalate: [{after_ms: 60000}]}]", "routes[0].escalate[0]"),
        ("[{escalate: [{after_ms: 1, emails: [a@b.c]}]}]", "routes[0].escalate[0].after_ms"),
        ("[{escalate: [{after_ms: 60000, emails: [b]}]}]", "routes[0].escalate[0].emails"),
        (
            "[{escalate: [{after_ms: 60000, emails: [a@b.c]}, {after_ms: 60000, emails: [a@b.c]}]}]",
            "routes[0].escalate[1].after_ms",
        ),
        (
            "[{emails: [], webhooks: [], escalate: [{after_ms: 60000, emails: [a@b.c]}]}]",
            "routes[0].escalate",
        ),
    ] {
        assert_eq!(faults(yaml), [path], "{yaml}");
    }
    let many = vec![Route::default(); 101];
    assert_eq!(route_faults(&many, Some(&mail), &[])[0].path, "routes");
    let nobody: Vec<Route> = serde_norway::from_str("[{emails: [a@b.c]}]").unwrap();
    assert_eq!(route_faults(&nobody, None, &[])[0].path, "routes[0].emails");
}
