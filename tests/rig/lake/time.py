"""Times queries by DuckDB over Parquet files. Takes JSON from standard input: `files`, which are the
table `events`; `queries`; `rounds`; and `memory`, a limit as DuckDB writes it. Prints a line of JSON for
each query: the seconds of its fastest round, and how many rows it gave."""

import json
import sys
import time

import duckdb

asked = json.load(sys.stdin)
duckdb.sql("SET TimeZone = 'UTC'")
duckdb.sql(f"SET memory_limit = '{asked['memory']}'")
files = ", ".join("'" + file.replace("'", "''") + "'" for file in asked["files"])
duckdb.sql(f"CREATE VIEW events AS SELECT * FROM read_parquet([{files}])")
for query in asked["queries"]:
    fastest = None
    for _ in range(asked["rounds"]):
        began = time.perf_counter()
        rows = duckdb.sql(query).to_arrow_table().num_rows
        took = time.perf_counter() - began
        fastest = took if fastest is None else min(fastest, took)
    print(json.dumps([fastest, rows]), flush=True)
