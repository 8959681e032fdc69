use arrow::util::pretty::pretty_format_batches;
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{Headers, LogTime, NewRecord, Record};
use ingest::registry::{Applier, Change, ChangeSet, Json};
use tokio::time::Instant;

use super::*;

/// Tells what lines say, as the history does: `application/shop 1 {"owner":"ann"}` of a version,
/// `application/shop` of one that is gone, `.anew`, and `.end 3` of a revision.
pub(crate) fn tell(entities: &Entities, lines: &str) {
    let first = entities.held.lock().next().unwrap_or(0);
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let record = |(offset, line): (u64, &str)| {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        let value = match (key, rest.split_once(' ')) {
            (".end", _) => Some(format!(r#"{{"revision":{rest}}}"#)),
            (".anew", _) => Some("{}".to_owned()),
            (_, Some((version, fields))) => {
                Some(format!(r#"{{"version":{version},"fields":{fields}}}"#))
            }
            (_, None) => None,
        };
        Record {
            offset,
            time: LogTime(1_769_904_000_000 + offset.cast_signed()),
            key: Some(key.to_owned().into()),
            value: value.map(Into::into),
            headers: Headers::default(),
        }
    };
    let records: Vec<Record> = (first..).zip(lines).map(record).collect();
    let next = first + records.len() as u64;
    let partition = Topics::default().history;
    entities.take(&Batch { partition, records, next });
}

fn shown(entities: &Entities, kind: Kind, columns: &[&str]) -> String {
    let rows = entities.rows(kind);
    let at: Vec<usize> = columns.iter().map(|name| rows.schema().index_of(name).unwrap()).collect();
    pretty_format_batches(&[rows.project(&at).unwrap()]).unwrap().to_string()
}

const VERSIONS: &[&str] =
    &["name", "version", "first_revision", "last_revision", "is_current", "owner"];

#[test]
fn each_version_has_the_revisions_in_which_it_was_in_force() {
    let entities = Entities::default();
    tell(
        &entities,
        r#"application/shop 1 {"owner":"ann"}
        application/depot 1 {"owner":"cid","tier":"gold"}
        .end 1
        .end 2
        application/shop 2 {"owner":"bob"}
        .end 3
        application/depot
        .end 4
        application/depot 2 {"owner":"dan"}"#,
    );
    let expected = "\
+-------+---------+----------------+---------------------+------------+-------+
| name  | version | first_revision | last_revision       | is_current | owner |
+-------+---------+----------------+---------------------+------------+-------+
| shop  | 1       | 1              | 2                   | false      | ann   |
| depot | 1       | 1              | 3                   | false      | cid   |
| shop  | 2       | 3              | 9223372036854775807 | true       | bob   |
+-------+---------+----------------+---------------------+------------+-------+";
    assert_eq!(shown(&entities, Kind::Application, VERSIONS), expected);
    assert_eq!(*entities.revision.borrow(), 4, "the last set is not whole");
    assert_eq!(entities.rows(Kind::Tier).num_rows(), 0);
}

/// As an applier of an older release leaves a gap, and one that was killed a part.
#[test]
fn what_is_told_anew_ends_what_is_there_no_more_and_nothing_else() {
    let entities = Entities::default();
    tell(
        &entities,
        r#"application/shop 1 {"owner":"ann"}
        application/depot 1 {"owner":"cid"}
        application/kiosk 1 {"owner":"eve"}
        .end 5
        .anew
        application/other 1 {"owner":"nobody"}
        .anew
        application/shop 1 {"owner":"ann"}
        application/kiosk 2 {"owner":"fay"}
        .end 9
        .anew
        application/shop 1 {"owner":"ann"}
        application/kiosk 2 {"owner":"fay"}
        .end 9"#,
    );
    let expected = "\
+-------+---------+----------------+---------------------+------------+-------+
| name  | version | first_revision | last_revision       | is_current | owner |
+-------+---------+----------------+---------------------+------------+-------+
| shop  | 1       | 5              | 9223372036854775807 | true       | ann   |
| depot | 1       | 5              | 8                   | false      | cid   |
| kiosk | 1       | 5              | 8                   | false      | eve   |
| kiosk | 2       | 9              | 9223372036854775807 | true       | fay   |
+-------+---------+----------------+---------------------+------------+-------+";
    assert_eq!(shown(&entities, Kind::Application, VERSIONS), expected);
}

#[test]
fn each_kind_has_its_table() {
    let names: Vec<String> = tables().map(|(_, name)| name).collect();
    let expected = [
        "weir_apis",
        "weir_applications",
        "weir_routes",
        "weir_subscriptions",
        "weir_tiers",
        "weir_upstreams",
    ];
    assert_eq!(names, expected);
    let entities = Entities::default();
    tell(
        &entities,
        r#"api/orders 1 {"context":"/orders","api_version":"v1","is_default_version":true,"timeout_ms":18446744073709551615}
        .end 1"#,
    );
    let columns = ["context", "is_default_version", "tier", "timeout_ms", "since"];
    let expected = "\
+---------+--------------------+------+---------------------+----------------------+
| context | is_default_version | tier | timeout_ms          | since                |
+---------+--------------------+------+---------------------+----------------------+
| /orders | true               |      | 9223372036854775807 | 2026-02-01T00:00:00Z |
+---------+--------------------+------+---------------------+----------------------+";
    assert_eq!(shown(&entities, Kind::Api, &columns), expected);
}

/// As a node starts: nothing that is asked then is answered without it.
#[tokio::test]
async fn the_history_is_there_before_anything_runs() {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
    let topics = Topics::default();
    let mut applier = Applier::open(&log, topics.clone()).await.unwrap();
    let mut put = async |id: &str, name: &str| {
        let spec = Json(serde_json::from_str(r#"{"owner":"ann"}"#).unwrap());
        let (kind, name) = (Kind::Application, name.parse().unwrap());
        let changes = vec![Change::Put { kind, name, expected: None, spec }];
        let (author, message) = ("a".to_owned(), "m".to_owned());
        let set = ChangeSet { id: id.parse().unwrap(), author, message, changes };
        let record = NewRecord::keyed(id.to_owned(), serde_json::to_vec(&set).unwrap());
        log.append(vec![(topics.proposals.clone(), record)]).await.unwrap();
        applier.step(PATIENCE).await.unwrap();
    };
    let entities = Entities::default();
    entities.catch_up(&*log).await.unwrap();
    put("s1", "shop").await;
    entities.catch_up(&*log).await.unwrap();
    assert_eq!(entities.wait_for(1).await, Ok(()));
    assert_eq!(shown(&entities, Kind::Application, &["name"]).matches("shop").count(), 1);
    // It goes on where it was: each version is told of once.
    put("s2", "depot").await;
    entities.catch_up(&*log).await.unwrap();
    assert_eq!(entities.wait_for(2).await, Ok(()));
    let names = shown(&entities, Kind::Application, &["name"]);
    assert!(names.contains("depot") && names.matches("shop").count() == 1, "{names}");
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_waited_for_and_one_that_never_comes_is_told() {
    let entities = Entities::default();
    let waiting = tokio::spawn({
        let entities = entities.clone();
        async move { entities.wait_for(2).await }
    });
    tell(&entities, ".end 1");
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    tell(&entities, ".end 2");
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(entities.wait_for(1).await, Ok(()));
    let began = Instant::now();
    assert_eq!(entities.wait_for(7).await, Err(2));
    assert_eq!(began.elapsed(), PATIENCE);
    // Others do not wait as long for what did not come.
    assert_eq!(entities.wait_for(8).await, Err(2));
    assert_eq!(began.elapsed(), PATIENCE);
    tell(&entities, ".end 3");
    assert_eq!(entities.wait_for(7).await, Err(3));
    assert_eq!(began.elapsed(), 2 * PATIENCE, "it goes on, so it is waited for again");
}
