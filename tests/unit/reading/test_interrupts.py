"""Interrupts in a replay: only those that are still open are offered."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner._core import Frames
from agentrunner.reading.interrupts import hide_answered_interrupts, replace_interrupts
from agentrunner.reading.stream import PAGE_BYTES
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import frames_of
from support.events import run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner

INTERRUPT = {"id": "i-r0", "reason": "input_required"}
LONG_ANSWER = [{"type": "CUSTOM", "name": str(number), "value": "x" * 10_000} for number in range(60)]

asking_agent = scripted_agent(
    [run_started(run="r0"), run_finished(run="r0", outcome={"type": "interrupt", "interrupts": [INTERRUPT]})]
)


async def replay(runner: AgentRunner, *, legacy: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the cursors and events that a new reader of the thread gets."""
    pages = hide_answered_interrupts(await runner.connect("t1"), await runner.open(), partial(runner.connect, "t1"))
    data = b"".join([page.for_legacy_clients() if legacy else bytes(page) async for page in pages])
    return frames_of(data)


def is_offered(frames: list[tuple[str, dict[str, Any]]]) -> bool:
    (ended,) = [event for _, event in frames if event["type"] == "RUN_FINISHED" and event["runId"] == "r0"]
    return "outcome" in ended


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("finishes", "is_answered_later", "offered"), [(True, False, False), (False, False, True), (False, True, False)]
)
async def test_an_answer_longer_than_what_is_held_back_is_found_by_reading_ahead(
    finishes: bool, is_answered_later: bool, offered: bool, legacy: bool, runner: AgentRunner
) -> None:
    async def answer_at_length(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in LONG_ANSWER:
            yield event
        yield run_finished(input.thread_id, input.run_id) if finishes else {"type": "RUN_ERROR", "message": "no"}

    await collect(await runner.run(asking_agent, make_input(run="r0")))
    await collect(await runner.run(answer_at_length, make_input(run="r1")))
    if is_answered_later:
        await collect(await runner.run(agent_with(*text_message("m", "hello")), make_input(run="r2")))
    frames = await replay(runner, legacy=legacy)
    assert is_offered(frames) == offered
    names = [event["name"] for _, event in frames if event["type"] == "CUSTOM"]
    assert names == [event["name"] for event in LONG_ANSWER]
    cursors = [cursor for cursor, _ in frames if cursor]
    assert len(set(cursors)) == len(cursors)


async def test_little_of_a_long_answer_is_held_back(runner: AgentRunner) -> None:
    await collect(await runner.run(asking_agent, make_input(run="r0")))
    await collect(await runner.run(agent_with(*LONG_ANSWER), make_input(run="r1")))
    stream = await runner.connect("t1")
    taken = 0

    class CountedStream:
        @property
        def is_replaying(self) -> bool:
            return stream.is_replaying

        async def pages(self) -> AsyncIterator[Frames]:
            nonlocal taken
            async for page in stream.pages():
                taken += len(page)
                yield page

    pages = hide_answered_interrupts(
        CountedStream(),  # type: ignore[arg-type]
        await runner.open(),
        partial(runner.connect, "t1"),
    )
    received = bytes(await anext(pages))
    while b"RUN_FINISHED" not in received:
        received += bytes(await anext(pages))
    assert b"outcome" not in received
    assert taken < 3 * PAGE_BYTES
    await pages.aclose()


@pytest.mark.fault("B14")
@pytest.mark.parametrize("words", ["hello", 'the event "RUN_FINISHED" ends a run', '"RUN_', 'a "RUN_ERROR"'])
async def test_an_interrupt_that_a_live_run_answers_is_not_offered_whatever_its_text(
    words: str, runner: AgentRunner
) -> None:
    gate = Gate(text_message("m", words))
    await collect(await runner.run(asking_agent, make_input(run="r0")))
    stream = await runner.run(gate, make_input(run="r1"))
    await gate.reached.wait()
    pages = hide_answered_interrupts(await runner.connect("t1"), await runner.open(), partial(runner.connect, "t1"))
    received = b""
    while b"TEXT_MESSAGE_CONTENT" not in received:
        received += bytes(await anext(pages))
    assert b"outcome" not in received
    gate.open()
    await collect(stream)
    await pages.aclose()


@pytest.mark.parametrize("words", ["hello", 'the event "RUN_FINISHED" ends a run', '"RUN_STARTED"'])
async def test_an_interrupt_that_only_a_failed_run_answered_is_offered_whatever_its_text(
    words: str, runner: AgentRunner
) -> None:
    async def fail(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in text_message("m", words):
            yield event
        raise RuntimeError("boom")

    await collect(await runner.run(asking_agent, make_input(run="r0")))
    await collect(await runner.run(fail, make_input(run="r1")))
    assert is_offered(await replay(runner))


def test_the_interrupts_of_a_frame_are_replaced() -> None:
    frame = (
        b'id: 2.1\ndata: {"type":"RUN_FINISHED","threadId":"t","runId":"r",'
        b'"outcome":{"type":"interrupt","interrupts":[{"id":"a"},{"id":"b"}]}}\n\n'
    )
    assert replace_interrupts(frame, [{"id": "a"}, {"id": "b"}]) == frame
    ((cursor, one),) = frames_of(replace_interrupts(frame, [{"id": "b"}]))
    assert (cursor, one["outcome"]) == ("2.1", {"type": "interrupt", "interrupts": [{"id": "b"}]})
    ((cursor, none),) = frames_of(replace_interrupts(frame, []))
    assert (cursor, none) == ("2.1", {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"})


class StoredFrames:
    """A source of frames that another program has stored."""

    is_replaying = True

    def __init__(self, *events: bytes) -> None:
        self._events = events

    async def pages(self) -> AsyncGenerator[Frames, None]:
        yield Frames(b"".join(b"data: " + event + b"\n\n" for event in self._events))


@pytest.mark.fault("B3")
@pytest.mark.parametrize("interrupts", [b"5", b'"x"', b"null", b"{}", b"[]", b"[5]", b'[null,{"id":"i"}]'])
async def test_an_outcome_whose_interrupts_cannot_be_read_is_passed_on(interrupts: bytes, runner: AgentRunner) -> None:
    event = b'{"type":"RUN_FINISHED","runId":"r","outcome":{"type":"interrupt","interrupts":%s}}' % interrupts
    source = StoredFrames(event)
    pages = hide_answered_interrupts(source, await runner.open(), partial(runner.connect, "t1"))
    assert b"".join([bytes(page) async for page in pages]) == b"data: " + event + b"\n\n"
