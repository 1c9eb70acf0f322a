"""Rows damaged while a file is closed: what each costs, and what mends it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import agentrunner
from agentrunner import SqliteAgentRunner, ThreadAlreadyRunning
from campaigns import start
from campaigns.corruption import FRAMES
from campaigns.damaged import CUT_SHORT, RUNS, damage
from support.agents import agent_with
from support.events import event_types
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = {"sql": "UPDATE counters SET value = value + ?", "value": 0}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "threads.db"
    assert start("campaigns.damaged", "make", path).wait() == 0
    damage(path, NOTHING)
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    return shutil.copy(template, tmp_path / "threads.db")


@pytest.mark.parametrize("value", ["", "text", 7, {"blob": "00"}, {"blob": b"id: x\ndata: {}\n\n".hex()}])
async def test_the_part_before_the_damage_of_a_journal_is_kept(path: Path, value: object) -> None:
    damage(path, {"sql": FRAMES.format(thread=CUT_SHORT, n=50), "value": value})
    async with SqliteAgentRunner(path) as runner:
        assert (
            event_types(await collect(await runner.run(agent_with(), make_input(CUT_SHORT, "next"))))[-1]
            == "RUN_FINISHED"
        )
        history = await runner.threads.events(CUT_SHORT)
        agentrunner.verify(history)
        codes = [event.to_dict().get("code") for event in history if event.type == "RUN_ERROR"]
        assert codes == ["INTERRUPTED"]
        messages = [message for message in agentrunner.fold(history).messages if message["id"] == f"{CUT_SHORT}-live-m"]
        assert "word 40 " in messages[0]["content"]
        assert "word 60 " not in messages[0]["content"]
        assert (await runner._store.inspect(fix=False)).is_sound


async def test_a_lease_that_cannot_be_read_costs_its_thread_until_that_is_freed(path: Path) -> None:
    damage(path, {"sql": "UPDATE live_runs SET first_seq = ?", "value": "text"})
    async with SqliteAgentRunner(path) as runner:
        assert len(await collect(await runner.run(agent_with(), make_input("other", "other-next")))) > 0
        with pytest.raises(ThreadAlreadyRunning):
            await runner.run(agent_with(), make_input(CUT_SHORT, "next"))
        assert (await runner._store.inspect(fix=False)).stuck == [CUT_SHORT]
        await runner._store.inspect(fix=True)
        assert (await runner._store.inspect(fix=False)).is_sound
        assert event_types(await collect(await runner.run(agent_with(), make_input(CUT_SHORT, "next")))) == [
            "RUN_STARTED",
            "RUN_FINISHED",
        ]
        agentrunner.verify(await runner.threads.events(CUT_SHORT))


@pytest.mark.parametrize("value", ["[1]", '["x"]', '[{"no":"type"}]', '[{"type":7}]', "[]x", 7])
async def test_events_that_are_none_are_named_and_left_out(path: Path, value: object) -> None:
    damage(path, {"sql": "UPDATE agent_runs SET events = ? WHERE run_id = 'whole-1'", "value": value})
    async with SqliteAgentRunner(path) as runner:
        history = await runner.threads.events("whole")
        agentrunner.verify(history)
        assert event_types(history).count("RUN_STARTED") == RUNS - 1
        assert (await runner._store.inspect(fix=False)).corrupt == [("whole", "whole-1")]
