"""Readers in one process are told of events that another process appends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
)
from agentrunner.stores.postgres import listener
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import begin, text
from support.events import event_types, run_finished, run_started
from support.inputs import make_input
from support.postgres import database, opened, until
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput
pytestmark = pytest.mark.postgres


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["told", "looking"])
async def test_a_run_in_another_process_is_followed(location: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(listener, "MAX_WAIT_SECONDS", 1000.0)
    if way == "told":
        # One look, by which the run is known to be followed.
        monkeypatch.setattr(listener, "FOLLOWED_POLL_SECONDS", 1000.0)
    else:
        monkeypatch.setattr(listener.PostgresListener, "_listen", lambda self: never())
    values: asyncio.Queue[int | None] = asyncio.Queue()

    async def agent(run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        yield run_started(run_input.thread_id, run_input.run_id)
        while (value := await values.get()) is not None:
            yield {"type": "CUSTOM", "name": "said", "value": value}
        yield run_finished(run_input.thread_id, run_input.run_id)

    async with AgentRunner(store_from_url(location)) as here, AgentRunner(store_from_url(location)) as there:
        await anext(await there.run(agent, make_input()))
        stream = await here.connect("t1")
        assert (await anext(stream)).type == "RUN_STARTED"
        await until(lambda: is_followed(here._store))
        if way == "told":
            await until(lambda: is_listening(here._store._listener))  # type: ignore[attr-defined]
        for value in range(3):
            values.put_nowait(value)
            assert (await anext(stream)).to_dict()["value"] == value
        values.put_nowait(None)
        assert event_types(await collect(stream)) == ["RUN_FINISHED"]


async def is_followed(store: Any) -> bool:
    async with database(store) as execute:
        return bool(await execute('SELECT 1 FROM "agentrunner".live_runs WHERE followed_until > now()'))


async def is_listening(postgres_listener: listener.PostgresListener) -> bool:
    return postgres_listener.is_listening


async def test_a_run_without_followers_notifies_no_process(location: str) -> None:
    async with opened(location) as store:
        before = set(store._listener._tasks)
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", "a"))
        assert set(store._listener._tasks) == before


async def test_one_notification_names_as_many_as_it_has_room_for(location: str) -> None:
    async with opened(location) as here, opened(location) as there:
        waiting = asyncio.create_task(here.changed("t", 0))
        await until(lambda: is_listening(here._listener))
        for count in (1, listener.NOTIFIED_KEYS, listener.NOTIFIED_KEYS + 1):
            heard: list[str] = []
            here._listener._handle_notification = heard.append  # type: ignore[method-assign]
            for n in range(count):
                there._listener.notify(f"t{n}")

            async def read_heard(heard: list[str] = heard) -> list[str]:
                return heard

            await until(read_heard)
            assert [len(keys) for keys in heard] == [8 * count if count <= listener.NOTIFIED_KEYS else 0]
        await waiting
