"""Log lines about a store that cannot be used."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import SqliteAgentRunner, StoreError
from agentrunner.harness import Harness
from agentrunner.harness import maintenance as harness_maintenance
from agentrunner.running import maintenance, outages
from agentrunner.running.outages import OutageLog
from support.agents import agent_with

if TYPE_CHECKING:
    from pathlib import Path


def test_an_outage_is_logged_when_it_begins_rarely_meanwhile_and_when_it_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(outages.time, "monotonic", lambda: now)
    outage = OutageLog(logging.getLogger("agentrunner"), "recovery")
    outage.note_success()
    for _ in range(2):
        for _ in range(150):
            outage.note_failure(StoreError("away"))
            now += 1
        outage.note_success()
        outage.note_success()
        now += 1
    once = ["recovery failed and is tried again: StoreError: away"] * 3 + ["recovery succeeds again, after 150 s"]
    assert caplog.messages == once * 2
    outage.note_failure(StoreError("away"))
    outage.forget()
    outage.note_success()
    assert len(caplog.messages) == 9
    assert not any(record.exc_info for record in caplog.records)


async def test_a_file_that_is_away_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "RECOVERY_POLL_SECONDS", 0.01)
    monkeypatch.setattr(harness_maintenance, "MAINTENANCE_SECONDS", 0.01)
    path, away = tmp_path / "threads.db", tmp_path / "away.db"
    failures = 0
    note_failure = OutageLog.note_failure

    def count_failure(outage: OutageLog, error: Exception) -> None:
        nonlocal failures
        failures += 1
        note_failure(outage, error)

    monkeypatch.setattr(OutageLog, "note_failure", count_failure)

    def lines(text: str) -> list[Any]:
        return [record for record in caplog.records if text in record.message]

    async with SqliteAgentRunner(path) as runner, Harness(runner, {"a": agent_with()}) as harness:
        path.rename(away)
        harness._state.request_recovery()
        while failures <= 10 or not lines("maintenance failed"):
            await asyncio.sleep(0.01)
        assert len(lines("recovery or retention failed and is tried again: StoreMissing")) == 1
        assert len(lines("the harness's maintenance failed")) == 1
        away.rename(path)
        while not (lines("recovery or retention succeeds") and lines("maintenance succeeds")):
            await asyncio.sleep(0.01)
    assert len(lines("succeeds again")) == 2
    assert not any(record.exc_info for record in caplog.records)
