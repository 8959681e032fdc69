use crate::query::{Plan, QueryFile, Reference, Sources};

const HEAD: &str = "-- title: a test\n-- owner: tests\n";
const FROM: &str = "FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY window_start";

async fn fault(text: &str) -> String {
    let told = match QueryFile::parse("test", text) {
        Ok(file) => match Plan::new(file, &Sources::default()).await {
            Ok(_) => panic!("it was taken:\n{text}"),
            Err(fault) => fault.to_string(),
        },
        Err(faults) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
    };
    assert!(!told.contains(".rs") && !told.contains("backtrace"), "{told}");
    told
}

#[tokio::test]
async fn a_header_with_faults_is_refused_with_line_and_mend() {
    const FINDS: &str =
        "-- title: a\n-- owner: b\n-- severity: low\n-- message: m\n-- subject: client_address\n";
    let acts = |action: &str| format!("{FINDS}-- action: {action}\nSELECT 1");
    let of_a_view = "-- title: a\n-- owner: b\n-- action: {block: user, for: 1 h}\nSELECT 1";
    for (text, expected) in [
        (acts("{block: address}"), "line 6: the header: action: missing field `for`"),
        (acts("{block: address, for: soon}"), "line 6: the header: action: for: give a second"),
        (acts("{block: user, for: 1 h}"), "line 6: action: is against user, and client_address is"),
        (acts("{block: address, for: 60 s}"), "line 6: action: is over before anything is found"),
        (of_a_view.to_owned(), "line 3: action: is for detections"),
    ] {
        let told = fault(&text).await;
        assert!(told.starts_with(expected), "{told}");
    }
    for (text, expected) in [
        ("SELECT 1", "line 1: has no header; begin it with lines such as"),
        ("-- title: a\nSELECT 1", "line 1: the header: missing field `owner`"),
        (
            "-- title: a\n-- owner: b\n-- colour: red\nSELECT 1",
            "line 3: the header: unknown field `colour`",
        ),
        (
            "-- title: a\n-- owner: b\n-- lateness: soon\nSELECT 1",
            "`soon` is no time of at most 744 h; write it as `90 s`",
        ),
        ("-- title: a\n-- owner: b\n-- lateness: -1 s\nSELECT 1", "`-1 s` is no time"),
        (
            "-- title: a\n-- owner: b\n-- severity: bad\nSELECT 1",
            "line 3: the header: severity: unknown variant `bad`",
        ),
        ("-- title: a\n-- owner: b\n-- severity: low\nSELECT 1", "line 1: subject: is missing"),
        (
            "-- title: a\n-- owner: b\n-- subject: c\nSELECT 1",
            "line 3: subject: is for detections; give a severity too",
        ),
        ("-- title: a\n-- owner: ''\nSELECT 1", "line 2: owner: is no line of text"),
        (
            "-- title: a\n-- owner: b\n-- memory_mib: 0\nSELECT 1",
            "line 3: memory_mib: is out of range; use 1 to 4096",
        ),
    ] {
        let told = fault(text).await;
        assert!(told.contains(expected), "{text}\n{told}");
    }
    let named = QueryFile::parse("Test", HEAD).unwrap_err();
    assert!(named[0].to_string().contains("`Test` is no name of a query"), "{named:?}");
}

/// Queries that cannot run over what has no end, or would not answer exactly.
#[tokio::test]
async fn a_query_that_could_not_be_exact_is_refused_with_its_reason() {
    let select = |what: &str| format!("SELECT window_start, {what} {FROM}");
    let hop = |times: &str, what: &str| {
        format!("SELECT window_start, {what} FROM HOP(events, event_time, {times}) GROUP BY 1")
    };
    let join = |by: &str, on: &str, what: &str| {
        let of = |name: &str| format!("({}) AS {name}", select("count(*) AS n"));
        format!("SELECT {what} FROM {} {by} {} ON {on}", of("a"), of("b"))
    };
    let session = |groups: &str, what: &str, filter: &str| {
        format!(
            "SELECT {what} FROM SESSION(events, event_time, client_address, INTERVAL '1 minute') {filter} GROUP BY {groups}"
        )
    };
    for (query, expected) in [
        ("SELECT window_start FROM".to_owned(), "line 3: Expected"),
        ("SELECT window_start, nothing FROM events".to_owned(), "line 3: there is no column window_start"),
        (format!("SELECT nothing, count(*) {FROM}"), "there is no column nothing"),
        (format!("SELECT window_start,\n  coutn(*) {FROM}"), "line 4: Invalid function 'coutn'"),
        ("SELECT count(*) FROM events".to_owned(), "does not group by window_start"),
        (format!("SELECT count(*) {FROM}"), "has no column window_start"),
        (format!("SELECT window_start + INTERVAL '1 s' AS window_start, count(*) {FROM}"), "calls another column window_start"),
        ("SELECT window_start, count(*) FROM TUMBLE(events, log_time, INTERVAL '1 minute') GROUP BY window_start".to_owned(), "does not group by window_start"),
        ("SELECT window_start FROM TUMBLE(events, event_time, INTERVAL '1 month') GROUP BY 1".to_owned(), "is a fixed time"),
        ("SELECT window_start FROM TUMBLE(events, event_time, INTERVAL '100 milliseconds') GROUP BY 1".to_owned(), "a second or longer"),
        ("SELECT window_start FROM TUMBLE(events, INTERVAL '1 minute') GROUP BY 1".to_owned(), "takes three arguments, not 2"),
        ("SELECT window_start FROM TUMBLE(events, kind, INTERVAL '1 minute') GROUP BY 1".to_owned(), "is a column of times"),
        ("SELECT window_start FROM TUMBLE(other, event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "no table other"),
        ("SELECT window_start FROM SESSION(events, INTERVAL '1 minute') GROUP BY 1".to_owned(), "SESSION takes three arguments and up to 8 keys, not 2; write SESSION(events, event_time, client_address, INTERVAL '30 minutes')"),
        ("SELECT window_start FROM SESSION(events, event_time, lower(kind), INTERVAL '1 minute') GROUP BY 1".to_owned(), "a key of SESSION is a column, not lower(events.kind)"),
        ("SELECT window_start FROM SESSION(events, event_time, kind, INTERVAL '1 month') GROUP BY 1".to_owned(), "is a fixed time"),
        ("SELECT window_start, count(*) FROM SESSION(events, event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "groups rows of SESSION, and not by window_end; write GROUP BY window_start, window_end"),
        (session("window_start, window_end", "window_start, window_end, count(*)", ""), "and not by client_address"),
        (session("window_start, window_end, client_address", "window_start, client_address", ""), "no column window_end of SESSION"),
        (session("window_start, window_end, client_address", "window_start, window_end, count(*)", "WHERE kind = 'request'"), "put the condition into the table: SESSION((SELECT * FROM events WHERE …), …)"),
        (session("window_start, window_end, client_address", "window_start, window_end, count(*), rank() OVER (PARTITION BY window_start ORDER BY count(*))", ""), "a window function reads several sessions"),
        (session("window_start, window_end, client_address", "window_start, window_end, max(event_time - window_start)", ""), "a row of SESSION does not know them yet"),
        ("SELECT window_start, window_end, client_address FROM (SELECT window_start, window_end, user_agent_original AS client_address FROM SESSION(events, event_time, client_address, INTERVAL '1 minute')) GROUP BY 1, 2, 3".to_owned(), "and not by client_address"),
        ("SELECT window_start, count(*) FROM TUMBLE((SELECT log_time AS event_time FROM events), event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "does not group by window_start"),
        ("SELECT window_start, count(*) FROM TUMBLE((SELECT event_time FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '1 hour')), event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "reads a function of windows out of another"),
        ("SELECT window_start, window_end, k FROM SESSION((SELECT event_time, CAST(latency_total_us AS DOUBLE) AS k FROM events), event_time, k, INTERVAL '1 minute') GROUP BY 1, 2, 3".to_owned(), "a key of SESSION is a text, a whole number, a time or the like, not k of type Float64"),
        ("SELECT window_start, count(*) FROM TUMBLE(events, event_time, INTERVAL '367 days') GROUP BY 1".to_owned(), "a window lasts 366 days at most"),
        (select("max(CAST(latency_total_us AS DOUBLE) / CAST(http_response_body_size AS DOUBLE))"), "max of floating-point numbers depends on the order"),
        ("SELECT window_start, first_value(kind ORDER BY log_partition, log_offset) FROM TUMBLE((SELECT event_time, kind, 1 AS log_partition, 1 AS log_offset FROM events), event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "depends on the order of the rows"),
        ("SELECT window_start FROM HOP(events, event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "HOP takes four arguments, not 3; write HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')"),
        (hop("INTERVAL '7 seconds', INTERVAL '1 minute'", "count(*)"), "lasts a whole multiple of INTERVAL '7 seconds'"),
        (hop("INTERVAL '1 minute', INTERVAL '30 seconds'", "count(*)"), "lasts a whole multiple of INTERVAL '1 minute'"),
        (hop("INTERVAL '1 second', INTERVAL '1 hour'", "count(*)"), "up to 256 of them, not INTERVAL '1 hour'"),
        (hop("INTERVAL '1 month', INTERVAL '2 months'", "count(*)"), "is a fixed time"),
        (select("now()"), "now() gives another answer each time"),
        (select("count(*) FILTER (WHERE random() > 0.5)"), "random() gives another answer"),
        (select("sum(CAST(latency_total_us AS DOUBLE))"), "depends on the order of the rows; cast to DECIMAL"),
        (select("avg(latency_total_us)"), "avg of whole numbers"),
        (select("stddev(CAST(latency_total_us AS DOUBLE))"), "stddev of numbers that are not whole depends on the order"),
        (select("var_pop(CAST(latency_total_us AS DECIMAL(20, 2)))"), "cast to BIGINT"),
        (select("covar_pop(latency_total_us, log_offset)"), "covar_pop is not among the aggregates"),
        (select("approx_percentile(latency_total_us, 99)"), "takes a share from 0 to 1 as its second argument"),
        (select("avg(stddev(latency_total_us)) OVER (PARTITION BY window_start)"), "avg OVER (…) of floating-point numbers"),
        (select("sum(stddev(latency_total_us)) OVER (PARTITION BY window_start)"), "sum OVER (…) of floating-point numbers"),
        ("SELECT window_start, count(*) FROM (SELECT window_start, event_time + INTERVAL '1 minute' AS window_end FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '1 hour')) GROUP BY window_start".to_owned(), "calls another column window_end"),
        ("SELECT window_start, window_end, count(*) FROM (SELECT window_start, api_name AS window_end FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '1 hour')) GROUP BY 1, 2".to_owned(), "calls another column window_end"),
        ("SELECT window_start, count(*) AS window_end FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY 1".to_owned(), "calls another column window_end; give it another name"),
        ("-- horizon: 24 h\nWITH n AS (SELECT window_start, count(*) AS n FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY 1) SELECT *, sum(n) OVER (ORDER BY window_start RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW) AS day FROM n".to_owned(), "panes of HOP, 8192 at most"),
        (select("approx_percentile(kind, 0.9)"), "takes a whole number and a share"),
        (select("approx_percentile(latency_total_us, log_offset)"), "write 0.99 for the 99th percentile"),
        (select("approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY latency_total_us)"), "use approx_percentile"),
        (select("array_agg(kind)"), "array_agg depends on the order"),
        (select("last_value(kind ORDER BY event_time)"), "last_value depends on the order"),
        (select("count(*) OVER ()"), "count reads rows of all time"),
        (select("sum(count(*)) OVER (ORDER BY window_start)"), "without a bound"),
        (select("kind, row_number() OVER (PARTITION BY window_start)").replace("GROUP BY window_start", "GROUP BY window_start, kind"), "row_number OVER (…) depends on"),
        (select("sum(count(*)) OVER (ORDER BY window_start ROWS 3 PRECEDING)"), "reads ROWS of windows"),
        (select("sum(count(*)) OVER (ORDER BY window_start RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)"), "more than its horizon"),
        (format!("{} ORDER BY 1", select("count(*)")), "leave ORDER BY out"),
        (format!("{} LIMIT 1", select("count(*)")), "LIMIT over what has no end"),
        (format!("{} UNION ALL {}", select("count(*)"), select("count(*)").replace("1 minute", "2 minutes")), "puts rows of different windows together"),
        (format!("SELECT DISTINCT n FROM ({})", select("count(*) AS n")), "leaves out rows that are alike of all windows; let window_start be"),
        (format!("SELECT n, max(window_start) AS last FROM ({}) GROUP BY 1", select("count(*) AS n")), "groups rows of all windows together"),
        (format!("SELECT DISTINCT ON (window_start) window_start, n FROM ({})", select("count(*) AS n")), "in an order that several may share"),
        (join("JOIN", "a.n = b.n", "a.window_start, a.n"), "joins rows of different windows; write JOIN … ON a.window_start = b.window_start"),
        (join("JOIN", "a.window_start = b.window_start", "a.n"), "has no column window_start"),
        (join("LEFT JOIN", "a.window_start = b.window_start", "b.window_start, b.n"), "has no column window_start"),
        (join("FULL JOIN", "a.window_start = b.window_start", "a.window_start, b.n"), "has no column window_start"),
        (join("LEFT JOIN", "a.window_start = b.window_start AND a.n < b.n", "a.window_start, rank() OVER (PARTITION BY b.window_start ORDER BY a.n)"), "reads rows of all time"),
        (format!("{} UNION ALL SELECT window_start, CAST(log_offset AS DOUBLE) FROM TUMBLE(events, event_time, INTERVAL '1 minute')", select("avg(latency_total_us)")), "avg of whole numbers"),
        ("SELECT a.event_time FROM events AS a JOIN events AS b ON a.event_time = b.event_time".to_owned(), "joins what has no end, and not by the same windows"),
        ("SELECT window_start, event_time FROM (VALUES (1)) AS v(n) LEFT JOIN TUMBLE(events, event_time, INTERVAL '1 minute') AS t ON t.log_offset = v.n".to_owned(), "let what has no end be the side that is kept whole"),
        ("SELECT window_start, lag(kind) OVER (PARTITION BY window_start ORDER BY event_time) FROM TUMBLE(events, event_time, INTERVAL '1 minute')".to_owned(), "give its OVER a PARTITION BY window_start and an ORDER BY that ends in log_partition, log_offset"),
        ("SELECT window_start, lag(kind) OVER (PARTITION BY window_start ORDER BY log_partition, log_offset) FROM TUMBLE((SELECT * FROM events UNION ALL SELECT * FROM events), event_time, INTERVAL '1 minute')".to_owned(), "depends on the order of rows that are alike"),
        ("SELECT window_start, lag(kind) OVER (PARTITION BY window_end ORDER BY log_partition, log_offset) FROM TUMBLE(events, event_time, INTERVAL '1 minute')".to_owned(), "reads rows of all time"),
        ("SELECT window_start, lag(kind) OVER (ORDER BY event_time) FROM (SELECT window_start, event_time, kind FROM SESSION(events, event_time, kind, INTERVAL '1 minute'))".to_owned(), "asks more of sessions than one GROUP BY"),
        ("SELECT kind, row_number() OVER (ORDER BY event_time) FROM events".to_owned(), "a window function reads rows of all time"),
        (join("LEFT JOIN", "a.window_start = b.window_start AND a.n < b.n", "a.window_start, sum(a.n) OVER (PARTITION BY b.window_start ORDER BY a.window_start RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)"), "reads rows of all time"),
        (join("JOIN", "a.window_start = b.window_start", "a.window_start, a.n, b.n"), "gives two columns called n"),
        (join("LEFT JOIN", "a.window_start = b.window_start AND a.n < b.n", "a.window_start, b.window_end").replace("AS n FROM", "AS n, window_end FROM").replace("GROUP BY window_start", "GROUP BY window_start, window_end"), "its window_end is of the side of a join that may be empty"),
        (format!("{} UNION ALL {}", select("count(*)"), select("CAST(count(*) AS DOUBLE)")), "puts columns of different types together"),
        (select("sum(CASE WHEN latency_total_us > 1 THEN 1 ELSE CAST(latency_total_us AS DOUBLE) END)"), "sum of floating-point numbers"),
        (select("rank() OVER (ORDER BY window_start RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)"), "ranks rows of all time"),
        (select("avg(count(*)) OVER (PARTITION BY window_start)"), "avg OVER (…) of whole numbers"),
        (select("sum(count(*)) OVER (ORDER BY window_start RANGE BETWEEN INTERVAL '-1 minute' PRECEDING AND CURRENT ROW)"), "without a bound, or later ones"),
        (select("first_value(kind ORDER BY log_partition, 0 * log_offset)"), "first_value depends on the order"),
        ("SELECT window_start, count(*) FROM TUMBLE(events, event_time, INTERVAL '1 minute') CROSS JOIN generate_series(1, 9) GROUP BY 1".to_owned(), "reads generate_series, which is neither events, nor a view, nor a table"),
        ("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT window_start, count(*) FROM TUMBLE(events, event_time, INTERVAL '1 minute') JOIN n ON i = log_offset GROUP BY 1".to_owned(), "reads n, which is neither events, nor a view, nor a table"),
        ("SELECT CAST(date_bin(INTERVAL '0 seconds', event_time) AS TIMESTAMP) AS window_start, kind FROM events".to_owned(), "calls another column window_start"),
        (select("(SELECT count(*) FROM events)"), "a query within an expression"),
        ("DELETE FROM events".to_owned(), "DML not supported"),
    ] {
        let told = fault(&format!("{HEAD}{query}")).await;
        assert!(told.contains(expected), "{query}\n{told}\nexpected {expected}");
    }
}

/// What a query reads of other queries has to be there, and must not read it in turn.
#[tokio::test]
async fn a_view_that_cannot_be_read_is_named() {
    let file = |name: &str, query: &str| QueryFile::parse(name, &format!("{HEAD}{query}")).unwrap();
    let over = |view: &str| {
        format!(
            "SELECT window_start, sum(n) AS n FROM TUMBLE((SELECT window_start AS t, n FROM {view}), \
             t, INTERVAL '1 hour') GROUP BY window_start"
        )
    };
    let minutes = file("minutes", &format!("SELECT window_start, count(*) AS n {FROM}"));
    let sessions = file(
        "sessions",
        "SELECT window_start, window_end, count(*) AS n FROM SESSION(events, event_time, \
         INTERVAL '1 minute') GROUP BY window_start, window_end",
    );
    let hours = file("hours", &over("minutes"));
    let (here, there) = (file("here", &over("there")), file("there", &over("here")));
    let broken = file("broken", "SELECT window_start, n FROM nowhere");
    let found = QueryFile::parse(
        "found",
        &format!(
            "-- severity: low\n-- subject: kind\n-- message: m\n{HEAD}SELECT window_start, window_end, kind, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY 1, 2, 3"
        ),
    );
    let all = [minutes, sessions, hours, here.clone(), there, broken, found.unwrap()];
    let sources = Sources::new(&all, Vec::new());
    let two = format!("{} UNION ALL {}", over("minutes"), over("hours"));
    for (query, expected) in [
        (over("hours"), None),
        (
            over("nothing"),
            Some("there is no table nothing; there are broken, events, here, hours, minutes, "),
        ),
        (over("minute"), Some("there is no table minute; did you mean minutes? there are")),
        (over("here"), Some("the view here: line 3: there is no table there: the view there")),
        (over("broken"), Some("the view broken: line 3: there is no table nowhere")),
        (over("sessions"), Some("reads the sessions of sessions, which is not there yet")),
        (over("found"), Some("there is no table found; there are")),
        (two, Some("reads hours and minutes, which do not go on together")),
        (
            over("minutes").replace("window_start AS t", "window_start + INTERVAL '1 s' AS t"),
            Some("does not group by window_start"),
        ),
        (
            "SELECT window_start, n FROM TUMBLE(minutes, window_start, INTERVAL '1 hour')"
                .to_owned(),
            Some("the table has a column window_start already"),
        ),
    ] {
        let told = Plan::new(file("reads", &query), &sources).await.err();
        let told = told.map(|fault| fault.to_string());
        match expected {
            None => assert_eq!(told, None, "{query}"),
            Some(expected) => {
                let told = told.unwrap_or_else(|| panic!("it was taken:\n{query}"));
                assert!(told.contains(expected), "{query}\n{told}\nexpected {expected}");
            }
        }
    }
    let told = Plan::new(here, &sources).await.unwrap_err().to_string();
    let why = "the view there: line 3: there is no table here: \
               the view here reads this query itself";
    assert!(told.contains(why), "{told}");
}

/// A row that is joined to two is there twice; and a table has no end of its own.
#[tokio::test]
async fn a_join_that_could_not_be_exact_is_refused() {
    let owners = Reference::of_csv("owners", "address,owner\n198.51.100.1,north\n").unwrap();
    let sources = Sources::new([], vec![owners]);
    let tumble = "TUMBLE(events, event_time, INTERVAL '1 minute')";
    let joined = format!("{tumble} JOIN owners ON address = client_address");
    for (query, expected) in [
        (
            format!(
                "SELECT window_start, first_value(owner ORDER BY event_time, log_partition, \
                 log_offset) FROM {joined} GROUP BY 1"
            ),
            "first_value depends on the order of the rows",
        ),
        (
            format!(
                "SELECT window_start, lag(owner) OVER (PARTITION BY window_start ORDER BY \
                 event_time, log_partition, log_offset) FROM {joined}"
            ),
            "depends on the order of rows that are alike",
        ),
        (
            format!(
                "SELECT window_start, count(*) FROM owners LEFT JOIN {tumble} AS t ON address = \
                 client_address GROUP BY 1"
            ),
            "let what has no end be the side that is kept whole",
        ),
        (
            "SELECT window_start, window_end, client_address, count(*) FROM SESSION(events, \
             event_time, client_address, INTERVAL '1 minute') JOIN owners ON address = \
             client_address GROUP BY 1, 2, 3"
                .to_owned(),
            "leaves rows out after they made a session",
        ),
        ("SELECT owner, count(*) FROM owners GROUP BY 1".to_owned(), "reads no events"),
        (
            format!(
                "SELECT window_start, count(*) FROM {tumble} JOIN (SELECT * FROM owners WHERE \
                 address > CAST(now() AS VARCHAR)) AS o ON address = client_address GROUP BY 1"
            ),
            "now() gives another answer each time",
        ),
        (
            format!(
                "SELECT window_start, count(*) FROM {tumble} WHERE client_address IN (SELECT \
                 address FROM owners WHERE random() > 0.5) GROUP BY 1"
            ),
            "random() gives another answer",
        ),
        (
            format!(
                "SELECT window_start, count(*) FROM {tumble} WHERE client_address IN (SELECT \
                 address FROM owners LIMIT 1) GROUP BY 1"
            ),
            "LIMIT over what has no end",
        ),
        (
            "SELECT window_start, count(*) FROM HOP(events, event_time, INTERVAL '1 minute', \
             INTERVAL '1 hour') WHERE EXISTS (SELECT 1 FROM owners WHERE CAST(window_start AS \
             VARCHAR) = address) GROUP BY 1"
                .to_owned(),
            "a query within an expression",
        ),
        (
            "SELECT window_start, count(*) FROM TUMBLE(events, event_time, INTERVAL '1 minute') \
             JOIN (SELECT owner, window_start AS begun FROM HOP((SELECT CAST(address AS TIMESTAMP) AS \
             at, owner FROM owners), at, INTERVAL '1 minute', INTERVAL '1 hour')) AS o ON owner = \
             client_address GROUP BY 1"
                .to_owned(),
            "the windows are of another table",
        ),
    ] {
        let file = QueryFile::parse("reads", &format!("{HEAD}{query}")).unwrap();
        let told = Plan::new(file, &sources).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{query}\n{told}\nexpected {expected}");
    }
}
