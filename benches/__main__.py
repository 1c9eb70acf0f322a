"""Print the table: `python -m benches`, or a topic: `python -m benches --only ingest`."""

import argparse
import sys
import time
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches import compaction, fanout, harness, history, idle_readers, ingest, memory, served, stores
from benches.common import progress

TOPICS = {
    "compaction": compaction.rows,
    "ingest": ingest.rows,
    "history": history.rows,
    "fanout": fanout.rows,
    "memory": memory.rows,
    "served": served.rows,
    "idle": idle_readers.rows,
    "stores": stores.rows,
    "harness": harness.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benches", description=__doc__)
    parser.add_argument("--only", choices=TOPICS, action="append", metavar="NAME", help=", ".join(TOPICS))
    topics = parser.parse_args().only or TOPICS
    began = time.perf_counter()
    rows = [row for name in topics for row in TOPICS[name]()]
    progress(f"done in {time.perf_counter() - began:.0f} s")
    print("| case | agentrunner | compared with | ratio | target |")
    print("|---|---|---|---|---|")
    for row in rows:
        target = f"{row.target}{'' if row.is_met else ' (missed)'}"
        print(f"| {row.case} | {row.ours} | {row.baseline} | {row.ratio} | {target} |")


if __name__ == "__main__":
    main()
