"""Listeners to events: no listener delays or breaks a run."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import InvalidInput
from agentrunner.harness import Harness
from support.agents import agent_with
from support.events import text_message
from support.harness import drain_listeners, until

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_slow_or_failing_listener_does_not_harm_a_run(memory_factory, caplog):
    runner = memory_factory()
    stuck = asyncio.Event()
    heard = []

    async def slow(event):
        await stuck.wait()

    def failing(event):
        raise RuntimeError("listener is broken")

    async with Harness(runner, {"a": hello}) as harness:
        slow_one = harness.subscribe(slow)
        harness.subscribe(failing)
        with harness.subscribe(heard.append):
            assert (await harness.run("hi")).state == "completed"
            await until(lambda: len(heard) == 5)
        await harness.run("hi")
        assert len(heard) == 5
        assert slow_one.missed == 0
        slow_one.close()
    assert "listener is broken" in caplog.text


async def test_listener_that_is_too_slow_misses_the_oldest_events(memory_factory, monkeypatch):
    monkeypatch.setattr("agentrunner.harness.listeners.BACKLOG_EVENTS", 3)
    runner = memory_factory()
    gate, heard = asyncio.Event(), []

    async def slow(event):
        await gate.wait()
        heard.append(event.seq)

    async with Harness(runner, {"a": agent_with(*text_message("m", *"abcdefgh"))}) as harness:
        subscription = harness.subscribe(slow)
        await harness.run("hi")
        gate.set()
        await drain_listeners(harness)
        assert subscription.missed > 0
        assert heard[-3:] == [9, 10, 11]
        assert subscription.missed + len(heard) == 11


@pytest.mark.parametrize(
    ("listeners", "reason"),
    [
        ({"nope": print}, "must be one of content, reasoning, step, tool_result, lifecycle, not 'nope'"),
        ({"content": print, None: print}, "not None"),
        ({"content": 5}, "must be a function of one argument, not 5"),
        ({"content": [print, None]}, "not None"),
        ([print], "listeners must be a mapping"),
        (print, "listeners must be a mapping"),
    ],
)
async def test_listener_that_would_never_be_called_is_refused(runner, listeners, reason):
    async with Harness(runner, {"a": hello}) as harness:
        with pytest.raises(InvalidInput, match=reason):
            await harness.run("hi", listeners=listeners)
        assert await harness.runs() == []
        assert (await harness.run("hi", listeners={})).state == "completed"


async def test_subscriber_must_be_a_function(memory_factory):
    async with Harness(memory_factory(), {"a": hello}) as harness:
        with pytest.raises(InvalidInput, match="must be a function"):
            harness.subscribe(None)
