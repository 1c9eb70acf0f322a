"""Edit a closed file with Python's SQLite, in a process without the package's SQLite."""

import contextlib
import json
import sqlite3
import sys

if __name__ == "__main__":
    edit = json.load(sys.stdin)
    value = edit["value"]
    with contextlib.closing(sqlite3.connect(edit["path"])) as database, contextlib.suppress(sqlite3.IntegrityError):
        # A change that the file's constraints forbid cannot occur in a row.
        database.execute(edit["sql"], [bytes.fromhex(value["blob"]) if isinstance(value, dict) else value])
        database.commit()
