"""Published clients see interrupts and answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.copilotkit import Client, Gate, fine
from support.copilotkit_server import (
    ANSWER,
    ASKED,
    ASKING,
    each_kind,
    without_ids,
)
from support.events import text_message
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@each_kind
def test_an_interrupt_is_pending_until_it_is_answered(served, node, kind, thread):
    served.stage.play(thread, *ASKING)
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    assert fine(seen)
    assert seen["outcomes"] == ["interrupt"]
    assert client.view()["pendingInterrupts"] == [ASKED]

    reloaded = Client(node, kind, served.url, thread)
    assert fine(reloaded.connect())
    assert reloaded.held == client.held
    if not kind.startswith("core"):
        # Back with its messages, as after a lost connection; the core's agents begin with none.
        back = Client(node, kind, served.url, thread, initialMessages=client.messages)
        assert fine(back.connect())
        assert back.held == client.held

    # An answer that fails leaves it pending, for who answered and for who comes.
    served.stage.play(thread, ValueError("the restaurant does not answer"))
    assert reloaded.run(resume=ANSWER)["runErrors"]
    assert reloaded.view()["pendingInterrupts"] == [ASKED]
    fresh = Client(node, kind, served.url, thread)
    assert fresh.connect()["outcomes"] == ["interrupt"]
    assert fresh.view()["pendingInterrupts"] == [ASKED]

    # The interrupt is offered to no client while the agent processes the answer, nor afterwards.
    gate = Gate()
    served.stage.play(thread, *text_message("done", "Book")[:2], gate, *text_message("done", "ed")[1:])
    run = reloaded.running(resume=ANSWER)
    gate.wait()
    watching = Client(node, kind, served.url, thread)
    connect = watching.connecting()
    watching.until("Book")
    assert watching.view()["pendingInterrupts"] == []
    gate.open()
    seen = [run.join(), connect.join()]
    assert all("refused" not in one for one in seen)
    assert seen[0]["outcomes"] == [None]
    assert "interrupt" not in seen[1]["outcomes"]
    [entry] = served.stage.inputs[thread][-1].resume
    assert (entry.interrupt_id, entry.status, entry.payload) == ("i1", "resolved", {"approved": True})

    last = Client(node, kind, served.url, thread)
    seen = last.connect()
    # A replay shows only the last failure as one.
    assert seen["outcomes"] == [None, None, None]
    assert without_ids(*last.messages) == ["hi", "May I?", "Booked"]
    assert last.held == watching.held == reloaded.held
    assert fine(last.run("thanks"))


@each_kind
def test_a_second_question_is_the_one_that_is_pending(in_memory, node, kind, thread):
    second = ASKED | {"id": "i2", "message": "And a taxi?"}
    in_memory.stage.play(thread, *ASKING)
    in_memory.stage.play(thread, {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [second]}})
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"), client.run(resume=ANSWER))
    assert client.view()["pendingInterrupts"] == [second]
    fresh = Client(node, kind, in_memory.url, thread)
    seen = fresh.connect()
    assert fine(seen)
    assert seen["outcomes"] == [None, "interrupt"]
    assert fresh.held == client.held
    cancelled = [{"interruptId": "i2", "status": "cancelled"}]
    assert fine(fresh.run(resume=cancelled))
    assert in_memory.stage.inputs[thread][-1].resume[0].status == "cancelled"
    assert fresh.view()["pendingInterrupts"] == []


@pytest.mark.parametrize("kind", ["core-rest", "core-single"])
def test_an_answer_under_the_id_of_the_run_that_asked(in_memory, node, kind, thread):
    """So the stock `useInterrupt` sends it."""
    in_memory.stage.play(thread, *ASKING)
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"))
    run_id = in_memory.stage.inputs[thread][0].run_id
    assert fine(client.run(resume=ANSWER, runId=run_id))
    assert without_ids(*client.messages) == ["hi", "May I?", "Hello"]
    fresh = Client(node, kind, in_memory.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held
