"""The locations that the commands take: files, servers, and invalid ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import backends
from support.commands import command, one_line

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


@pytest.mark.parametrize("args", [("threads",), ("show", "t"), ("doctor",), ("doctor", "--fix")])
def test_missing_file_is_named_and_not_created(tmp_path: Path, args: tuple[str, ...]) -> None:
    missing = tmp_path / "missing.db"
    one_line(command(args[0], missing, *args[1:]), str(missing))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [("threads",), ("show", "t"), ("doctor",)])
def test_file_that_is_not_a_database_is_one_line(tmp_path: Path, args: tuple[str, ...]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and longer than the header of one\n" * 40)
    one_line(command(args[0], path, *args[1:]))


@pytest.mark.parametrize("backend", backends.SERVERS)
def test_commands_show_the_same_for_a_store_on_a_server(db: Path, tmp_path: Path, backend: str) -> None:
    with backends.place(backend, tmp_path) as server:
        assert command("copy", db, server)[0] == 0
        for arguments in (("threads",), ("threads", "--archived"), ("doctor",)):
            assert command(arguments[0], server, *arguments[1:]) == command(arguments[0], db, *arguments[1:])
        for option in ((), ("--raw",), ("--json",)):
            assert command("show", server, "t", *option) == command("show", db, "t", *option)
        assert command("prune", server, "--max-runs", "1")[1] == "removed 1 run\n"
        assert "run r2" in command("show", server, "t")[1]


UNREACHABLE = ["redis://:s3cret@127.0.0.1:1/0", "postgresql://me:s3cret@127.0.0.1:1/test?password=s3cret&schema=s"]


@pytest.mark.parametrize("url", UNREACHABLE)
@pytest.mark.parametrize("args", [("threads", "{}"), ("serve", "agentrunner.demo.agents:agents", "--db", "{}")])
def test_unreachable_server_is_one_line_without_password(url: str, args: tuple[str, ...]) -> None:
    pytest.importorskip(url.partition(":")[0].replace("postgresql", "psycopg"))
    outcome = command(*(arg.replace("{}", url) for arg in args))
    one_line(outcome, "127.0.0.1", "1", url.partition(":")[0])
    assert "s3cret" not in outcome[2]


@pytest.mark.parametrize(
    "url",
    ["mysql://me:s3cret@host/db", "redis://:s3/cret@host/0", "redis://:s3cret@host:port", "redis://:s3cret@h/0?huh=1",
     "postgresql://me:s3?cret@host/db", "postgresql://me:s3cret@host/db?huh=1", "redis://:s3cret@[::1/0"],
)  # fmt: skip
def test_invalid_url_is_one_line_without_password(tmp_path: Path, url: str) -> None:
    for args in (("threads", url), ("copy", url, tmp_path / "made.db")):
        code, out, err = command(*args)
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
        assert url.partition(":")[0] in err
        assert not any(part in err for part in ("s3", "cret"))
    assert not (tmp_path / "made.db").exists()


def test_missing_schema_is_named_and_not_created(tmp_path: Path) -> None:
    backends.needs("postgres")
    missing = f"{backends.POSTGRES}?schema=never-made"
    for arguments in (("doctor", missing), ("copy", missing, tmp_path / "made.db"), ("doctor", missing)):
        one_line(command(*arguments), "there is no agentrunner schema 'never-made'")
    assert list(tmp_path.iterdir()) == []
