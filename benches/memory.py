"""How much memory a process needs for one live run of 1,000,000 events of 110 bytes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benches.common import Row, progress

MIB = 1 << 20


def rows() -> Iterator[Row]:
    progress("memory: a run of 1,000,000 events")
    command = [sys.executable, "-m", "benches.anchors.million"]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent.parent)
    grown, recorded, compacted = (int(number) for number in done.stdout.split())
    yield Row(
        "peak memory of a live run of 1,000,000 events",
        f"{grown / MIB:.1f} MiB",
        f"its events: {recorded / MIB:.1f} MiB; compacted, as held in memory: {compacted / MIB:.1f} MiB",
        f"{grown / recorded:.2f}x",
        "<= 64 MiB",
        grown <= 64 * MIB,
    )
