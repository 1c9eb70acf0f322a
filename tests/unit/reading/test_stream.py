"""A stream that is read without being awaited first, and one that is used twice."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from support.agents import Gate, agent_with
from support.backends import embedded
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner
    from agentrunner.reading.stream import OpeningStream

TEXT = text_message("m1", "x")


@embedded
async def test_frames_and_pages_open_the_stream(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input("t")))
    frames = b"".join([data async for data in (await runner.connect("t")).frames()])
    assert frames.count(b"data: ") == len(TEXT) + 2
    assert b"".join([data async for data in runner.connect("t").frames()]) == frames
    assert b"".join([data async for data in runner.snapshot("t").frames(legacy=True)])
    assert b"".join([bytes(page) async for page in runner.connect("t").pages()]) == frames
    run = runner.run(agent_with(), make_input("t", "r2")).frames()
    assert b"".join([data async for data in run]).count(b"data: ") == 2


@embedded
async def test_a_reader_that_leaves_early_is_released(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t"))
    for read in (lambda opening: opening.frames(), lambda opening: opening.pages(), aiter):
        async with contextlib.aclosing(read(runner.connect("t"))) as reading:
            await anext(reading)
            assert runner.stats.readers == 2
        assert runner.stats.readers == 1
    gate.open()
    await collect(stream)


async def await_it(opening: OpeningStream) -> None:
    await opening


async def iterate(opening: OpeningStream) -> None:
    async for _ in opening:
        pass


async def enter(opening: OpeningStream) -> None:
    async with opening:
        pass


async def read_frames(opening: OpeningStream) -> None:
    async for _ in opening.frames():
        pass


async def read_pages(opening: OpeningStream) -> None:
    async for _ in opening.pages():
        pass


async def start_task(opening: OpeningStream) -> None:
    await asyncio.create_task(opening)


USES = (await_it, iterate, enter, read_frames, read_pages, start_task)


@embedded
@pytest.mark.parametrize("second", USES)
@pytest.mark.parametrize("first", USES)
async def test_a_second_use_names_the_stream_to_keep(
    runner: AgentRunner, first: Callable[..., Any], second: Callable[..., Any]
) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input("t")))
    opening = runner.connect("t")
    await first(opening)
    with pytest.raises(RuntimeError, match=r"already open; keep the EventStream that `await`"):
        await second(opening)
    await opening.aclose()


@embedded
async def test_aclose_before_the_stream_is_opened_starts_nothing(runner: AgentRunner) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opening = runner.run(agent_with(), make_input("t"))
        await opening.aclose()
        await opening.aclose()
        for use in USES:
            with pytest.raises(RuntimeError, match="closed before it was opened"):
                await use(opening)
    assert await runner.threads.list() == []


@embedded
@pytest.mark.parametrize("is_task", [True, False])
async def test_aclose_ends_the_stream_that_await_returned(runner: AgentRunner, is_task: bool) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t"))
    opening = runner.connect("t")
    reader = await (asyncio.create_task(opening) if is_task else opening)
    assert runner.stats.readers == 2
    await opening.aclose()
    assert runner.stats.readers == 1
    assert await collect(reader) == []
    gate.open()
    await collect(stream)


@embedded
async def test_the_opening_stream_keeps_no_reader_alive(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t"))
    opening = runner.connect("t")
    reader = await opening
    del reader
    assert runner.stats.readers == 1
    await opening.aclose()
    gate.open()
    await collect(stream)


@embedded
async def test_aclose_while_a_task_opens_the_stream_is_refused(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input("t")))
    opening = runner.connect("t")
    task = asyncio.ensure_future(await_it(opening))
    await asyncio.sleep(0)
    if not task.done():
        with pytest.raises(RuntimeError, match="cancel that task"):
            await opening.aclose()
    await task
