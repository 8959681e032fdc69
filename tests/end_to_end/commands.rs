//! What is asked for wrongly is told with its place and mend, exit code 2, and
//! nothing is half started.

use crate::weir::Weir;

fn check_config(text: &str, expected: &str) {
    let weir = Weir::new();
    std::fs::write(weir.dir().join("weir.yaml"), text).unwrap();
    let (code, said) = weir.run(&["check"]);
    assert_eq!((code, said.trim()), (2, expected), "{text}");
}

#[test]
fn settings_are_told_with_line_and_mend() {
    check_config(
        "nod: a\n",
        "weir: weir.yaml:1:1: nod: unknown key; did you mean `node`? known are node, zone, \
         data_dir, log, events, gateway, keys, manager, mediator, collector, analytics, console, example",
    );
    check_config(
        "node: a\nmediator:\n  in_flight_max: many\n",
        "weir: weir.yaml:3:3: mediator.in_flight_max: is a text; give a whole number from 0",
    );
    check_config(
        "log:\n  kafka: {bootstrap: \"a:1\", replication: 3}\n",
        "weir: weir.yaml:2:29: log.kafka.replication: unknown key; known are bootstrap, replication_factor, properties",
    );
    check_config(
        "a: [\n",
        "weir: weir.yaml:2:1: did not find expected node content; mend the YAML or JSON",
    );
}

#[test]
fn values_out_of_range_are_told_by_their_setting() {
    let check = |text: &str, expected: &str| {
        let weir = Weir::new();
        std::fs::write(weir.dir().join("weir.yaml"), text).unwrap();
        let (code, said) = weir.run(&["check"]);
        assert_eq!((code, said.trim()), (2, expected), "{text}");
    };
    check(
        "mediator: {in_flight_max: 0}\n",
        "weir: weir.yaml:1:12: mediator.in_flight_max: 0 is out of range; use 1 to 100000",
    );
    check(
        "gateway:\n  listeners:\n  - address: 127.0.0.1:0\n    tls: {certificate_file: no.pem, \
         key_file: no.key}\n",
        "weir: weir.yaml:4:11: gateway.listeners[0].tls.certificate_file: no.pem: No such file or \
         directory (os error 2); give PEM files that can be read",
    );
    check(
        "node: a\nanalytics: {queries_dir: nowhere}\n",
        "weir: weir.yaml:2:13: analytics.queries_dir: nowhere: No such file or directory (os error \
         2); give a directory of .sql files",
    );
    check(
        "console: {boards_dir: nowhere}\n",
        "weir: weir.yaml:1:11: console.boards_dir: nowhere: No such file or directory (os error 2); \
         give a directory of .yaml files",
    );
    check(
        "analytics: {lake_dir: weir.yaml/lake}\nconsole: {analytics_token_file: nowhere}\n",
        "weir: weir.yaml:1:13: analytics.lake_dir: weir.yaml/lake: weir.yaml is no directory; name \
         one in which this user may write\n\
         weir.yaml:2:11: console.analytics_token_file: read nowhere: No such file or directory (os \
         error 2); name a file with the admin token of the analytics node",
    );
    check(
        "log: {kafka: {bootstrap: 'a:9092, b'}}\nkeys: {passphrase_file: nowhere}\n",
        "weir: weir.yaml:1:15: log.kafka.bootstrap: ` b` is no broker; give host:port of one \
         broker, or of several with commas between",
    );
    check(
        "keys: {passphrase_file: nowhere}\n",
        "weir: weir.yaml:1:8: keys.passphrase_file: nowhere cannot be read: No such file or \
         directory (os error 2); name the file of the node that made the keys; for a first node: \
         openssl rand -base64 32, with mode 0600",
    );
    check(
        "events:\n  spool_bytes_max: 1000\n",
        "weir: weir.yaml:2:3: events.spool_bytes_max: 1000 is out of range; use 67108864 to \
         1099511627776",
    );
    check(
        "gateway: {when_spool_full: forget}\n",
        "weir: weir.yaml:1:11: gateway.when_spool_full: unknown value `forget`; known are refuse, \
         drop",
    );
    check(
        "keys: {token_ttl_s: 1}\n",
        "weir: weir.yaml:1:8: keys.token_ttl_s: 1 is out of range; use 60 to 86400",
    );
}

#[test]
fn a_data_directory_and_what_is_in_it_are_looked_at_before_anything_is_made() {
    let weir = Weir::new();
    let (file, there) = (weir.data_dir().join("admin-token"), weir.data_dir());
    std::fs::create_dir_all(&there).unwrap();
    std::fs::write(&file, "short\n").unwrap();
    for arguments in [&["check"][..], &["run"]] {
        let (code, said) = weir.run(arguments);
        let expected = format!(
            "weir: environment WEIR_DATA_DIR: data_dir: {} holds no token of 32 characters or more; bring back \
             what it held, or remove it, and a new one is made",
            file.display()
        );
        assert_eq!((code, said.trim()), (2, expected.as_str()));
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir(&there).unwrap();
    std::fs::write(&there, "").unwrap();
    let (code, said) = weir.run(&["run"]);
    assert_eq!(code, 2);
    assert!(said.contains("is no directory; name one in which this user may write"), "{said}");
}

#[test]
fn a_missing_file_and_an_unknown_variable_are_told() {
    let weir = Weir::new();
    let (code, said) = weir.run(&["check", "--config", "nowhere.yaml"]);
    let expected = "weir: nowhere.yaml: cannot be read: No such file or directory (os error 2); \
                    see that it is there, UTF-8, and may be read";
    assert_eq!((code, said.trim()), (2, expected));
    let (code, said) = weir.run(&["check", "no-such-folder"]);
    assert_eq!(code, 2);
    let expected = "weir: no-such-folder: cannot be read: No such file or directory (os error 2); \
                    give a directory with .yaml files";
    assert_eq!(said.trim(), expected);
}

#[test]
fn a_role_alone_needs_a_log_that_others_have() {
    let weir = Weir::new();
    for role in ["gateway", "keys", "mediator", "analytics"] {
        let (code, said) = weir.run(&[role]);
        assert_eq!(code, 2, "{said}");
        let expected = "is embedded, and this role works with other processes by the log; set \
                        log.kafka.bootstrap to the Kafka of all nodes, or use weir run";
        assert!(said.contains(expected), "{said}");
    }
    assert!(!weir.data_dir().exists(), "nothing is half started");
}

#[test]
fn a_directory_is_checked_with_file_line_and_mend() {
    let weir = Weir::new();
    let route = "kind: route\nname: r\nspec:\n  from: {http: {methods: [GET], path: /r}}\n  steps:\n  \
                 - transform: .a |\n";
    let dir = weir.write("conf", &[("r.yaml", route)]);
    let (code, said) = weir.run(&["check", &dir]);
    let expected = "weir: r.yaml:6:5: spec.steps[0].transform: is no expression of jq: expected \
                    term at byte 4; see the manual of jq";
    assert_eq!((code, said.trim()), (2, expected));

    let lonely = "kind: tier\nname: gold\nspec: {burst_requests_max: 5}\n---\nkind: subscription\n\
                  name: s\nspec:\n  api: a\n  application: b\n  tier: glod\n";
    let dir = weir.write("lonely", &[("s.yaml", lonely)]);
    let (code, said) = weir.run(&["check", &dir]);
    let expected = "weir: s.yaml:8:3: subscription/s: api: api/a does not exist; create it first, \
                    or in the same set\n\
                    s.yaml:9:3: subscription/s: application: application/b does not exist; create \
                    it first, or in the same set\n\
                    s.yaml:10:3: subscription/s: tier: tier/glod does not exist; did you mean \
                    `gold`? or create it in the same set";
    assert_eq!((code, said.trim()), (2, expected));

    let dir =
        weir.write("good", &[("t.yaml", "kind: tier\nname: t\nspec: {burst_requests_max: 5}\n")]);
    assert_eq!(weir.run(&["check", &dir]), (0, "1 entity, and it is right\n".to_owned()));
}

#[test]
fn a_board_is_checked_with_the_settings() {
    let mut weir = Weir::new();
    let board = "title: B\npanels:\n- {title: P, kind: stat, width: 13, sql: SELECT 1}\n";
    let dir = weir.write("boards", &[("b.yaml", board)]);
    weir.set("WEIR_CONSOLE__BOARDS_DIR", dir);
    for command in ["check", "run"] {
        let (code, said) = weir.run(&[command]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("b.yaml:3:") && said.contains("use 1 to 12"), "{said}");
        assert!(!said.contains("Weir runs."), "{said}");
    }
}

#[test]
fn a_port_in_use_is_told_and_nothing_is_half_started() {
    let mut weir = Weir::new();
    let taken = std::net::TcpListener::bind(weir.gateway_address()).unwrap();
    let (code, said) = weir.run(&["run"]);
    assert_eq!(code, 2, "{said}");
    let expected =
        format!("gateway.listeners[0].address: cannot listen on {}", weir.gateway_address());
    assert!(said.contains(&expected) && said.contains("free the port"), "{said}");
    assert!(!said.contains("Weir runs."), "{said}");
    // What had started is gone: its ports are free.
    std::net::TcpListener::bind(weir.mediator_address()).unwrap();
    drop(taken);
    // And nothing of the first start is used up: its secret is still to be shown.
    weir.start(&[]);
    assert!(weir.secret().starts_with("weirs_"));
    weir.stop();
}

#[test]
fn a_secret_comes_with_its_hash_and_tools_print_json() {
    let weir = Weir::new();
    let (code, said) = weir.run(&["secret", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, 0);
    assert!(made["secret"].as_str().unwrap().starts_with("weirs_"));
    assert_eq!(made["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn an_apply_without_a_running_weir_says_so() {
    let weir = Weir::new();
    let dir =
        weir.write("conf", &[("t.yaml", "kind: tier\nname: t\nspec: {burst_requests_max: 5}\n")]);
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 2);
    assert!(said.contains("read the admin token"), "{said}");
    std::fs::create_dir_all(weir.data_dir()).unwrap();
    std::fs::write(weir.data_dir().join("admin-token"), "x".repeat(40)).unwrap();
    let (code, said) = weir.run(&["apply", &dir]);
    assert_eq!(code, 1);
    assert!(said.contains("is weir running there?"), "{said}");
}
