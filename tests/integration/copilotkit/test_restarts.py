"""Published clients when the server ends, is killed and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from agentrunner import SqliteAgentRunner
from support.copilotkit import BARE, KINDS, Client, Gate, fine
from support.copilotkit_server import (
    ANSWER,
    ASKED,
    ASKING,
    each_kind,
    everything,
    expected_messages,
    served_by,
    user,
    without_ids,
)
from support.events import text_message
from support.nodejs import needs_node
from support.paths import child_environment

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@each_kind
def test_another_server_on_the_file_serves_the_thread(node, kind, tmp_path):
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        server.stage.play("t", *everything(1), ASKING[-1])
        client = Client(node, kind, server.url, "t")
        assert fine(client.run("hi"))
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        fresh = Client(node, kind, server.url, "t")
        assert fine(fresh.connect())
        assert fresh.held == client.held
        assert fresh.view()["pendingInterrupts"] == [ASKED]
        server.stage.play("t", *everything(2))
        assert fine(fresh.run(resume=ANSWER))
        assert fresh.messages == [user("hi"), *expected_messages(1), *expected_messages(2)]


def test_a_live_run_is_ended_and_its_readers_told(node, tmp_path):
    gate = Gate()
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        server.stage.play("t", *text_message("m1", "Hel")[:2], gate)
        clients = [Client(node, kind, server.url, "t") for kind in ("proxied-rest", *BARE)]
        under_way = [clients[0].running("hi")]
        gate.wait()
        under_way += [client.connecting() for client in clients[1:]]
        for client in clients:
            client.until("Hel")
    for client, work in zip(clients, under_way, strict=True):
        [[message, code]] = work.join()["runErrors"]
        assert code == "INTERRUPTED", (client.kind, message)
        assert without_ids(*client.messages) == ["hi", "Hel"]


HUNG = """
import sys
from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app
from support.events import text_message
from support.paths import child_environment
from support.serving import serving
from support.copilotkit import Gate, Stage

stage = Stage()
for thread in sys.argv[2:]:
    stage.play(thread, *text_message("m1", "Hel")[:2], Gate())
with serving(create_app(SqliteAgentRunner(sys.argv[1]), {"default": stage}, mode="both")) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def test_a_killed_server_leaves_a_run_that_was_interrupted(node, tmp_path):
    file = tmp_path / "t.db"
    child = subprocess.Popen(
        [sys.executable, "-c", HUNG, file, *KINDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=child_environment(),
    )  # fmt: skip
    with child:
        url = child.stdout.readline().strip()
        clients = {kind: Client(node, kind, url, kind) for kind in KINDS}
        runs = {kind: client.running("hi") for kind, client in clients.items()}
        for client in clients.values():
            client.until("Hel")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    for kind, run in runs.items():
        # A connection that breaks is no end of a run.
        seen = run.join()
        assert "refused" in seen or seen["reported"], kind
        assert seen["types"][-1] == "TEXT_MESSAGE_CONTENT"
    with served_by(SqliteAgentRunner(file)) as server:
        for kind in KINDS:
            fresh = Client(node, kind, server.url, kind)
            [[_, code]] = fresh.connect()["runErrors"]
            assert code == "INTERRUPTED"
            assert without_ids(*fresh.messages) == ["hi", "Hel"]
            back = clients[kind]
            if not kind.startswith("core"):
                # The page that was open all the time comes back with its messages.
                back = Client(node, kind, server.url, kind, initialMessages=back.messages)
                assert [code for _, code in back.connect()["runErrors"]] == ["INTERRUPTED"]
                assert back.messages == fresh.messages
            assert "refused" not in fresh.run("again")
            assert without_ids(*fresh.messages) == ["hi", "Hel", "again", "Hello"]
