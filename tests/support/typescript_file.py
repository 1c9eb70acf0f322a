"""SQLite files as the TypeScript runner reads and writes them.

Python's own sqlite3 looks at the file in other processes only: two copies of SQLite in one process break its locks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = """
WITH RECURSIVE run_chain AS (
  SELECT * FROM agent_runs WHERE thread_id = ?1 AND parent_run_id IS NULL
  UNION ALL
  SELECT child.* FROM agent_runs AS child JOIN run_chain ON child.parent_run_id = run_chain.run_id
  WHERE child.thread_id = ?1
) SELECT events FROM run_chain ORDER BY created_at ASC
"""


def elsewhere(path: Path, sql: str, *values: object) -> list[list]:
    """Run a statement on the file in a process of its own."""
    code = (
        "import json, sqlite3, sys\n"
        "path, sql, values = json.loads(sys.stdin.read())\n"
        "db = sqlite3.connect(path, timeout=10)\n"
        "rows = db.execute(sql, values).fetchall()\n"
        "db.commit()\n"
        "db.close()\n"
        "print(json.dumps(rows))\n"
    )
    arguments = json.dumps([str(path), sql, values])
    ran = subprocess.run([sys.executable, "-c", code], input=arguments, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def add_row(path: Path, thread: str, run: str, parent: str | None, events: str) -> None:
    columns = "thread_id, run_id, parent_run_id, events, input, created_at, version"
    sql = f"INSERT INTO agent_runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, 1)"  # noqa: S608 - the names stand above
    elsewhere(path, sql, thread, run, parent, events, "{}", 4102444800000)
