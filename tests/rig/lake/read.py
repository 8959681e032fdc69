"""Reads the lake's table of events as other engines do: the files that its log names,
as deltalake lists them, by DuckDB, polars, and pandas by way of pyarrow. Prints what it finds as
JSON, a line for each look."""

import json
import pathlib
import sys
import time

import deltalake
import duckdb
import polars
import pyarrow.dataset

IDENTITY = ["producer", "boot", "sequence"]


def by_polars(files):
    """Rows, different ones, and requests."""
    rows = polars.scan_parquet(files).select(
        polars.len().alias("rows"),
        polars.struct(IDENTITY).n_unique().alias("different"),
        (polars.col("kind") == "request").sum().alias("requests"),
    )
    return list(rows.collect().row(0))


def by_pandas(files):
    """The same."""
    found = pyarrow.dataset.dataset(files, format="parquet").to_table([*IDENTITY, "kind"])
    rows = found.to_pandas()
    different = len(rows.drop_duplicates(IDENTITY))
    return [len(rows), different, int((rows["kind"] == "request").sum())]


table, looks = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for look in range(looks):
    snapshot = deltalake.DeltaTable(str(table))
    files = snapshot.file_uris()
    told = {"version": snapshot.version(), "files": len(files), "rows": 0}
    if files:
        rows = duckdb.read_parquet(files, hive_partitioning=True)
        count, different, requests, replayed, places = duckdb.sql(
            """
            SELECT count(*), count(DISTINCT (producer, boot, sequence)),
                   count(*) FILTER (WHERE kind = 'request'),
                   count(DISTINCT correlation_id)
                       FILTER (WHERE kind = 'request' AND replay_id IS NOT NULL),
                   count(DISTINCT (log_partition, log_offset))
            FROM rows
            """
        ).fetchall()[0]
        highest = duckdb.sql(
            "SELECT log_partition, max(log_offset) FROM rows GROUP BY log_partition"
        ).fetchall()
        beyond = [
            partition
            for partition, offset in highest
            if offset >= snapshot.transaction_version(f"weir.events/{partition}")
        ]
        told |= {"rows": count, "different": different, "requests": requests}
        told |= {"others": {"polars": by_polars(files), "pandas": by_pandas(files)}}
        told |= {"replayed": replayed, "places": places, "beyond": beyond}
    print(json.dumps(told), flush=True)
    if look + 1 < looks:
        time.sleep(0.2)
