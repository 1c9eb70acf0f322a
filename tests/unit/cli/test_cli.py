"""Each command as a user runs it: a process, its two outputs and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import SqliteAgentRunner, compact
from support import backends
from support.commands import command, one_line, sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytest.importorskip("typer")
pytest.importorskip("rich")

from support.paths import TYPESCRIPT_SAMPLE as SAMPLE

EVENTS: list[dict[str, Any]] = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r1"},
    {"type": "STEP_STARTED", "stepName": "look"},
    {"type": "REASONING_START", "messageId": "think"},
    {"type": "REASONING_MESSAGE_START", "messageId": "think", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "think", "delta": "let me see"},
    {"type": "REASONING_MESSAGE_END", "messageId": "think"},
    {"type": "REASONING_END", "messageId": "think"},
    {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "weather"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": '{"city":'},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": '"Lisbon"}'},
    {"type": "TOOL_CALL_END", "toolCallId": "c"},
    {"type": "TOOL_CALL_RESULT", "messageId": "res", "toolCallId": "c", "content": "sunny", "role": "tool"},
    {"type": "STEP_FINISHED", "stepName": "look"},
    {"type": "STATE_SNAPSHOT", "snapshot": {"city": "Lisbon"}},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "It is \x1b[31msun"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "ny [bold]:smile:"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "FROM_THE_FUTURE", "what": "unknown"},
    {"type": "CUSTOM", "name": "note", "value": 1},
    {
        "type": "RUN_FINISHED",
        "threadId": "t",
        "runId": "r1",
        "outcome": {"type": "interrupt", "interrupts": [{"id": "i", "reason": "approval", "message": "book it?"}]},
    },
]
FAILED = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r2"},
    {"type": "RUN_ERROR", "message": "no luck", "code": "LUCK"},
]
WORKER = """
import asyncio, sys
from agentrunner import SqliteAgentRunner
async def agent(input):
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "half a sent"}
    await asyncio.sleep(60)
async def main():
    asked = {"threadId": "dead", "runId": "d1", "state": {}, "forwardedProps": {}}
    asked |= {"messages": [], "tools": [], "context": []}
    async with SqliteAgentRunner(sys.argv[1]) as runner:
        async for event in await runner.run(agent, asked):
            print(event.type, flush=True)
asyncio.run(main())
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A thread `t` with a run that is interrupted and one that failed, and an archived thread `old`."""
    path = tmp_path / "threads.db"

    def agent_of(events: list[dict[str, Any]]) -> Any:
        async def agent(_: object) -> AsyncIterator[dict[str, Any]]:
            for event in events:
                yield event

        return agent

    async def fill() -> None:
        empty: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        async with SqliteAgentRunner(path) as runner:
            old = {"threadId": "old", "runId": "o", "messages": [], **empty}
            started = {"type": "RUN_STARTED", "threadId": "old", "runId": "o"}
            async for _ in await runner.run(agent_of([started, {**started, "type": "RUN_FINISHED"}]), old):
                pass
            await runner.threads.archive("old")
            for run_id, events in (("r1", EVENTS), ("r2", FAILED)):
                question = {"id": f"q-{run_id}", "role": "user", "content": f"asked in {run_id}"}
                asked = {"threadId": "t", "runId": run_id, "messages": [question], **empty}
                async for _ in await runner.run(agent_of(events), asked, agent_id="guide"):
                    pass
            await runner.threads.rename("t", "A day")

    asyncio.run(fill())
    return path


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A file whose process was killed in the middle of a run."""
    path = tmp_path / "dead.db"
    child = subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert [child.stdout.readline().strip() for _ in range(3)][-1] == b"TEXT_MESSAGE_CONTENT"
    child.kill()
    child.wait()
    child.stdout.close()
    return path


def test_version_and_help() -> None:
    assert command("--version")[1].startswith("agentrunner 0.")
    code, out, _ = command("--help")
    assert code == 0
    for name in ("serve", "threads", "show", "compact", "copy", "prune", "doctor", "demo"):
        assert name in out
        assert command(name, "--help")[0] == 0


def test_without_its_packages_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from agentrunner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'the command line needs more packages: pip install "agentrunner[cli]"\n'


@pytest.mark.parametrize("args", [("threads",), ("show", "t"), ("doctor",), ("doctor", "--fix")])
def test_a_missing_file_is_named_and_not_made(tmp_path: Path, args: tuple[str, ...]) -> None:
    missing = tmp_path / "missing.db"
    one_line(command(args[0], missing, *args[1:]), str(missing))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [("threads",), ("show", "t"), ("doctor",)])
def test_a_file_that_is_no_database(tmp_path: Path, args: tuple[str, ...]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be told from an empty one\n" * 40)
    one_line(command(args[0], path, *args[1:]))


def test_threads(db: Path) -> None:
    code, out, _ = command("threads", db)
    assert code == 0
    header, row = out.splitlines()
    assert header.split() == ["thread", "name", "agent", "runs", "running", "updated"]
    assert row.split() == ["t", "A", "day", "guide", "2", "just", "now"]
    assert "old" in command("threads", db, "--archived")[1]
    code, out, _ = command("threads", db, "--archived", "--limit", 1)
    assert "more than 1" in out
    assert command("threads", db, "--limit", 0)[0] == 2


def test_threads_of_a_file_with_none(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"

    async def make() -> None:
        async with SqliteAgentRunner(path):
            pass

    asyncio.run(make())
    code, out, _ = command("threads", path, columns=200)
    assert code == 0
    assert "no threads in" in out


def test_show(db: Path) -> None:
    code, out, _ = command("show", db, "t")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for expected in (
        "user asked in r1",
        "user asked in r2",
        "reasoning let me see",
        'tool weather {"city":"Lisbon"}',
        "→ sunny",
        "step look starts",
        'state {"city": "Lisbon"}',
        "assistant It is \\x1b[31msunny [bold]:smile:",
        'from the… {"what": "unknown"}',
        "custom note 1",
        "interrupt approval: book it?",
        "error no luck (LUCK)",
    ):
        assert expected.split() in lines
    assert [line[1] for line in lines if line[:1] == ["run"]] == ["r1", "r2"]
    assert "\x1b" not in out


def test_show_raw_and_json(db: Path) -> None:
    code, out, _ = command("show", db, "t", "--raw", columns=60)
    lines = out.splitlines()
    assert code == 0
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].split()[1] == "RUN_STARTED"
    code, out, _ = command("show", db, "t", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(events) == len(lines)
    assert events[0]["runId"] == "r1"
    assert events[-1] == FAILED[-1]


def test_show_where_the_terminal_knows_no_arrows(db: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentrunner", "show", str(db), "t"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? sunny" in done.stdout


def test_show_of_an_unknown_thread(db: Path) -> None:
    one_line(command("show", db, "no\x1bwhere"), "no thread", "no\\x1bwhere")


def test_show_whose_reader_leaves(db: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "agentrunner", "show", str(db), "t", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 1


def test_compact(tmp_path: Path) -> None:
    source, target = tmp_path / "run.jsonl", tmp_path / "short.jsonl"
    source.write_text("".join(json.dumps(event) + "\n" for event in EVENTS) + "\n")
    expected = b"".join(bytes(event) + b"\n" for event in compact(source.read_bytes().split(b"\n")[:-2]))
    code, out, err = command("compact", source, "-o", target)
    assert (code, out) == (0, "")
    assert target.read_bytes() == expected
    assert ["events", str(len(EVENTS)), str(expected.count(b"\n"))] in [line.split()[:3] for line in err.splitlines()]
    assert command("compact", source)[:2] == (0, "")
    code, out, _ = command("compact", "-", "-o", "-", stdin=source.read_bytes())
    assert code == 0
    assert out.encode() == expected


def test_compact_of_nothing() -> None:
    code, out, err = command("compact", "-")
    assert (code, out) == (0, "")
    assert "events" in err


def test_compact_names_what_it_cannot_read(tmp_path: Path) -> None:
    good = json.dumps(EVENTS[0]).encode()
    one_line(command("compact", "-", stdin=good + b"\n\n" + b'{"no": "type"}\n'), "line 3")
    one_line(command("compact", "-", stdin=good + b"\nnonsense"), "line 2")
    one_line(command("compact", tmp_path / "missing.jsonl"), "missing.jsonl")
    target = tmp_path / "no-such-folder" / "out.jsonl"
    one_line(command("compact", "-", "-o", target, stdin=good), str(target))


def test_doctor_of_a_sound_file(db: Path) -> None:
    code, out, _ = command("doctor", db)
    assert code == 0
    assert "no problems found" in out


def test_doctor_frees_stuck_threads_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "ts.db"
    shutil.copyfile(SAMPLE, path)
    for _ in range(2):
        code, out, _ = command("doctor", path)
        assert code == 1
        assert ["stuck", "threads", "2"] in [line.split()[:3] for line in out.splitlines()]
        assert command("threads", path)[0] == 0
    code, out, _ = command("doctor", path, "--fix")
    assert code == 0
    assert "after the repair" in out
    assert command("doctor", path)[0] == 0


def test_a_dead_run_is_looked_at_and_then_recovered(dead: Path) -> None:
    assert ["dead", "0", "yes", "just", "now"] in [line.split() for line in command("threads", dead)[1].splitlines()]
    code, out, _ = command("show", dead, "dead")
    assert code == 0
    assert "half a sent" in out
    assert "still live" in out
    code, out, _ = command("doctor", dead)
    assert code == 1
    assert "dead/d1" in out
    assert command("doctor", dead, "--fix")[0] == 0
    code, out, _ = command("show", dead, "dead")
    assert "INTERRUPTED" in out
    assert "still live" not in out


def test_doctor_links_orphans(db: Path) -> None:
    sql(db, "UPDATE agent_runs SET parent_run_id = 'gone' WHERE run_id = 'r2'")
    code, out, _ = command("doctor", db)
    assert code == 1
    assert "t/r2" in out
    assert command("doctor", db, "--fix")[0] == 0


def test_doctor_says_what_it_cannot_mend(db: Path) -> None:
    sql(db, "UPDATE agent_runs SET events = 'rubbish' WHERE run_id = 'r1'")
    for args in ((), ("--fix",)):
        code, out, _ = command("doctor", db, *args)
        assert code == 1
        assert "t/r1" in out
        assert "--fix cannot repair" in out
    assert "no luck" in command("show", db, "t")[1]


def test_prune_removes_the_oldest(db: Path) -> None:
    assert command("prune", db, "--max-age", "1h", "--max-runs", "2")[1] == "removed 0 runs\n"
    assert command("prune", db, "--max-runs", "1")[1] == "removed 1 runs\n"
    assert [name in command("show", db, "t")[1] for name in ("run r1", "run r2")] == [False, True]
    assert command("prune", db, "--max-age", "0s")[1] == "removed 2 runs\n"
    assert command("threads", db, "--archived")[1].startswith("no threads")


@pytest.mark.parametrize("args", [(), ("--max-age", "30"), ("--max-age", "1y"), ("--max-age", "-1d")])
def test_prune_asks_what_is_to_go(db: Path, args: tuple[str, ...]) -> None:
    code, out, err = command("prune", db, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "30d" in err or "--max-runs" in err


@pytest.mark.parametrize("backend", ["redis", "postgres"])
def test_a_store_on_a_server(db: Path, tmp_path: Path, backend: str) -> None:
    with backends.place(backend, tmp_path) as server:
        assert command("copy", db, server)[0] == 0
        for words in (("threads",), ("threads", "--archived"), ("doctor",)):
            assert command(words[0], server, *words[1:]) == command(words[0], db, *words[1:])
        for form in ((), ("--raw",), ("--json",)):
            assert command("show", server, "t", *form) == command("show", db, "t", *form)
        assert command("prune", server, "--max-runs", "1")[1] == "removed 1 runs\n"
        assert "run r2" in command("show", server, "t")[1]


NOWHERE = ["redis://:s3cret@127.0.0.1:1/0", "postgresql://me:s3cret@127.0.0.1:1/test?password=s3cret&schema=s"]


@pytest.mark.parametrize("address", NOWHERE)
@pytest.mark.parametrize("args", [("threads", "{}"), ("serve", "agentrunner.demo.agents:agents", "--db", "{}")])
def test_a_server_that_is_not_there(address: str, args: tuple[str, ...]) -> None:
    pytest.importorskip(address.partition(":")[0].replace("postgresql", "psycopg"))
    outcome = command(*(arg.replace("{}", address) for arg in args))
    one_line(outcome, "127.0.0.1", "1", address.partition(":")[0])
    assert "s3cret" not in outcome[2]


@pytest.mark.parametrize(
    "address",
    ["mysql://me:s3cret@host/db", "redis://:s3/cret@host/0", "redis://:s3cret@host:port", "redis://:s3cret@h/0?huh=1",
     "postgresql://me:s3?cret@host/db", "postgresql://me:s3cret@host/db?huh=1", "redis://:s3cret@[::1/0"],
)  # fmt: skip
def test_what_is_no_address(tmp_path: Path, address: str) -> None:
    for args in (("threads", address), ("copy", address, tmp_path / "made.db")):
        code, out, err = command(*args)
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
        assert address.partition(":")[0] in err
        assert not any(piece in err for piece in ("s3", "cret"))
    assert not (tmp_path / "made.db").exists()


def test_a_schema_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    backends.needs("postgres")
    nowhere = f"{backends.POSTGRES}?schema=never-made"
    for command_of in (("doctor", nowhere), ("copy", nowhere, tmp_path / "made.db"), ("doctor", nowhere)):
        one_line(command(*command_of), "there is no agentrunner schema 'never-made'")
    assert list(tmp_path.iterdir()) == []


def test_demo_needs_a_file_of_its_own(db: Path) -> None:
    one_line(command("demo", "--db", db), str(db))


pytestmark = pytest.mark.processes
