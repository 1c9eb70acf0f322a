"""A process that changes a closed file by Python's own SQLite, which must never share one with ours."""

import contextlib
import json
import sqlite3
import sys

if __name__ == "__main__":
    edit = json.load(sys.stdin)
    value = edit["value"]
    with contextlib.closing(sqlite3.connect(edit["path"])) as database, contextlib.suppress(sqlite3.IntegrityError):
        # What its own rules forbid cannot have come to a row.
        database.execute(edit["sql"], [bytes.fromhex(value["blob"]) if isinstance(value, dict) else value])
        database.commit()
