//! What every log promises, a file a promise. See `ingest::log::EventLog`.

mod append;
mod cleanup;
mod group;
mod read;
mod transaction;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use ingest::log::{Error, EventLog, NewRecord, Partition, ReadLimit, Record};

use crate::subject::{Case, PATIENCE};

macro_rules! cases {
    ($($file:ident: $($case:ident),+;)+) => {
        vec![$($((stringify!($case), (|world| Box::pin($file::$case(world))) as Case)),+),+]
    };
}

/// What holds on every log.
pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases! {
        append: what_is_read_is_what_was_appended, appends_of_one_caller_keep_their_order,
            writers_at_once_each_keep_their_order, what_does_not_fit_is_refused,
            topics_are_made_once_and_just_so;
        read: a_reader_waits_for_what_comes, partitions_take_turns,
            an_offset_outside_is_an_error, values_alone_are_the_same,
            a_reader_may_be_given_up_at_any_time,
            a_time_leads_to_its_first_record, a_scan_ends_where_its_partitions_did;
        group: offsets_are_remembered_without_members, members_share_and_hand_over,
            a_member_leaves_whatever_it_was_told,
            a_paused_partition_waits_and_loses_nothing, a_pause_ends_with_the_assignment,
            a_new_group_begins_with_the_first_record, pauses_at_random_pass_nothing_over;
        transaction: records_and_offsets_come_together, a_zombie_writer_is_refused,
            a_refused_transaction_leaves_no_trace;
        cleanup: a_trim_removes_what_is_below;
    }
}

/// What holds on every durable log; the one in memory ends with its process, and
/// keeps its defaults for times and sizes.
pub(crate) fn durable_cases() -> Vec<(&'static str, Case)> {
    cases! {
        append: everything_is_there_after_reopening, many_ask_at_once_after_reopening;
        group: a_silent_member_is_put_out_and_refused, a_member_that_was_put_out_leaves;
        transaction: a_zombie_member_commits_nothing;
        cleanup: compaction_keeps_the_last_of_each_key, old_records_go_by_age,
            a_partition_stays_within_its_size;
    }
}

const WAIT: Duration = Duration::from_secs(20);

fn limit() -> ReadLimit {
    ReadLimit { wait: WAIT, ..ReadLimit::default() }
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

/// Records `prefix 0`, `prefix 1` and so on for one partition.
fn numbered(partition: &Partition, prefix: &str, count: usize) -> Vec<(Partition, NewRecord)> {
    let record = |i| NewRecord::unkeyed(Bytes::from(format!("{prefix} {i}")));
    (0..count).map(|i| (partition.clone(), record(i))).collect()
}

/// Reads from `from` until `count` records have come.
async fn read(
    log: &dyn EventLog,
    partition: &Partition,
    from: u64,
    count: usize,
) -> Result<Vec<Record>> {
    let mut reader = log.reader(vec![(partition.clone(), from)]).await?;
    let mut records = Vec::new();
    while records.len() < count {
        match reader.next(limit()).await? {
            Some(batch) => records.extend(batch.records),
            None => bail!("{} of {count} records came: {records:?}", records.len()),
        }
    }
    Ok(records)
}

/// Reads from the first offset until nothing more comes at once. What retention
/// removes meanwhile is passed over.
async fn read_all(log: &dyn EventLog, partition: &Partition) -> Result<Vec<Record>> {
    let short = ReadLimit { wait: Duration::from_secs(2), ..ReadLimit::default() };
    'again: loop {
        let first = log.bounds(partition).await?.first;
        let mut reader = log.reader(vec![(partition.clone(), first)]).await?;
        let mut records = Vec::new();
        loop {
            match reader.next(short).await {
                Ok(Some(batch)) => records.extend(batch.records),
                Ok(None) => return Ok(records),
                Err(Error::OutOfRange { .. }) => continue 'again,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Looks again and again until `check` holds.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !check().await? {
        if start.elapsed() > PATIENCE {
            bail!("{what} did not come about within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
