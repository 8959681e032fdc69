"""Runs SQL from standard input by DuckDB, one statement after another. Prints the rows of the
last as JSON, a line for each."""

import json
import sys

import duckdb

duckdb.sql("SET TimeZone = 'UTC'")
for row in duckdb.execute(sys.stdin.read()).fetchall():
    print(json.dumps(row, default=str))
