"""Liveness: which owners on a store are gone."""

from __future__ import annotations

from types import SimpleNamespace

from agentrunner.harness.liveness import Liveness
from agentrunner.records import kinds
from agentrunner.stores.urls import store_from_url


async def test_silent_owner_on_another_host_is_gone_after_a_while(location, monkeypatch):
    store = store_from_url(location)
    await store.open()
    try:
        now = 1000.0
        # Only this module's clock: the event loop needs the real one for its timeouts.
        monkeypatch.setattr("agentrunner.harness.liveness.time", SimpleNamespace(monotonic=lambda: now))
        owners, elsewhere = Liveness(store), "other/boot/pid/time|1|2|3"
        await store.write([kinds.HEARTBEAT.change(elsewhere, "", {"at": 0})])
        assert not await owners.is_gone(elsewhere)
        now += store.lease_ttl * 1.9
        assert not await owners.is_gone(elsewhere)
        await store.write([kinds.HEARTBEAT.change(elsewhere, "", {"at": 0})])
        now += store.lease_ttl
        assert not await owners.is_gone(elsewhere)
        now += store.lease_ttl * 2.1
        assert await owners.is_gone(elsewhere)
        assert not await owners.is_gone(owners.owner_id)
    finally:
        await store.aclose()
