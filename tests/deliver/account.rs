//! The account of a queue, as people ask for it: the shipped table, over the events that the
//! log has.

use std::sync::Arc;

use analytics::compute::Threads;
use analytics::intake::Decoder;
use analytics::lake::History;
use analytics::sql::{Limits, Sql};
use anyhow::{Context, Result, ensure};
use ingest::emit;
use ingest::log::Partition;

use crate::world::{Node, PATIENCE, World};

/// Waits until the account of the queue holds with nothing waiting, once all events of `node`
/// are in the log. How many were accepted, delivered, and dead.
///
/// # Errors
/// What it says instead, after [`PATIENCE`].
pub(crate) async fn holds(world: &World, node: &Node) -> Result<[u64; 3]> {
    let expected = |told: &str| told.ends_with(" 0 holds");
    let (mut told, began) = (String::new(), std::time::Instant::now());
    while !expected(&told) {
        ensure!(began.elapsed() < PATIENCE, "accepted, delivered, dead, waiting: {told:?}");
        told = ask(world, node).await?;
    }
    let mut counts = told.split(' ').map_while(|count| count.parse().ok());
    let mut count = || counts.next().context("a count");
    Ok([count()?, count()?, count()?])
}

/// What the account says of the queue.
async fn ask(world: &World, node: &Node) -> Result<String> {
    node.has_told().await?;
    let lake = tempfile::tempdir()?;
    let (history, mut position) = History::open(lake.path(), &[0]).await?;
    let partition = Partition::new(emit::TOPIC, 0);
    let end = node.log.bounds(&partition).await?.end;
    let records = node.records(emit::TOPIC).await?;
    let stamped = position.stamps[0].stamp(&Decoder::new(), 0, &records, end)?;
    ensure!(stamped.unreadable.is_empty(), "all of them are events");
    history.push(0, &stamped, &position.stamps[0]).await?;
    let limits = Limits {
        time_ms: PATIENCE.as_millis() as u64,
        memory_bytes_max: 1024 * 1024 * 1024,
        ..Limits::default()
    };
    let sql = Sql::new(Arc::new(history), limits, Threads::new()?);
    let text = format!(
        "SELECT concat_ws(' ', accepted, delivered, dead, waiting, identity)
        FROM delivery_account WHERE queue = '{}'",
        world.queue
    );
    let answer = sql.query(&text).await?;
    let told = answer.batches.iter().flat_map(|batch| {
        let column = batch.column(0).clone();
        (0..batch.num_rows())
            .map(move |row| arrow::util::display::array_value_to_string(&column, row))
    });
    Ok(told.collect::<Result<Vec<_>, _>>()?.concat())
}
