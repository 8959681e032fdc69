//! Tables of which other Weirs know other columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, DataType, StructField, StructType};
use deltalake::protocol::{DeltaOperation, SaveMode};

use super::*;

/// A table as another Weir made it, which knew other columns.
async fn made_by_another(dir: &Path, without: &[&str], with: &[&str]) {
    let events = dir.join("events");
    std::fs::create_dir_all(&events).unwrap();
    let url = url::Url::from_directory_path(std::fs::canonicalize(&events).unwrap()).unwrap();
    let table = deltalake::DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
    let known: StructType = table_schema().as_ref().try_into_kernel().unwrap();
    let known = known.fields().filter(|field| !without.contains(&field.name().as_str())).cloned();
    let more = with.iter().map(|name| StructField::nullable(*name, DataType::STRING));
    let create = table.create().with_columns(known.chain(more).collect::<Vec<_>>());
    create.with_partition_columns(["event_date"]).await.unwrap();
}

/// Of an upgrade, with nodes of both kinds: columns that are new are added, and those that a
/// node does not know stay empty.
#[tokio::test]
async fn columns_that_are_new_are_added_and_unknown_ones_stay() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(20));
    made_by_another(dir.path(), &["api_name", "trace_id"], &["of_a_newer_weir"]).await;
    let opened = futures_util::future::join_all((0..3).map(|_| Follower::open(dir.path()))).await;
    let mut follower = opened.into_iter().next().unwrap();
    follower.read(&log, 0, 30).await;
    follower.commit().await.unwrap();
    for node in [&follower, &Follower::open(dir.path()).await] {
        assert_eq!(node.count().await, (20, 20));
        let session = SessionContext::new();
        let table = node.history.snapshot().await.unwrap().table;
        let known = session.read_table(table).unwrap();
        let named = known.filter(col("api_name").is_not_null()).unwrap();
        assert_eq!(named.count().await.unwrap(), 20, "what is known is kept");
    }
    let table = deltalake::open_table(
        url::Url::from_directory_path(std::fs::canonicalize(dir.path().join("events")).unwrap())
            .unwrap(),
    );
    let table = table.await.unwrap();
    let schema = table.snapshot().unwrap().schema();
    for name in ["api_name", "trace_id", "of_a_newer_weir"] {
        assert!(schema.field(name).is_some(), "{name}");
    }
}

/// Of two kinds of nodes the older merges files too, and loses nothing by it.
#[tokio::test]
async fn what_a_newer_node_has_written_outlives_a_merge() {
    let (dir, log) = (tempfile::tempdir().unwrap(), log(60));
    made_by_another(dir.path(), &[], &["of_a_newer_weir"]).await;
    let mut newer = Table::open(dir.path(), &FIRSTS).await.unwrap();
    let mut stamps = newer.stamps()[0].clone();
    for at in 0..75 {
        let stamped = stamps.stamp(&Decoder::new(), 0, &log[0][at..at + 1], at as u64 + 1).unwrap();
        let rows = rows::with_date(&stamped.rows).unwrap();
        let mut columns: Vec<(Arc<Field>, ArrayRef)> =
            rows.schema().fields().iter().cloned().zip(rows.columns().to_vec()).collect();
        let values = vec![Some("kept"); rows.num_rows()];
        let field = Field::new("of_a_newer_weir", arrow::datatypes::DataType::Utf8, true);
        columns.push((Arc::new(field), Arc::new(StringArray::from(values))));
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        let added = super::super::files::written(&newer.table, vec![rows]).await.unwrap();
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let commit =
            CommitBuilder::default().with_actions(added.into_iter().map(Action::Add).collect());
        let snapshot = newer.table.snapshot().unwrap();
        commit.build(Some(snapshot), newer.table.log_store(), operation).await.unwrap();
        newer.refresh().await.unwrap();
    }
    let before = files(dir.path()).await;
    let older = Follower::open(dir.path()).await;
    while older.history.merge().await.unwrap() {}
    assert!(files(dir.path()).await < before, "{before} files");
    newer.refresh().await.unwrap();
    let session = SessionContext::new();
    let rows = session.read_table(newer.provider().await.unwrap()).unwrap();
    let all = rows.clone().count().await.unwrap();
    let kept = rows.filter(col("of_a_newer_weir").eq(lit("kept"))).unwrap().count().await.unwrap();
    assert!(all > 20 && kept == all, "{kept} of {all}");
}
