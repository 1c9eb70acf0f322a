"""A thread that is deleted and created again, perhaps in another scope, is another thread."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, CursorExpired, MemoryStore, ThreadNotFound
from agentrunner.stores import JournalPage
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import EventStream, Store

pytestmark = pytest.mark.fault("C1")

ALICE, BOB = "alice", "bob"
HIS = "for bob's eyes"


async def store_runs(runner: AgentRunner, scope: str, text: str, *run_ids: str) -> None:
    for run_id in run_ids:
        agent = agent_with(*text_message(f"m-{run_id}", *[text] * 4))
        await collect(await runner.run(agent, make_input("doc", run_id), scope=scope))


async def replace_thread(runner: AgentRunner) -> None:
    """Delete Alice's thread, and let Bob create one with its id."""
    await runner.threads.delete("doc", scope=ALICE)
    await store_runs(runner, BOB, HIS, "b1", "b2", "b3")


async def read_all(stream: EventStream) -> bytes:
    return b"".join([bytes(event) async for event in stream])


async def test_an_open_stream_ends_and_never_shows_the_next_thread(runner: AgentRunner) -> None:
    await store_runs(runner, ALICE, "hers", "a1", "a2")
    streams = [
        await runner.connect("doc", scope=ALICE), await runner.connect("doc"), await runner.connect("doc", after="2"),
        await runner.connect("doc", known=[{"id": "x", "role": "user", "content": "x"}]), await runner.snapshot("doc"),
    ]  # fmt: skip
    await replace_thread(runner)
    for stream in streams:
        assert HIS.encode() not in await read_all(stream)


async def test_a_stream_between_two_pages_ends_when_its_thread_is_deleted(runner: AgentRunner) -> None:
    await store_runs(runner, ALICE, "hers" * 6000, "a1", "a2", "a3")
    stream = await runner.connect("doc", scope=ALICE)
    assert (await anext(stream)).type == "RUN_STARTED"
    await replace_thread(runner)
    assert HIS.encode() not in await read_all(stream)


async def test_an_old_cursor_is_refused_by_the_new_thread(runner: AgentRunner) -> None:
    await store_runs(runner, ALICE, "hers", "a1")
    await runner.threads.delete("doc")
    await store_runs(runner, ALICE, "hers again", "a1", "a2")
    for cursor in ("1", "3", "6", "8.1"):
        with pytest.raises(CursorExpired, match="deleted"):
            await runner.connect("doc", after=cursor, scope=ALICE)
    assert b"hers again" in await read_all(await runner.connect("doc", scope=ALICE))


async def test_operations_of_another_scope_do_not_find_the_thread(runner: AgentRunner) -> None:
    await store_runs(runner, ALICE, "hers", "a1")
    await replace_thread(runner)
    gate = Gate()
    stream = await runner.run(gate, make_input("doc", "b4"), scope=BOB)
    await gate.reached.wait()
    assert not await runner.stop("doc", scope=ALICE)
    assert not await runner.is_running("doc", scope=ALICE)
    assert await runner.is_running("doc", scope=BOB)
    gate.open()
    await collect(stream)
    threads: Any = runner.threads
    for operation, *arguments in (
        (threads.get,), (threads.rename, "theirs"), (threads.archive,), (threads.delete,),
    ):  # fmt: skip
        with pytest.raises(ThreadNotFound):
            await operation("doc", *arguments, scope=ALICE)
    assert await threads.events("doc", scope=ALICE) == []
    assert await threads.messages("doc", scope=ALICE) == []
    thread = await threads.get("doc", scope=BOB)
    assert (thread.name, thread.archived, thread.runs) == (None, False, 4)


async def test_a_race_of_readers_and_a_replacement_shows_nothing_of_the_other_scope(runner: AgentRunner) -> None:
    for _ in range(15):
        await store_runs(runner, ALICE, "hers", "a1")

        async def read() -> bytes:
            return await read_all(await runner.connect("doc", scope=ALICE))

        *pages, _ = await asyncio.gather(*(read() for _ in range(4)), replace_thread(runner))
        assert not any(HIS.encode() in page for page in pages)
        await runner.threads.delete("doc", scope=BOB)


class StoreOfVersion010(MemoryStore):
    """A store whose method was written before guards were part of the protocol."""

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        return await super().journal(thread_id, after, until, limit)

    async def delete(self, thread_id: str) -> None:
        await super().delete(thread_id)


async def test_a_store_without_guards_still_works_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    old_store: Store = StoreOfVersion010()
    with caplog.at_level(logging.WARNING, "agentrunner"):
        runner = AgentRunner(old_store)
    assert "StoreOfVersion010: delete, journal take no `guard`" in caplog.text
    async with runner:
        await store_runs(runner, ALICE, "hers", "a1")
        assert b"hers" in await read_all(await runner.connect("doc", after="2", scope=ALICE))
        with pytest.raises(ThreadNotFound):
            await runner.threads.delete("doc", scope=BOB)
        await runner.threads.delete("doc", scope=ALICE)
        assert await runner.threads.list() == []
