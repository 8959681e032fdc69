//! A history that is taken in by event time.

use arrow::array::{AsArray as _, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, is_null, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use fastrand::Rng;

use super::corrections::{self, last, lines};
use super::equal::TEXTS;
use super::world::{at_once, plan, records, run, shown, troubled};
use crate::query::{Continuous, Span};

/// Some of the rows, in any order and in batches of any size.
fn shuffled(rows: &RecordBatch, is_asked: &BooleanArray, rng: &mut Rng) -> Vec<RecordBatch> {
    let rows = filter_record_batch(rows, is_asked).unwrap();
    let mut order: Vec<u64> = (0..rows.num_rows() as u64).collect();
    rng.shuffle(&mut order);
    let mut batches = Vec::new();
    while !order.is_empty() {
        let rest = order.split_off(order.len().min(1 + rng.usize(0..60)));
        let part = std::mem::replace(&mut order, rest);
        batches.push(take_record_batch(&rows, &UInt64Array::from(part)).unwrap());
    }
    batches
}

/// In slices of event time, the rows of each in any order, windows closed behind each slice as
/// far as the whole log's floor allows, and restarts: what the log's order gives, as it gives it.
#[tokio::test]
async fn slices_of_event_time_answer_as_the_logs_order() {
    let corrected = corrections::TEXTS.map(corrections::with_head);
    let texts: Vec<&str> =
        TEXTS.iter().copied().chain(corrected.iter().map(String::as_str)).collect();
    for seed in 0..2 * texts.len() as u64 {
        let mut rng = Rng::with_seed(seed);
        let text = texts[seed as usize % texts.len()];
        let partitions = 1 + rng.usize(0..3);
        let log = if rng.bool() {
            records(&mut rng, partitions, 300)
        } else {
            troubled(&mut rng, partitions, 300)
        };
        let ran = run(text, &log, &mut rng).await;
        let Some(floor) = ran.floor else { continue };
        let rows = concat_batches(&ran.rows[0].schema(), &ran.rows).unwrap();
        let is_live = is_null(rows.column_by_name("replay_id").unwrap()).unwrap();
        let times = rows.column_by_name("event_time").unwrap();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut bounds: Vec<i64> =
            (0..rng.usize(0..9)).map(|_| times.value(rng.usize(0..times.len()))).collect();
        bounds.push(i64::MAX);
        bounds.sort_unstable();
        let mut query = Continuous::new(plan(text).await);
        let (mut answers, mut corrections) = (Vec::new(), Vec::new());
        let mut after = i64::MIN;
        for before in bounds {
            let within = times.values().iter().zip(is_live.values());
            let within: BooleanArray = within
                .map(|(time, is_live)| Some(is_live && (after..before).contains(time)))
                .collect();
            for batch in shuffled(&rows, &within, &mut rng) {
                query.feed(&batch).await.unwrap();
            }
            let by = floor.min(query.plan().floor_at(before));
            answers.extend(query.advance(None, by).await.unwrap());
            let (correction, more) = query.correct(None, by, i64::MAX).await.unwrap();
            assert!(!more, "seed {seed}: all that may be corrected is");
            corrections.extend(correction);
            if rng.bool() {
                let saved = query.save().await.unwrap();
                query = Continuous::restore(plan(text).await, &saved).unwrap();
            }
            after = before;
        }
        let closed = Span { floor_us: Some(floor), ..Span::default() };
        let expected = at_once(text, &ran.rows, &closed).await;
        assert_eq!(shown(&query, &answers), expected, "seed {seed}");
        let found = last(query.plan(), &answers, &corrections);
        let expected = ran.corrections.get(&None).map(Vec::as_slice).unwrap_or_default();
        let no_rows = Vec::new();
        let first = ran.answers.get(&None).unwrap_or(&no_rows);
        let expected = last(query.plan(), first, expected);
        assert_eq!(lines(&found), lines(&expected), "seed {seed}, corrected");
    }
}
