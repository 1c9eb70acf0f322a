"""Leases that a thread extends, also before the reply to their claim is processed."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner._core import Owner
from agentrunner.stores import _held_leases
from agentrunner.stores._held_leases import HeldLease, HeldLeases
from agentrunner.stores.urls import store_from_url
from support import backends

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentrunner import Store

TTL = 1.0
"""Seconds of a lease that is extended, long enough for a busy machine."""
SHORT_TTL = 0.2

pytestmark = pytest.mark.fault("A6")


@pytest.fixture(params=backends.SERVERS)
def server_location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with backends.place(request.param, tmp_path) as location:
        yield location


class Waiting:
    """A store whose claim has reached the server, while its reply waits."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.is_read = asyncio.Event()
        self._name = "fetch" if hasattr(store._client, "fetch") else "run_script"
        self._send = getattr(store._client, self._name)

    async def claim(self, other: Store) -> asyncio.Task[Any]:
        setattr(self.store._client, self._name, self._reply_late)
        claiming = asyncio.create_task(self.store.claim("t", "r", "{}", None, [], None))
        while not await other.live("t"):
            await asyncio.sleep(0.01)
        setattr(self.store._client, self._name, self._send)
        return claiming

    async def _reply_late(self, *arguments: Any, **values: Any) -> Any:
        reply = await self._send(*arguments, **values)
        await self.is_read.wait()
        return reply


async def open_both(location: str, lease_ttl: float) -> tuple[Store, Store]:
    stores = store_from_url(location, lease_ttl=lease_ttl), store_from_url(location, lease_ttl=lease_ttl)
    for store in stores:
        await store.open()
    return stores


async def test_the_lease_of_a_claim_is_extended_while_its_reply_waits(
    server_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = await open_both(server_location, TTL)
    waiting = Waiting(store)
    claiming = await waiting.claim(other)
    # As if the other store were on another machine.
    hidden = SimpleNamespace(Owner=SimpleNamespace(liveness=lambda owner: "unknown", held_tokens=lambda owner: []))
    for name in backends.SERVERS:
        monkeypatch.setattr(f"agentrunner.stores.{name}.runs._core", hidden)
    loop = asyncio.get_running_loop()
    blocked_until = loop.time() + 1.5 * TTL
    while loop.time() < blocked_until:
        assert await other.recover() == []
        await asyncio.sleep(0.02)
    waiting.is_read.set()
    claim, _ = await claiming
    assert await store.renew([claim]) == [True]
    for each in (store, other):
        await each.aclose()


async def test_a_claim_whose_reply_waits_is_not_recovered_by_its_own_process(
    server_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the process had been stopped.
    monkeypatch.setattr(HeldLeases, "_list_due", lambda leases: [])
    store, other = await open_both(server_location, SHORT_TTL)
    waiting = Waiting(store)
    claiming = await waiting.claim(other)
    await asyncio.sleep(1.5 * SHORT_TTL)
    assert await store.recover() == []
    assert await other.recover("t") == []
    waiting.is_read.set()
    claim, _ = await claiming
    assert await store.renew([claim]) == [True]
    for each in (store, other):
        await each.aclose()


async def test_a_claim_that_fails_leaves_no_lease_behind(server_location: str) -> None:
    store, other = await open_both(server_location, TTL)
    leases = store._runs._leases if hasattr(store, "_runs") else store._leases  # type: ignore[attr-defined]
    await other.claim("t", "r", "{}", None, [], None)
    with pytest.raises(Exception, match="already running"):
        await store.claim("t", "r2", "{}", None, [], None)
    assert leases._leases == {}
    assert leases._extended_at == {}
    for each in (store, other):
        await each.aclose()


async def test_closing_does_not_wait_for_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_held_leases, "JOIN_SECONDS", 0.01)
    is_asked, responds = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Connection:
        def extend(self, leases: list[HeldLease]) -> None:
            loop.call_soon_threadsafe(is_asked.set)
            responds.wait()

        def close(self) -> None:
            pass

    leases = HeldLeases(Owner(), SHORT_TTL, Connection)
    try:
        with leases.expect("t"):
            await is_asked.wait()
            await asyncio.wait_for(leases.aclose(), 10)
    finally:
        responds.set()
