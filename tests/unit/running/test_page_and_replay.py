"""Whatever a user does to the messages of a page, a later reader sees what the page shows."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrunner import AgentRunner, MemoryStore
from agentrunner.events import fold
from support.events import run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

Messages = list[dict[str, Any]]

ANSWERS = ("text", "call", "nothing", "failure")
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.just(0)),
    st.tuples(st.sampled_from(["regenerate", "edit", "edit in place", "remove"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["cut short", "old tab", "reload", "answer the call"]), st.just(0)),
)
HISTORIES = st.lists(st.tuples(ACTIONS, st.sampled_from(ANSWERS)), min_size=2, max_size=8)


class Page:
    """A page, as a stock client keeps it: all messages, which it sends with each run."""

    def __init__(self, runner: AgentRunner) -> None:
        self._runner = runner
        self._names = itertools.count(1)
        self.messages: Messages = []
        self._old_tab: Messages = []

    async def act(self, action: tuple[str, int], answer: str) -> None:
        """Change the page's messages as a user does, and run the agent."""
        name, number = action
        self._old_tab, tab = list(self.messages), self._old_tab
        users = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        if name == "reload":
            self.messages = await self.replay()
        elif name == "old tab":
            self.messages = tab
        if name in ("regenerate", "edit", "edit in place") and users:
            place = users[number % len(users)]
            question = self.messages[place]
            self.messages = self.messages[:place]
            if name == "edit in place":
                self.messages.append(question | {"content": f"other {next(self._names)}"})
            elif name == "regenerate":
                self.messages.append(question)
        elif name == "remove" and self.messages:
            # A page that leaves out only a result cannot be told from one that shows none.
            places = [place for place, message in enumerate(self.messages) if message["role"] != "tool"]
            self._remove(places[number % len(places)])
        elif name == "cut short" and self.messages and self.messages[-1]["role"] == "assistant":
            last = self.messages[-1]
            self.messages[-1] = last | {"content": (last.get("content") or "")[:2]}
        elif name == "answer the call":
            self._answer_calls()
        if name not in ("regenerate", "edit in place", "answer the call") or not users:
            self.messages.append({"id": f"u{next(self._names)}", "role": "user", "content": "question"})
        await self._run(answer)

    def _remove(self, place: int) -> None:
        removed = self.messages.pop(place)
        calls = {call["id"] for call in removed.get("toolCalls") or ()}
        # A page that shows no call shows no result of it either.
        self.messages = [message for message in self.messages if message.get("toolCallId") not in calls]

    def _answer_calls(self) -> None:
        answered = {message.get("toolCallId") for message in self.messages}
        for message in list(self.messages):
            for call in message.get("toolCalls") or ():
                if call["id"] not in answered:
                    result = {"id": f"t-{call['id']}", "role": "tool", "toolCallId": call["id"], "content": "found"}
                    self.messages.insert(self.messages.index(message) + 1, result)

    async def _run(self, answer: str) -> None:
        name = f"r{next(self._names)}"

        async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
            yield run_started(input.thread_id, input.run_id)
            if answer == "text":
                for event in text_message(f"a-{name}", "It ", "is so"):
                    yield event
            elif answer == "call":
                for event in [*tool_call(f"c-{name}", "look", "{}"), *text_message(f"a-{name}", "Meanwhile")]:
                    yield event
            elif answer == "failure":
                yield {"type": "RUN_ERROR", "message": "no model"}
                return
            yield run_finished(input.thread_id, input.run_id)

        sent = make_input("t", name, self.messages)
        thread = await self.replay()
        thread_ids = [message["id"] for message in thread]
        known_ids = [message["id"] for message in self.messages if message["id"] in thread_ids]
        live = await collect(await self._runner.run(agent, sent))
        # A client does not take back its own messages from the start of its run.
        shown = [{"type": "RUN_STARTED", "threadId": "t", "runId": name, "input": sent}, *live[1:]]
        self.messages = fold(shown).messages
        calls = {call["id"] for message in sent["messages"] for call in message.get("toolCalls") or ()}
        lacks_result = any(message.get("toolCallId") in calls and message["id"] not in known_ids for message in thread)
        if (thread_ids and known_ids[:1] != thread_ids[:1]) or lacks_result:
            # It cannot be told from a page that sends only its newest messages, or one that sends no results.
            self.messages = await self.replay()

    async def replay(self) -> Messages:
        """Return what a later reader sees."""
        return fold(await collect(await self._runner.connect("t"))).messages


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_later_reader_sees_the_page(history: list[tuple[tuple[str, int], str]]) -> None:
    async def live() -> None:
        async with AgentRunner(MemoryStore()) as runner:
            page = Page(runner)
            for action, answer in history:
                await page.act(action, answer)
                assert await page.replay() == page.messages
                assert await runner.threads.messages("t") == page.messages

    asyncio.run(live())
