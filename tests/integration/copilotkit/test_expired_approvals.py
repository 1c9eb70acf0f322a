"""Approvals that expire, and runs that fail after an answer."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agentrunner.errors import ApprovalExpired
from support.booking_server import (
    answer,
    args,
    asked_of,
    both_generations,
    each_kind,
    fresh,
    fresh_or_cut,
    harness_at,
    serve_bookings,
)
from support.bookings import ARGS
from support.copilotkit import Client, fine
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


def test_python_rejects_an_expired_approval(tmp_path, node, thread):
    with serve_bookings(tmp_path, expires=0.001) as here:
        asked_of(Client(node, "http-1.0.0", here.url, thread))

        async def decide() -> str:
            async with harness_at(here.location, here.bookings) as harness:
                with pytest.raises(ApprovalExpired):
                    await harness.resume(thread_id=thread, decision="approve")
                return (await harness.resume(thread_id=thread, decision="reject", reason="too late")).content

        assert asyncio.run(decide()) == "Well: The user has rejected this call: too late"
        assert fresh(node, "http-0.0.59", here.url, thread).view()["pendingInterrupts"] == []


def test_a_tool_approved_in_time_may_run_after_the_expiry(tmp_path, node, thread):
    """Here because its run waits for a slot; after a crash it may be later as well."""
    with serve_bookings(tmp_path, expires=4, max_concurrent_runs=1) as here:
        client, other = (Client(node, "http-1.0.0", here.url, name) for name in (thread, f"{thread} other"))
        interrupt = asked_of(client)
        here.bookings.hold.touch()
        holding = other.running(resume=answer(asked_of(other)))
        here.bookings.wait()
        late = client.running(resume=answer(interrupt))
        until = datetime.fromisoformat(interrupt["expiresAt"])
        while datetime.now(UTC) <= until:
            time.sleep(0.05)
        here.bookings.hold.unlink()
        assert fine(holding.join(), late.join())
        assert len(here.bookings.made) == 2


@both_generations
def test_an_expired_approval_can_only_be_cancelled(tmp_path, node, kind, thread):
    with serve_bookings(tmp_path, expires=0.001) as here:
        client = Client(node, kind, here.url, thread)
        interrupt = asked_of(client)
        assert interrupt["expiresAt"].endswith("Z")
        assert "expired" in json.dumps(client.run(resume=answer(interrupt)))
        back = fresh(node, kind, here.url, thread)
        assert back.view()["pendingInterrupts"] == [interrupt]
        if kind != "http-1.0.0":
            # 0.0.59 refuses that by itself, too: a newer client has to, or Python.
            assert "expired" in json.dumps(back.run(resume=answer(interrupt, "cancel")))
            back = fresh(node, "http-1.0.0", here.url, thread)
        assert fine(back.run(resume=answer(interrupt, "cancel")))
        again = fresh(node, kind, here.url, thread)
        assert again.view()["pendingInterrupts"] == []
        assert fine(again.run("thanks"))
        assert here.bookings.made == []


@each_kind
def test_a_thread_can_continue_after_a_run_fails_on_an_answer(here, node, kind, thread):
    """The approval is used up.

    A client would show it as open until a run finishes, and would start no other run.
    """
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client, "please book and fail")
    seen = client.run(resume=answer(interrupt))
    assert seen["runErrors"] == [["the model does not answer", None]]
    assert "refused" not in seen
    assert client.view()["pendingInterrupts"] == []
    late = fresh_or_cut(node, kind, here.url, thread)
    assert late.held == client.held
    assert fine(client.run("thanks"))
    assert client.messages[-1]["content"] == "Hello"
    assert fine(late.run("thanks again"))
    assert args(here.bookings) == [ARGS]


@each_kind
def test_a_refused_client_can_continue(here, node, kind, thread):
    first = Client(node, kind, here.url, thread)
    interrupt = asked_of(first)
    second = fresh(node, kind, here.url, thread)
    assert fine(first.run(resume=answer(interrupt)))
    assert second.run(resume=answer(interrupt, "reject"))["runErrors"][0][1] == "ALREADY_DECIDED"
    assert second.view()["pendingInterrupts"] == []
    assert "refused" not in second.connect()
    assert second.held == first.held


def test_a_question_that_python_answered_is_not_asked_again(here, node, thread):
    client = Client(node, "http-1.0.0", here.url, thread)
    assert client.run("please book both")["outcomes"] == ["interrupt"]
    tasca, solar = client.view()["pendingInterrupts"]

    async def decide() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            [approval] = [one for one in await harness.approvals(thread) if one.interrupt_id == tasca["id"]]
            assert (await harness.resume(approval_id=approval.approval_id, decision="approve")).approvals

    asyncio.run(decide())
    late = fresh(node, "http-1.0.0", here.url, thread)
    assert late.view()["pendingInterrupts"] == [solar]
    assert fine(late.run(resume=answer(solar, "reject")))
    assert args(here.bookings) == [ARGS]
    # The other has both open still, and says the same of the first.
    assert "refused" not in client.run(resume=[*answer(tasca), *answer(solar, "reject")])
    assert client.view()["pendingInterrupts"] == []
