use super::*;

fn read(text: &str) -> Result<String, String> {
    let root = parse(text.as_bytes())?;
    Ok(String::from_utf8(json::write(&to_json(&root))?).unwrap())
}

#[test]
fn xml_is_json_by_the_convention() {
    let check =
        |text: &str, expected: &str| assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
    check("<a/>", r#"{"a":""}"#);
    check("<a></a>", r#"{"a":""}"#);
    check("<a> x &lt;&#65;&#x42;&amp; </a>", r#"{"a":" x <AB& "}"#);
    check("<a><![CDATA[<b>]]></a>", r#"{"a":"<b>"}"#);
    check("<a><b>1</b> <b>2</b><c/></a>", r#"{"a":{"b":["1","2"],"c":""}}"#);
    check("<a>\n  <b>1</b>\n</a>", r#"{"a":{"b":"1"}}"#);
    check("<a>x<b>1</b>y</a>", r##"{"a":{"b":"1","#text":"xy"}}"##);
    check(r#"<a i="1&quot;">x</a>"#, r##"{"a":{"@i":"1\"","#text":"x"}}"##);
    check(r#"<a i="1"/>"#, r#"{"a":{"@i":"1"}}"#);
    check(r#"<n:a xmlns:n="u" xmlns="v" n:i="1"><b/></n:a>"#, r#"{"a":{"@i":"1","b":""}}"#);
    let nil = r#"<a xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><b x:nil="true"/></a>"#;
    check(nil, r#"{"a":{"b":null}}"#);
    check("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- c --><a>1</a>\n", r#"{"a":"1"}"#);
    check("\u{feff}<a/>", r#"{"a":""}"#);
}

#[test]
fn namespaces_are_resolved() {
    let text = r#"<a xmlns="u"><p:b xmlns:p="v"/><b xmlns=""/></a>"#;
    let root = parse(text.as_bytes()).unwrap();
    assert_eq!((root.namespace.as_str(), root.name.as_str()), ("u", "a"));
    assert!(root.child("v", "b").is_some() && root.child("", "b").is_some());
    assert!(root.child("u", "b").is_none());
}

#[test]
fn what_is_dangerous_or_wrong_is_refused_with_its_place() {
    let check = |text: &str, expected: &str| {
        let found = read(text).unwrap_err();
        assert!(found.contains(expected) && found.contains("byte"), "{text:.80}: {found}");
        assert!(!found.contains("hush"), "{found}");
    };
    let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
    check(laughs, "a document type");
    check("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", "a document type");
    check("<a>&hush;</a>", "an entity that is not one of the five, at byte 3");
    check("<a b=\"&hush;\"/>", "an entity that is not one of the five");
    check("<a>&#0;</a>", "byte 3");
    check("<a b=\"&#1;\"/>", "forbids");
    check("<a>\u{1}</a>", "forbids at byte 3");
    check("<a>", "no end");
    check("", "no end");
    check("<a></b>", "not XML");
    check("<a/><b/>", "a second root");
    check("<a/>hush", "text outside");
    check("<p:a/>", "a prefix that is not declared");
    check("<a p:i=\"1\"/>", "a prefix that is not declared");
    check("<a i=\"1\" i=\"2\"/>", "an attribute that is not one");
    check("<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>", "another encoding");
    check(&"<a>".repeat(65), "more than 64 levels, at byte 192");
    check(&"<a>".repeat(1_000_000), "more than 64 levels");
    check(&format!("<r>{}</r>", "<a/>".repeat(100_001)), "more than 100,000 elements");
    let many: String = (0..257).map(|i| format!(" a{i}=\"\"")).collect();
    check(&format!("<a{many}/>"), "more than 256 attributes");
    assert!(parse(&vec![b' '; DOCUMENT_BYTES_MAX + 1]).unwrap_err().contains("more than"));
    assert!(parse(b"<a>\xff</a>").unwrap_err().ends_with("at byte 3"));
}

#[test]
fn json_is_xml_by_the_convention() {
    let check = |text: &str, expected: Result<&str, &str>| {
        let found = write(&json::parse(text.as_bytes()).unwrap());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    };
    check(
        r#"{"a":{"@i":"<\"","b":[1,2.50,null],"c":true}}"#,
        Ok(r#"<a i="&lt;&quot;"><b>1</b><b>2.50</b><b></b><c>true</c></a>"#),
    );
    check(r##"{"a":{"@i":1,"#text":"x&y"}}"##, Ok(r#"<a i="1">x&amp;y</a>"#));
    check(r#"{"n:a":"1"}"#, Ok("<n:a>1</n:a>"));
    check(r#""x""#, Ok("x"));
    check(r#"{"a b":1}"#, Err("a key is no name in XML"));
    check(r#"{"a><x":1}"#, Err("a key is no name in XML"));
    check(r#"{"a":{"@b=":1}}"#, Err("a key is no name in XML"));
    check(r#"[1]"#, Err("a list without a name has no form in XML"));
    check(r#"{"a":[[1]]}"#, Ok("<a>1</a>"));
    check(r#"{"a":"\u0001"}"#, Err("a text holds a character that XML forbids"));
    check(r#"{"a":{"@b":[]}}"#, Err("a list or an object where XML takes a text"));
}

#[test]
fn what_the_convention_keeps_comes_back() {
    let check = |text: &str| {
        let value = to_json(&parse(text.as_bytes()).unwrap());
        assert_eq!(write(&value).as_deref(), Ok(text));
    };
    check("<a><b>1</b><b>2</b><c>&lt;</c></a>");
    check(r#"<a i="1"><b j="2">x</b></a>"#);
}
