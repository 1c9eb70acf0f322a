"""Published clients stop runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.copilotkit import BARE, PROXIED, Client, Gate, fine
from support.copilotkit_server import (
    without_ids,
)
from support.events import text_message
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


each_proxied = pytest.mark.parametrize("kind", PROXIED)


# Stop


@each_proxied
def test_a_client_stops_its_own_run(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    client.until("Hel")
    client.stop()
    seen = run.join()
    assert fine(seen)
    assert gate.cancelled.is_set()
    assert seen["types"][-1] == "RUN_FINISHED"
    [stop_request] = [body for body in served.spy.bodies("stop") if thread in json.dumps(body, ensure_ascii=False)] or [
        served.spy.bodies("/stop/")[-1]
    ]
    # In an envelope, or alone: only this very run was asked to stop.
    assert stop_request.get("body", stop_request) == {"runId": served.stage.inputs[thread][0].run_id}
    assert without_ids(*client.messages) == ["hi", "Hel"]
    assert fine(client.run("again"))
    fresh = Client(node, kind, served.url, thread)
    assert fine(fresh.connect())
    assert without_ids(*fresh.messages) == ["hi", "Hel", "again", "Hello"]
    assert fresh.held == client.held


@each_proxied
def test_a_reader_stops_the_threads_live_run(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    reader = Client(node, kind, served.url, thread)
    gate.wait()
    connect = reader.connecting()
    reader.until("Hel")
    reader.stop()
    assert fine(run.join(), connect.join())
    assert gate.cancelled.is_set()
    assert reader.held == client.held
    assert fine(reader.run("again"))
    assert without_ids(*reader.messages) == ["hi", "Hel", "again", "Hello"]


@each_proxied
def test_a_stop_where_nothing_runs_does_nothing(in_memory, node, kind, thread):
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"))
    client.stop()
    assert fine(client.run("again"))
    assert without_ids(*client.messages) == ["hi", "Hello", "again", "Hello"]


@pytest.mark.parametrize("kind", BARE)
def test_a_bare_client_that_aborts_only_leaves(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate, *text_message("m1", "lo")[1:])
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    client.until("Hel")
    client.stop()
    assert "refused" not in run.join()
    reader = Client(node, kind, served.url, thread)
    connect = reader.connecting()
    reader.until("Hel")
    gate.open()
    assert fine(connect.join())
    assert not gate.cancelled.is_set()
    assert without_ids(*reader.messages) == ["hi", "Hello"]
