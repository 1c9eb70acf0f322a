"""The recorded cases in `tests/fixtures`."""

from __future__ import annotations

import json
from typing import Any

from support.paths import FIXTURES


def fixture_lines(name: str) -> list[dict[str, Any]]:
    """Return the cases of `tests/fixtures/<name>.jsonl`."""
    with (FIXTURES / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
