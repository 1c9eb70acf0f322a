"""Published clients see what Python decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

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
)
from support.bookings import ARGS
from support.copilotkit import Client, fine
from support.nodejs import needs_node

if TYPE_CHECKING:
    from agentrunner.harness import RunResult
pytestmark = needs_node


@pytest.mark.parametrize("decision", ["approve", "reject", "edit"])
@both_generations
def test_clients_see_what_python_decides(here, node, kind, decision, thread):
    client = Client(node, kind, here.url, thread)
    asked_of(client)
    here.bookings.hold.touch()

    async def decide() -> RunResult:
        async with harness_at(here.location, here.bookings) as harness:
            [approval] = await harness.approvals(thread)
            edited = EDITED if decision == "edit" else None
            deciding = asyncio.ensure_future(
                harness.resume(approval_id=approval.approval_id, decision=decision, edited_input=edited, by="Ana")
            )
            watching = asyncio.to_thread(watch)
            result, _ = await asyncio.gather(deciding, watching)
            return result

    def watch() -> None:
        if decision != "reject":
            here.bookings.wait()
            reader = Client(node, kind, here.url, thread)
            connect = reader.connecting()
            reader.until("I look.")
            # The decision is being carried out, so the interrupt is no longer pending.
            assert reader.view()["pendingInterrupts"] == []
            here.bookings.hold.unlink()
            assert fine(connect.join())
            readers.append(reader)

    readers: list[Client] = []
    done = asyncio.run(decide())
    assert done.state == "completed"
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    assert late.messages[-1]["content"] == done.content
    assert args(here.bookings) == ANSWERS[decision][2]
    for reader in readers:
        assert reader.held == late.held


@each_kind
def test_a_run_that_waits_is_cancelled_by_python(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)

    async def cancel() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            [run] = await harness.runs(thread)
            assert await harness.cancel(run.run_id)

    asyncio.run(cancel())
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    # Who knows nothing of that is refused, and can go on.
    assert client.run(resume=answer(interrupt))["runErrors"][0][1] == "ALREADY_DECIDED"
    assert client.view()["pendingInterrupts"] == []
    assert fine(late.run("thanks"))
    assert late.messages[-1]["content"] == "Hello"
    assert fine(client.connect())
    assert client.held == late.held
    assert here.bookings.made == []


@pytest.mark.parametrize("kind", ["proxied-rest", "core-single"])
def test_an_approved_run_is_stopped(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    here.bookings.hold.touch()
    run = client.running(resume=answer(interrupt))
    here.bookings.wait()
    client.stop()
    assert fine(run.join())
    here.bookings.hold.unlink()
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    assert fine(late.run("thanks"))
    assert late.messages[-1]["content"] == "Hello"
    assert args(here.bookings) == [ARGS]
