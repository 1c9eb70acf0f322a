"""`agentrunner compact`, run as a user runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agentrunner import compact
from support.commands import command, one_line
from support.recorded_runs import INTERRUPTED_RUN

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_compacted_events_go_to_the_file(tmp_path: Path) -> None:
    source, target = tmp_path / "run.jsonl", tmp_path / "short.jsonl"
    source.write_text("".join(json.dumps(event) + "\n" for event in INTERRUPTED_RUN) + "\n")
    expected = b"".join(bytes(event) + b"\n" for event in compact(source.read_bytes().split(b"\n")[:-2]))
    code, out, err = command("compact", source, "-o", target)
    assert (code, out) == (0, "")
    assert target.read_bytes() == expected
    sizes = [line.split()[:3] for line in err.splitlines()]
    assert ["events", str(len(INTERRUPTED_RUN)), str(expected.count(b"\n"))] in sizes
    assert command("compact", source)[:2] == (0, "")
    code, out, _ = command("compact", "-", "-o", "-", stdin=source.read_bytes())
    assert code == 0
    assert out.encode() == expected


def test_empty_input_is_compacted() -> None:
    code, out, err = command("compact", "-")
    assert (code, out) == (0, "")
    assert "events" in err


def test_invalid_line_is_named(tmp_path: Path) -> None:
    good = json.dumps(INTERRUPTED_RUN[0]).encode()
    one_line(command("compact", "-", stdin=good + b"\n\n" + b'{"no": "type"}\n'), "line 3")
    one_line(command("compact", "-", stdin=good + b"\nnonsense"), "line 2")
    one_line(command("compact", tmp_path / "missing.jsonl"), "missing.jsonl")
    target = tmp_path / "no-such-folder" / "out.jsonl"
    one_line(command("compact", "-", "-o", target, stdin=good), str(target))
