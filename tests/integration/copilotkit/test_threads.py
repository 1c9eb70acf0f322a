"""The thread list of `useThreads`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner
from support.copilotkit import Client, Gate, Refused, ThreadList, fine
from support.copilotkit_server import (
    Served,
    served_by,
    without_ids,
)
from support.inputs import make_input
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


def fill(server: Served, mode: str, count: int) -> set[str]:
    """Run once on each of so many threads; give their ids."""
    names = [f"t/ü {n}" for n in range(count)]
    with httpx.Client(base_url=server.url) as client:
        for name in names:
            body = make_input(name, f"{name}-run", ["hi"])
            if mode == "single-route":
                envelope = {"method": "agent/run", "params": {"agentId": "default"}, "body": body}
                assert client.post("/", json=envelope).status_code == 200
            else:
                assert client.post("/agent/default/run", json=body).status_code == 200
    return set(names)


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize(
    ("mode", "transport", "expected_transport"),
    [
        ("both", "rest", "rest"), ("both", "single", "single"), ("both", "auto", "rest"),
        ("multi-route", "auto", "rest"), ("single-route", "auto", "single"),
    ],
)  # fmt: skip
def test_the_thread_list(node, store, mode, transport, expected_transport, tmp_path):
    runner = SqliteAgentRunner(tmp_path / "t.db") if store == "sqlite" else InMemoryAgentRunner()
    with served_by(runner, mode) as server:
        filled = fill(server, mode, 45)
        # As one page, in the server's order: what was used in the same millisecond the store sorts by id.
        names = [thread["id"] for thread in ThreadList(node, server.url, transport, limit=100).view()["threads"]]
        assert len(names) == 45
        assert set(names) == filled
        listed = ThreadList(node, server.url, transport)
        assert listed.info["transport"] == expected_transport
        # By these the hooks decide whether there is a list, and whether it can be changed.
        assert listed.info["endpoints"] == {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False}

        def ids() -> list[str]:
            return [thread["id"] for thread in listed.view()["threads"]]

        assert ids() == names[:20]
        assert listed.view()["more"]
        listed.do("fetchNextPage")
        assert ids() == names[:40]
        shown = listed.do("fetchNextPage")
        assert ids() == names
        assert not shown["more"]
        assert not shown.get("error")
        assert not shown.get("fetchMoreError")

        def others_see() -> dict[str, tuple[Any, Any]]:
            threads = ThreadList(node, server.url, transport, limit=100).view()["threads"]
            return {thread["id"]: (thread["name"], thread["archived"]) for thread in threads}

        untouched = dict.fromkeys(names, (None, False))
        name = names[30]
        listed.do("renameThread", name, "Grüße")
        assert others_see() == untouched | {name: ("Grüße", False)}
        listed.do("archiveThread", name)
        assert others_see() == untouched | {name: ("Grüße", True)}
        assert name in ids()
        active = ThreadList(node, server.url, transport, limit=100, includeArchived=False).view()["threads"]
        assert {thread["id"] for thread in active} == {*names} - {name}
        listed.do("unarchiveThread", name)
        assert others_see() == untouched | {name: ("Grüße", False)}
        listed.do("deleteThread", name)
        assert name not in ids()
        del untouched[name]
        assert others_see() == untouched
        # What was deleted is empty for a client, and its id free for another chat.
        client = Client(node, f"core-{transport}", server.url, name)
        assert client.connect()["types"] == []
        assert fine(client.run("anew"))
        assert without_ids(*client.messages) == ["anew", "Hello"]
        listed.do("refetchThreads")
        assert ids()[0] == name


@pytest.mark.parametrize("transport", ["rest", "single"])
def test_a_running_thread_is_not_deleted_and_the_list_shows_it_again(node, transport):
    gate = Gate()
    with served_by(InMemoryAgentRunner()) as server:
        server.stage.play("busy", gate)
        client = Client(node, f"proxied-{transport}", server.url, "busy")
        run = client.running("hi")
        gate.wait()
        listed = ThreadList(node, server.url, transport)
        with pytest.raises(Refused, match="Request failed: 409"):
            listed.do("deleteThread", "busy")
        assert [thread["id"] for thread in listed.view()["threads"]] == ["busy"]
        gate.open()
        assert fine(run.join())
        assert listed.do("deleteThread", "busy")["threads"] == []
