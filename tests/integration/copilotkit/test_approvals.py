"""Published clients are shown an approval and answer it, or are refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agentrunner.errors import InvalidInput
from support.booking_server import (
    ANSWERS,
    EDITED,
    answer,
    args,
    asked_of,
    both_generations,
    each_kind,
    fresh,
    harness_at,
    result,
)
from support.bookings import ARGS, MAY_I
from support.copilotkit import BARE, Client, fine
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@pytest.mark.parametrize("decision", ANSWERS)
@each_kind
def test_an_approval_is_shown_and_answered(here, node, kind, decision, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    assert interrupt.pop("responseSchema")["properties"].keys() >= {"approved", "editedArgs", "reason"}
    metadata = interrupt.pop("metadata")
    assert metadata.pop("checkpoint")
    assert metadata == {"tool": "book", "input": ARGS, "agent": "default"}
    [call] = client.messages[-1]["toolCalls"]
    assert interrupt == {"id": f"int-{call['id']}", "reason": "tool_call", "message": MAY_I, "toolCallId": call["id"]}
    assert here.bookings.made == []

    reloaded = fresh(node, kind, here.url, thread)
    assert reloaded.held == client.held
    assert fine(seen := reloaded.run(resume=answer(interrupt, decision)))
    assert seen["outcomes"] == [None]
    assert reloaded.view()["pendingInterrupts"] == []
    _, begins, bookings = ANSWERS[decision]
    assert result(reloaded).startswith(begins)
    assert reloaded.messages[-1]["content"].startswith("Well: ")
    assert args(here.bookings) == bookings

    for other in {kind, *BARE}:
        assert fresh(node, other, here.url, thread).held == reloaded.held
    assert fine(reloaded.run("thanks"))
    assert reloaded.messages[-1]["content"] == "Hello"
    assert len(here.bookings.made) == len(bookings)


@pytest.mark.parametrize("kind", ["core-rest", "core-single"])
def test_an_answer_under_the_id_of_the_run_that_asked(here, node, kind, thread):
    """The stock `useInterrupt` sends its answer this way."""
    client = Client(node, kind, here.url, thread)
    assert fine(client.run("please book", runId=f"{thread} run"))
    [interrupt] = client.view()["pendingInterrupts"]
    assert fine(client.run(resume=answer(interrupt), runId=f"{thread} run"))
    assert result(client) == "2 seats at Tasca"
    assert fresh(node, kind, here.url, thread).held == client.held


def test_both_client_generations_see_the_same_question(here, node, thread):
    """Check that 0.0.59, whose outcomes are strict, gets the same interrupt as 1.0.0."""
    old = Client(node, "http-0.0.59", here.url, thread)
    interrupt = asked_of(old)
    new = fresh(node, "http-1.0.0", here.url, thread)
    assert new.view()["pendingInterrupts"] == [interrupt]
    assert fine(new.run(resume=answer(interrupt)))
    newer = Client(node, "http-1.0.0", here.url, f"{thread} 2")
    interrupt = asked_of(newer)
    old = fresh(node, "http-0.0.59", here.url, f"{thread} 2")
    assert old.view()["pendingInterrupts"] == [interrupt]
    assert fine(old.run(resume=answer(interrupt, "edit")))
    assert args(here.bookings) == [ARGS, EDITED]


# What is refused


@each_kind
def test_a_run_that_does_not_answer_leaves_nothing(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    before = fresh(node, kind, here.url, thread).held
    # One that was never told of the interrupt: the others refuse by themselves.
    stranger = Client(node, kind, here.url, thread)
    seen = stranger.run("and something else")
    assert seen["types"] == ["RUN_ERROR"]
    [[message, code]] = seen["runErrors"]
    assert code == "INTERRUPTS_OPEN"
    assert interrupt["id"] in message
    assert "pending interrupt" in str(client.run("and something else"))
    assert fresh(node, kind, here.url, thread).held == before
    assert fine(fresh(node, kind, here.url, thread).run(resume=answer(interrupt)))
    assert args(here.bookings) == [ARGS]


@each_kind
def test_the_second_answer_is_refused(here, node, kind, thread):
    first = Client(node, kind, here.url, thread)
    interrupt = asked_of(first)
    second = fresh(node, kind, here.url, thread)
    here.bookings.hold.touch()
    run = first.running(resume=answer(interrupt))
    here.bookings.wait()
    # While the first is acted upon the thread is busy.
    assert "Thread already running" in json.dumps(second.run(resume=answer(interrupt, "reject")))
    here.bookings.hold.unlink()
    assert fine(run.join())
    seen = second.run(resume=answer(interrupt, "reject"))
    assert seen["types"][0] == "RUN_ERROR"
    assert seen["runErrors"][0][1] == "ALREADY_DECIDED"
    assert fresh(node, kind, here.url, thread).held == first.held
    assert args(here.bookings) == [ARGS]


@both_generations
def test_an_invalid_answer_leaves_the_approval_open(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    unknown = [{"interruptId": "int-other", "status": "resolved", "payload": {"approved": True}}]
    for resume, code in (
        ([*answer(interrupt), *unknown], "APPROVAL_NOT_FOUND"),
        (unknown, "APPROVAL_NOT_FOUND"),
    ):
        seen = Client(node, kind, here.url, thread).run(resume=resume)
        assert seen["runErrors"][0][1] == code
    assert fresh(node, kind, here.url, thread).held == client.held
    assert fine(client.run(resume=answer(interrupt)))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"approved": True, "editedArgs": {"place": "Ramiro", "seats": "many"}}, "seats"),
        ({"approved": True, "editedArgs": {"seats": 3}}, "place"),
        ({"approved": True, "editedArgs": [1]}, "editedArgs must be an object"),
        ("yes", '"approved": true'),
        (None, '"approved": true'),
    ],
)
@both_generations
def test_an_answer_with_wrong_arguments_leaves_the_approval_open(here, node, kind, payload, words, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    seen = client.run(resume=answer(interrupt, {"status": "resolved", "payload": payload}))
    [[message, code]] = seen["runErrors"]
    assert code == "RUN_REFUSED"
    assert words in message
    assert client.view()["pendingInterrupts"] == [interrupt]
    assert fresh(node, kind, here.url, thread).held == client.held

    async def decide() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            with pytest.raises(InvalidInput, match="seats"):
                await harness.resume(thread_id=thread, decision="edit", edited_input={"place": "Ramiro", "seats": ""})
            assert len(await harness.approvals(thread)) == 1

    asyncio.run(decide())
    assert fine(client.run(resume=answer(interrupt, "edit")))
    assert args(here.bookings) == [EDITED]
