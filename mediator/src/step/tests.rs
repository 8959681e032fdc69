//! What is wrong in steps, in its words; and what a directory says of it.

use std::fmt::Write as _;

use ingest::registry::files;

/// A route with these steps, checked as `weir check` does.
fn check(steps: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "kind: route\nname: r\nspec:\n  from: {http: {methods: [POST], path: /r}}\n  \
                    steps:\n"
        .to_owned();
    for line in steps.lines() {
        writeln!(text, "  {line}").unwrap();
    }
    std::fs::write(dir.path().join("r.yaml"), text).unwrap();
    let found: Vec<String> = match files::load(dir.path(), crate::deep_check) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{steps}");
}

#[test]
fn right_steps_are_taken() {
    check("- transform: .a", &[]);
    check("- {id: x, set_header: {name: X-A, value: '1'}}", &[]);
    check("- set_header: {name: X-A, expression: $path.id}", &[]);
    check("- remove_header: {name: X-A}", &[]);
    check("- template: {content_type: text/plain, text: '{{ body.a }}'}", &[]);
    check("- call: {upstream: u, path: '/a/{{ path.id }}', accept_status: [404]}", &[]);
    check("- soap: {upstream: u, path: /a, version: '1.2', action: 'urn:a', body: <a/>}", &[]);
    check("- respond: {status: 204}\n- respond: {}", &[]);
    check("- fault: {code: body_invalid, message: no}", &[]);
    check("- store: {queue: q, key: .k, id: .id}", &[]);
}

#[test]
fn what_is_wrong_in_a_step_is_told_with_its_place_and_mend() {
    check(
        "- transfrom: .a",
        &["r.yaml:6:5: spec.steps[0].transfrom: is no kind of step; did you mean `transform`? \
           known are call, fault, remove_header, respond, set_header, soap, store, template, \
           transform"],
    );
    check(
        "- transform: .a |\n- transform: 'foo(1)'\n- transform: 7",
        &[
            "r.yaml:6:5: spec.steps[0].transform: is not a jq expression: it ends too early; mend \
             the expression",
            "r.yaml:7:5: spec.steps[1].transform: names `foo`, an unknown filter; mend the \
             expression",
            "r.yaml:8:5: spec.steps[2].transform: is a number; give a text",
        ],
    );
    check(
        "- call: {upstream: u, pth: /a}",
        &["r.yaml:6:25: spec.steps[0].call.pth: unknown key; did you mean `path`? known are \
           upstream, method, path, query, headers, timeout_ms, accept_status"],
    );
    check(
        "- call: {upstream: u, path: a}\n- call: {upstream: u, path: /a, timeout_ms: 0}",
        &[
            "r.yaml:6:25: spec.steps[0].call.path: is not a path; give it as /orders",
            "r.yaml:7:35: spec.steps[1].call.timeout_ms: 0 is out of range; use 1 to 600000",
        ],
    );
    check(
        "- call: {upstream: u, path: '/{{ bodi.a }}'}",
        &["r.yaml:6:25: spec.steps[0].call.path: names `bodi`; known are body, headers, \
           properties, path, query; mend the template"],
    );
    check(
        "- set_header: {name: 'X A', value: b}\n- set_header: {name: X}",
        &[
            "r.yaml:6:18: spec.steps[0].set_header.name: is not a header's name; give letters, \
             digits and hyphens",
            "r.yaml:7:5: spec.steps[1].set_header: has no value, or two; give one of value and \
             expression",
        ],
    );
    check(
        "- soap: {upstream: u, path: /a, version: '2.0', body: <a/>}",
        &[
            "r.yaml:6:35: spec.steps[0].soap.version: unknown value; did you mean `1.1`? known are 1.1, 1.2",
        ],
    );
    check(
        "- respond: {status: 100}\n- fault: {code: no_such_code, message: m}",
        &[
            "r.yaml:6:15: spec.steps[0].respond.status: 100 is no status of an answer; use 200 to \
             599",
            "r.yaml:7:13: spec.steps[1].fault.code: is not a known code; give one of the \
             documented codes, as body_invalid",
        ],
    );
}
