"""Plain `sqlite3` in a separate process: JSON questions in, seconds out."""

import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path


def insert(count: int, batch: int) -> float:
    """Write `count` events, `batch` rows per transaction, with WAL and `synchronous=NORMAL`."""
    head = '{"type":"TEXT_MESSAGE_CONTENT","messageId":"msg-1234567890","delta":"token number '
    events = [f'{head}{index} "}}'.encode() for index in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "rows.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("CREATE TABLE events(thread_id TEXT, seq INTEGER, event BLOB, PRIMARY KEY (thread_id, seq))")
        began = time.perf_counter()
        for first in range(0, count, batch):
            db.execute("BEGIN")
            rows = (("thread", seq, events[seq]) for seq in range(first, first + batch))
            db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
        taken = time.perf_counter() - began
        db.close()
    return taken


connections: dict[str, sqlite3.Connection] = {}


def fetch(path: str, thread_id: str) -> float:
    """Fetch the stored runs of a thread over an open connection."""
    if path not in connections:
        connections[path] = sqlite3.connect(path)
    began = time.perf_counter()
    connections[path].execute("SELECT events FROM agent_runs WHERE thread_id = ? ORDER BY id", (thread_id,)).fetchall()
    return time.perf_counter() - began


VERBS = {"insert": insert, "fetch": fetch}

for line in sys.stdin:
    question = json.loads(line)
    print(VERBS[question.pop("verb")](**question), flush=True)
