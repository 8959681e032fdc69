//! Joins with what the registry said as a row came about.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use fastrand::Rng;

use super::world::{file, records};
use crate::entities::Entities;
use crate::entities::tests::tell;
use crate::intake::{Decoder, Stamps};
use crate::query::{Continuous, Error, Plan, QueryFile, Reference, Sources};

const JOINED: &str = "SELECT window_start, upstream, count(*) AS n
    FROM TUMBLE(events, event_time, INTERVAL '1 hour')
    JOIN weir_apis AS a ON a.name = api_name
        AND config_revision BETWEEN a.first_revision AND a.last_revision
    GROUP BY window_start, upstream";

fn sources(entities: &Entities) -> Sources {
    Sources::new([], Reference::of_registry(entities).collect())
}

/// Of a log, as one batch.
fn rows() -> RecordBatch {
    let records = records(&mut Rng::with_seed(2), 1, 200).remove(0);
    let next = records.last().unwrap().offset + 1;
    Stamps::new(0).stamp(&Decoder::new(), 0, &records, next).unwrap().rows
}

const SOON: Duration = Duration::from_millis(50);

/// The registry's history may come to a node later than what came about by it.
#[tokio::test]
async fn rows_wait_for_the_revision_that_they_name() {
    let entities = Entities::default();
    let plan = Plan::new(file(JOINED), &sources(&entities)).await.unwrap();
    let (mut query, rows) = (Continuous::new(plan), rows());
    {
        let mut feeding = std::pin::pin!(query.feed(&rows));
        tell(&entities, "api/orders 1 {\"upstream\":\"north\"}\n.end 1");
        tokio::time::timeout(SOON, &mut feeding).await.unwrap_err();
        tell(&entities, "api/orders 2 {\"upstream\":\"south\"}\n.end 5\n.end 7");
        tokio::time::timeout(SOON, &mut feeding).await.unwrap_err();
        tell(&entities, ".end 8");
        feeding.await.unwrap();
    }
    // What comes later changes nothing of what was.
    tell(&entities, "api/orders 3 {\"upstream\":\"west\"}\n.end 9");
    let answer = query.advance(None, i64::MAX).await.unwrap().unwrap();
    let shown = pretty_format_batches(&[answer]).unwrap().to_string();
    for (upstream, is_there) in [("north", true), ("south", true), ("west", false)] {
        assert_eq!(shown.contains(upstream), is_there, "{shown}");
    }
}

/// It joins as its windows close, perhaps on a node that has just begun to read the history.
#[tokio::test]
async fn windows_wait_for_the_revision_that_their_rows_named_before_a_restart() {
    let held = "SELECT window_start, upstream, place FROM (SELECT window_start, api_name, \
        config_revision, row_number() OVER (PARTITION BY window_start ORDER BY event_time, \
        log_partition, log_offset) AS place FROM TUMBLE(events, event_time, INTERVAL '1 hour')) \
        JOIN weir_apis AS a ON a.name = api_name \
        AND config_revision BETWEEN a.first_revision AND a.last_revision";
    let above = "SELECT window_start, upstream, n FROM (SELECT window_start, api_name, \
        config_revision, count(*) AS n FROM TUMBLE(events, event_time, INTERVAL '1 hour') \
        GROUP BY window_start, api_name, config_revision) \
        JOIN weir_apis AS a ON a.name = api_name \
        AND config_revision BETWEEN a.first_revision AND a.last_revision";
    let history = "api/orders 1 {\"upstream\":\"north\"}\n.end 1\n\
        api/orders 2 {\"upstream\":\"south\"}\n.end 5\n.end 8";
    for text in [held, above] {
        let entities = Entities::default();
        tell(&entities, history);
        let plan = async |entities| Plan::new(file(text), &sources(entities)).await.unwrap();
        let mut query = Continuous::new(plan(&entities).await);
        query.feed(&rows()).await.unwrap();
        let saved = query.save().await.unwrap();
        let expected = query.advance(None, i64::MAX).await.unwrap().unwrap();
        assert!(expected.num_rows() > 2);

        let entities = Entities::default();
        let mut query = Continuous::restore(plan(&entities).await, &saved).unwrap();
        let mut closing = std::pin::pin!(query.advance(None, i64::MAX));
        tell(&entities, ".end 7");
        tokio::time::timeout(SOON, &mut closing).await.unwrap_err();

        let told = Entities::default();
        tell(&told, history);
        let mut query = Continuous::restore(plan(&told).await, &saved).unwrap();
        assert_eq!(query.advance(None, i64::MAX).await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_the_registry_never_had_stops_the_query_and_is_named() {
    let entities = Entities::default();
    tell(&entities, ".end 3");
    let plan = Plan::new(file(JOINED), &sources(&entities)).await.unwrap();
    let failed = Continuous::new(plan).feed(&rows()).await.unwrap_err();
    assert!(matches!(failed, Error::Revision { named: 8, told: 3, .. }), "{failed}");
    assert!(failed.to_string().contains("by revision 8 of the registry, whose history ends at 3"));
}

/// Another version makes no other query of it.
#[tokio::test]
async fn a_query_goes_on_as_the_registry_changes() {
    let entities = Entities::default();
    let hash =
        async || Plan::new(file(JOINED), &sources(&entities)).await.unwrap().hash().to_owned();
    let before = hash().await;
    tell(&entities, "api/orders 1 {\"upstream\":\"north\"}\n.end 1");
    assert_eq!(hash().await, before);
}

#[tokio::test]
async fn what_the_registry_says_now_is_refused() {
    let marks = Reference::of_csv("marks", "config_revision,mark\n9,nine\n").unwrap();
    let tables = Reference::of_registry(&Entities::default()).chain([marks]).collect();
    let counted = |what: &str| {
        let text = format!(
            "SELECT window_start, api_name, {what} AS config_revision \
             FROM TUMBLE(events, event_time, INTERVAL '1 minute') GROUP BY 1, 2"
        );
        QueryFile { name: "counted".to_owned(), ..file(&text) }
    };
    let counted = counted("CAST(count(*) AS INT)");
    let sources = Sources::new([&counted], tables);
    let tumble = "TUMBLE(events, event_time, INTERVAL '1 minute')";
    let then = "config_revision BETWEEN a.first_revision AND a.last_revision";
    let of_now = "reads weir_apis of now, which is another every time";
    for (query, expected) in [
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name GROUP BY 1"), of_now),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name WHERE {then} GROUP BY 1"), of_now),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND NOT {then} GROUP BY 1").replace("NOT config_revision BETWEEN", "config_revision NOT BETWEEN"), of_now),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND log_offset BETWEEN a.first_revision AND a.last_revision GROUP BY 1"), of_now),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN (SELECT name, min(first_revision) AS first_revision, max(last_revision) AS last_revision FROM weir_apis GROUP BY name) AS a ON a.name = api_name AND {then} GROUP BY 1"), of_now),
        (format!("SELECT window_start, count(*) FROM {tumble} WHERE api_name IN (SELECT name FROM weir_apis) GROUP BY 1"), of_now),
        (format!("SELECT window_start, max(a.last_revision) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND {then} GROUP BY 1"), "reads last_revision, which is another once there is a newer version"),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND {then} AND a.is_current GROUP BY 1"), "reads is_current"),
        (format!("SELECT t.window_start, a.* FROM {tumble} AS t JOIN weir_apis AS a ON a.name = t.api_name AND {then}"), "reads last_revision"),
        (format!("SELECT window_start, count(*) FROM TUMBLE((SELECT event_time, api_name, log_offset AS config_revision FROM events), event_time, INTERVAL '1 minute') JOIN weir_apis AS a ON a.name = api_name AND {then} GROUP BY 1"), "calls another column config_revision"),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND {then} JOIN weir_tiers AS b ON b.name = a.tier AND {then} GROUP BY 1"), "reads weir_tiers of now"),
        (format!("SELECT window_start, count(*) FROM {tumble} JOIN weir_apis AS a ON a.name = api_name AND {then} AND EXISTS (SELECT 1 FROM weir_tiers) GROUP BY 1"), "reads weir_tiers of now"),
        (format!("SELECT window_start, count(*) FROM {tumble} AS t JOIN marks AS m ON mark = api_name JOIN weir_apis AS a ON a.name = api_name AND m.{then} GROUP BY 1"), "config_revision may be of any revision: the table marks has it too"),
        (format!("SELECT window_start, count(*) FROM {tumble} WHERE api_name IN (SELECT a.name FROM marks AS m JOIN weir_apis AS a ON m.{then}) GROUP BY 1"), of_now),
        (format!("SELECT window_start, count(*) FROM TUMBLE((SELECT event_time, api_name, config_revision FROM events UNION ALL SELECT event_time, api_name, log_offset FROM events), event_time, INTERVAL '1 minute') JOIN weir_apis AS a ON a.name = api_name AND {then} GROUP BY 1"), "it is put together with log_offset"),
        (format!("SELECT window_start, count(*) FROM TUMBLE((SELECT window_start AS at, api_name, config_revision FROM counted), at, INTERVAL '1 hour') JOIN weir_apis AS a ON a.name = api_name AND {then} GROUP BY 1"), "that of counted is no BIGINT"),
        (format!("SELECT j.window_start, max(j.last_revision) FROM ({tumble} AS t JOIN weir_tiers AS a ON a.name = t.api_name AND {then}) AS j GROUP BY 1"), "reads last_revision"),
        (format!("SELECT j.* FROM ({tumble} AS t JOIN weir_tiers AS a ON a.name = t.api_name AND {then}) AS j WHERE j.is_current"), "which is another once there is a newer version"),
        (format!("SELECT window_start, count(*) FROM weir_apis AS a LEFT JOIN {tumble} AS t ON a.name = api_name AND {then} GROUP BY 1"), "let what has no end be the side that is kept whole"),
    ] {
        let told = Plan::new(file(&query), &sources).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{query}\n{told}\nexpected {expected}");
    }
}

#[tokio::test]
async fn columns_of_other_tables_may_be_called_as_those_of_versions() {
    let text = JOINED.replace(
        "GROUP BY",
        "JOIN owners AS o ON o.api = api_name WHERE o.is_current AND o.last_revision > 0 GROUP BY",
    );
    let owners = Reference::of_csv("owners", "api,is_current,last_revision\norders,true,1\n");
    let tables = Reference::of_registry(&Entities::default()).chain([owners.unwrap()]).collect();
    Plan::new(file(&text), &Sources::new([], tables)).await.unwrap();
}
