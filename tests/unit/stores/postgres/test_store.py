"""`PostgresStore` and its runner: URLs, the optional client library, unstorable text."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agentrunner import (
    InvalidInput,
    PostgresAgentRunner,
    ThreadNotFound,
    ThreadSummary,
)
from agentrunner.stores.postgres import PostgresStore
from agentrunner.testing.writer import Writer, claim, read_journal, store_run, text
from agentrunner.testing.writer import history as stored
from agentrunner.types import ANY_SCOPE
from support import backends
from support.agents import agent_with
from support.events import event_types
from support.inputs import make_input
from support.postgres import database, opened
from support.streams import collect

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.postgres


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(ValueError, match="address of the PostgreSQL database is not valid"):
        PostgresStore("host = 'unclosed")


def test_the_error_without_the_client_library_names_the_extra() -> None:
    code = "import sys; sys.modules['psycopg'] = None\nimport agentrunner\nagentrunner.PostgresAgentRunner('')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "agentrunner[postgres]" in done.stderr.splitlines()[-1]


def test_the_client_library_is_imported_only_when_used() -> None:
    code = "import sys, agentrunner; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_runner(location: str) -> None:
    schema = location.rpartition("=")[2]
    async with PostgresAgentRunner(backends.POSTGRES, schema=schema, lease_ttl=5) as runner:
        assert event_types(await collect(await runner.run(agent_with(), make_input()))) == [
            "RUN_STARTED",
            "RUN_FINISHED",
        ]
        assert repr(runner) == f"PostgresAgentRunner(schema={schema!r})"


# What PostgreSQL has no text for


@pytest.mark.parametrize("odd", ["\0", "a\0", "a\ud800"])
async def test_text_that_postgresql_cannot_store_is_refused_and_not_found(location: str, odd: str) -> None:
    async with opened(location) as store:
        await store_run(store, "a", "r0")
        for attempt in (
            store.claim(odd, "r", "{}", None, [], None),
            store.claim("t", odd, "{}", None, [], None),
            store.claim("t", "r", "{}", odd, [], None),
            store.claim("t", "r", "{}", None, [], odd),
            store.rename("a", odd),
            store.put(ThreadSummary(odd, None, None, False, False, 0, 1, 1), []),
        ):
            with pytest.raises(InvalidInput, match="cannot keep"):
                await attempt
        for missing in (store.thread(odd), store.rename(odd, "n"), store.archive(odd, True), store.delete(odd)):
            with pytest.raises(ThreadNotFound):
                await missing
        assert await store.live(odd) == await store.recover(odd) == await store.runs(odd, 0, 1) == []
        assert not await store.request_stop(odd, None)
        assert not await store.request_stop("a", odd)
        assert (await store.locate(odd, (0, None))).kind == "stored"
        assert await read_journal(store, odd) == await stored(store, odd) == []
        for scope, agent_id in ((odd, None), (None, odd)):
            assert await store.threads(9, None, True, agent_id, scope) == []
        await store.changed(odd, 0)
        await store.clear(odd)
        assert [thread.thread_id for thread in await store.threads(9, None, True, None, ANY_SCOPE)] == ["a"]


async def test_a_page_behind_a_thread_no_store_of_this_kind_has(location: str) -> None:
    async with opened(location) as store:
        for n, thread in enumerate(("a", "a\1", "aa", "b")):
            await store.put(ThreadSummary(thread, None, None, False, False, 0, 7, 7), [])
            await store.claim(thread, f"r{n}", "{}", None, [], None)
        at = (await store.thread("b")).updated_at
        for behind in ("a\0", "a\0z", "a\ud800"):
            page = await store.threads(9, (at + 10_000, behind), True, None, None)
            assert len(page) == 4, behind
        async with database(store) as execute:
            await execute('UPDATE "agentrunner".threads SET updated_at = 5')
        page = await store.threads(9, (5, "a\0z"), True, None, None)
        assert [thread.thread_id for thread in page] == ["a"]


async def test_message_ids_have_any_character(location: str) -> None:
    ids = ["\0", "a\0b", "\ud800", "ü", "a"]
    async with opened(location) as store:
        writer = Writer(store, *await claim(store, "t", "r1"))
        await writer.write({"type": "RUN_STARTED", "threadId": "t", "runId": "r1"}, *text("a\0b", "x"), *text("ü", "x"))
        await writer.end()
        _, known = await store.claim("t", "r2", "{}", None, ids, None)
        assert list(known) == ["a\0b", "ü"]
