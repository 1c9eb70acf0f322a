"""Clients change their messages, and an `AgentRuntime` and its model follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2
import pytest

from agentrunner import SqliteAgentRunner
from agentrunner.harness import Harness
from agentrunner.runtime import AgentRuntime, Finish, TextDelta, Tool, ToolCallStart
from support.copilotkit import BARE, Client, fine
from support.copilotkit_server import served_by, user
from support.nodejs import needs_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agentrunner.runtime import LlmEvent, LlmRequest
    from support.copilotkit_server import Served

pytestmark = needs_node
each_kind = pytest.mark.parametrize("kind", BARE)

Messages = list[dict[str, Any]]


class Caller:
    """A model that calls the tool a user names, and answers anything else."""

    def __init__(self) -> None:
        self.requests: list[LlmRequest] = []

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        number, last = len(self.requests), request.messages[-1]
        if last["role"] == "user" and last["content"].split()[0] in ("look", "pay"):
            yield TextDelta("Let me.")
            yield ToolCallStart(f"call-{number}", last["content"].split()[0])
            yield Finish("tool_calls")
        else:
            yield TextDelta(f"Answer {number}")
            yield Finish("stop")


class Desk:
    """A server with a runtime, once alone and once in a harness."""

    def __init__(self, served: Served, model: Caller) -> None:
        self.served, self.model = served, model

    def messages(self, thread: str) -> Messages:
        """Return the thread's messages as the server has them."""
        url = f"{self.served.url}/threads/{quote(thread, safe='')}/messages"
        messages: Messages = httpx2.get(url).raise_for_status().json()["messages"]
        return messages


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    model = Caller()
    tools = [Tool(lambda: "seen", name="look"), Tool(lambda: "paid", name="pay", policy="ask")]
    runner = SqliteAgentRunner(tmp_path_factory.mktemp("desk") / "threads.db")
    harness = Harness(runner, {"harnessed": AgentRuntime(model, tools=tools, agent_id="harnessed")})
    alone = AgentRuntime(model, tools=tools, agent_id="alone")
    with served_by(runner, alone=alone, harnessed=harness.agents["harnessed"]) as served:
        yield Desk(served, model)


def as_shown(messages: Messages) -> list[tuple[Any, ...]]:
    """Return what a page shows of messages."""
    return [
        (each["id"], each["role"], each.get("content") or "", len(each.get("toolCalls") or ())) for each in messages
    ]


def check_all_agree(desk: Desk, node: Any, client: Client, thread: str, agent: str) -> None:
    for kind in BARE:
        fresh = Client(node, kind, desk.served.url, thread, agent)
        assert fine(fresh.connect())
        assert as_shown(fresh.messages) == as_shown(client.messages), kind
    assert as_shown(desk.messages(thread)) == as_shown(client.messages)
    assert as_shown(desk.model.requests[-1].messages) == as_shown(client.messages[:-1])


def regenerate(messages: Messages) -> Messages:
    return messages[:3]


def regenerate_first(messages: Messages) -> Messages:
    return messages[:1]


def answer_again(messages: Messages) -> Messages:
    return messages[:-1]


def edit(messages: Messages) -> Messages:
    return [*messages[:2], user("other")]


def edit_in_place(messages: Messages) -> Messages:
    return [*messages[:2], messages[2] | {"content": "another question"}]


def edit_above(messages: Messages) -> Messages:
    return [messages[0] | {"content": "another question"}, *messages[1:], user("more")]


def remove(messages: Messages) -> Messages:
    return [messages[0], *messages[2:], user("more")]


CHANGES = [regenerate, regenerate_first, answer_again, edit, edit_in_place, edit_above, remove]


@each_kind
@pytest.mark.parametrize("agent", ["alone", "harnessed"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_model_is_given_what_the_page_shows(
    desk: Desk, node: Any, kind: str, thread: str, agent: str, change: Callable[[Messages], Messages]
) -> None:
    client = Client(node, kind, desk.served.url, thread, agent)
    assert fine(client.run("hello"), client.run("look around"))
    kept = change(client.messages)
    client.keep(kept)
    assert fine(client.run())
    assert as_shown(client.messages)[: len(kept)] == as_shown(kept)
    check_all_agree(desk, node, client, thread, agent)
    seen = client.run("last")
    assert fine(seen)
    assert "MESSAGES_SNAPSHOT" not in seen["types"]
    check_all_agree(desk, node, client, thread, agent)


@each_kind
@pytest.mark.parametrize("agent", ["alone", "harnessed"])
def test_going_back_while_an_approval_is_open(desk: Desk, node: Any, kind: str, thread: str, agent: str) -> None:
    client = Client(node, kind, desk.served.url, thread, agent)
    assert fine(client.run("first"), client.run("pay"))
    [interrupt] = client.view()["pendingInterrupts"]
    # Another tab of the user has loaded the page as it is now.
    other = Client(node, kind, desk.served.url, thread, agent)
    assert fine(other.connect())
    # A client starts no run while it has an open interrupt, but a page that is built anew from the messages does.
    back = Client(node, kind, desk.served.url, thread, agent)
    back.keep([*client.messages[:2], user("never mind")])
    assert fine(back.run())
    check_all_agree(desk, node, back, thread, agent)
    fresh = Client(node, kind, desk.served.url, thread, agent)
    assert fine(fresh.connect())
    assert fresh.view()["pendingInterrupts"] == []
    # An approval in the other tab is refused, and the tab has no open interrupt any more.
    answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
    seen = other.run(resume=[answer])
    assert not fine(seen)
    assert other.view()["pendingInterrupts"] == []
    assert "paid" not in [message.get("content") for message in desk.messages(thread)]
