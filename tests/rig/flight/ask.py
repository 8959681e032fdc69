"""Asks by ADBC over Flight SQL what standard input says, a line of JSON each: a statement, with
parameters or without; or `{"tables": true}`, for the tables and their columns. Prints a line of
JSON for each: `columns` and `rows`, `tables`, or the `error`.

    ask.py URL USER PASSWORD
"""

import json
import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager


def answer(connection, asked):
    if asked.get("tables"):
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        return {
            "tables": {
                table["table_name"]: [column["column_name"] for column in table["table_columns"]]
                for catalog in objects
                for schema in catalog["catalog_db_schemas"]
                for table in schema["db_schema_tables"]
            }
        }
    with connection.cursor() as cursor:
        cursor.execute(asked["sql"], asked.get("parameters"))
        table = cursor.fetch_arrow_table()
    return {
        "columns": {field.name: str(field.type) for field in table.schema},
        "rows": [list(row.values()) for row in table.to_pylist()],
    }


def main():
    url, user, password = sys.argv[1:]
    options = {"username": user, "password": password}
    try:
        connection = flightsql.connect(url, db_kwargs=options, autocommit=True)
    except adbc_driver_manager.Error as error:
        print(json.dumps({"error": str(error)}))
        return
    with connection:
        for line in sys.stdin:
            try:
                said = answer(connection, json.loads(line))
            except adbc_driver_manager.Error as error:
                said = {"error": str(error)}
            print(json.dumps(said, default=str), flush=True)


main()
