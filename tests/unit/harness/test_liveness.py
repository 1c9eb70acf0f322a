"""Liveness: which owners on a store are gone."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

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


@pytest.mark.fault("A6")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not run: the system does not show its processes")
async def test_owner_whose_process_runs_here_is_alive_without_heartbeats(sqlite_factory, monkeypatch):
    store = await sqlite_factory().open()
    now = 1000.0
    monkeypatch.setattr("agentrunner.harness.liveness.time", SimpleNamespace(monotonic=lambda: now))
    liveness = Liveness(store)
    with subprocess.Popen(["sleep", "60"]) as child:
        place = liveness.owner_id.split("|")[0]
        start = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
        owner = f"{place}|{child.pid}|{start}|0.0"
        assert not await liveness.is_gone(owner)
        now += store.lease_ttl * 100
        assert not await liveness.is_gone(owner), "its event loop may be blocked"
        child.kill()
    assert await liveness.is_gone(owner)
