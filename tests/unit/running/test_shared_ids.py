"""Subagents that use one id at the same time: each message and each call is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.agents import agent_with
from support.compared_runs import calls_of, run_all
from support.events import text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentrunner import AgentRunner

STARTS = [{"type": "SUBAGENT_STARTED", "subagentRunId": name, "name": name} for name in ("s1", "s2")]
ENDS = [{"type": "SUBAGENT_FINISHED", "subagentRunId": name} for name in ("s1", "s2")]


def of(owner: str | None, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events of a subagent, or of the parent agent."""
    return [*events] if owner is None else [{**event, "subagentRunId": owner} for event in events]


def mix(*streams: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events of streams in turn, between the starts and ends of the subagents."""
    rows = max(len(stream) for stream in streams)
    events = [stream[row] for row in range(rows) for stream in streams if row < len(stream)]
    return [*STARTS, *events, *ENDS]


def contents(messages: Sequence[dict[str, Any]], role: str) -> list[tuple[str | None, Any]]:
    return [(each.get("subagentRunId"), each["content"]) for each in messages if each["role"] == role]


def thought(deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": "m"},
        {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
        *({"type": "REASONING_MESSAGE_CONTENT", "messageId": "m", "delta": delta} for delta in deltas),
        {"type": "REASONING_MESSAGE_END", "messageId": "m"},
        {"type": "REASONING_END", "messageId": "m"},
    ]


def chunks(kind: str, deltas: str, **fields: str) -> list[dict[str, Any]]:
    return [{"type": f"{kind}_CHUNK", "delta": delta, **fields} for delta in deltas]


OWNERS = pytest.mark.parametrize("owners", [("s1", "s2"), (None, "s2"), ("s1", None)], ids=["s1 s2", "- s2", "s1 -"])


@pytest.mark.fault("B5")
@OWNERS
async def test_texts_of_one_id_are_two_messages(
    memory_factory: Callable[..., AgentRunner], owners: tuple[str | None, str | None]
) -> None:
    first, second = owners
    streams = [of(first, text_message("m", "a", "b")), of(second, text_message("m", "c", "d"))]
    _, messages = await run_all(memory_factory(), mix(*streams))
    assert contents(messages, "assistant") == [(first, "ab"), (second, "cd")]


@pytest.mark.fault("B5")
@OWNERS
async def test_reasoning_and_text_of_one_id_are_four_messages(
    memory_factory: Callable[..., AgentRunner], owners: tuple[str | None, str | None]
) -> None:
    first, second = owners
    streams = [
        of(first, [*thought("ab"), *text_message("m", "x")]),
        of(second, [*thought("cd"), *text_message("m", "y")]),
    ]
    _, messages = await run_all(memory_factory(), mix(*streams))
    assert contents(messages, "reasoning") == [(first, "ab"), (second, "cd")]
    assert contents(messages, "assistant") == [(first, "x"), (second, "y")]


@pytest.mark.fault("B5")
async def test_a_message_of_a_subagent_that_has_ended_is_not_continued_by_another(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    events = [*of("s1", text_message("m", "a")), *of("s2", text_message("m", "b")), *of("s1", text_message("m", "c"))]
    _, messages = await run_all(memory_factory(), [*STARTS, *events, *ENDS])
    assert contents(messages, "assistant") == [("s1", "ac"), ("s2", "b")]


@pytest.mark.fault("B5")
@pytest.mark.parametrize("repeats_id", [True, False])
async def test_chunks_of_one_id_are_two_messages(memory_factory: Callable[..., AgentRunner], repeats_id: bool) -> None:
    streams = [
        of(owner, chunks("TEXT_MESSAGE", deltas, messageId="m")) for owner, deltas in (("s1", "ab"), ("s2", "cd"))
    ]
    if not repeats_id:
        for stream in streams:
            del stream[1]["messageId"]
    _, messages = await run_all(memory_factory(), mix(*streams))
    assert contents(messages, "assistant") == [("s1", "ab"), ("s2", "cd")]


@pytest.mark.fault("B5")
async def test_activities_of_one_id_are_two_while_both_subagents_work(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    def plan(step: int) -> list[dict[str, Any]]:
        shared = {"messageId": "plan", "activityType": "plan"}
        patch = [{"op": "replace", "path": "/step", "value": step + 1}]
        return [
            {"type": "ACTIVITY_SNAPSHOT", **shared, "content": {"step": step}},
            {"type": "ACTIVITY_DELTA", **shared, "patch": patch},
        ]

    _, messages = await run_all(memory_factory(), mix(of("s1", plan(1)), of("s2", plan(5))))
    assert contents(messages, "activity") == [("s1", {"step": 2}), ("s2", {"step": 6})]


@pytest.mark.fault("B6")
@pytest.mark.parametrize("tags_results", [True, False])
@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunks", "events"])
async def test_calls_of_one_id_are_two_calls_each_with_its_result(
    memory_factory: Callable[..., AgentRunner], is_chunked: bool, tags_results: bool
) -> None:
    def call(owner: str, tool: str) -> list[dict[str, Any]]:
        events = tool_call("c", tool, '{"a":', "1}", result=f"of {tool}")
        if is_chunked:
            events[:-1] = chunks("TOOL_CALL", "12", toolCallId="c")
            events[0]["toolCallName"] = tool
        return of(owner, events[:-1]) + of(owner if tags_results else None, events[-1:])

    first, second = call("s1", "f"), call("s2", "g")
    # If the results name their subagents, their order does not matter.
    results = [second.pop(), first.pop()] if tags_results else [first.pop(), second.pop()]
    events = mix(first, second)
    events[-2:-2] = results
    _, messages = await run_all(memory_factory(), events)
    arguments = "12" if is_chunked else '{"a":1}'
    assert calls_of(messages) == [("f", arguments, "of f"), ("g", arguments, "of g")]
    owners = [message.get("subagentRunId") for message in messages if message.get("toolCalls")]
    assert owners == ["s1", "s2"]


@pytest.mark.fault("B6")
async def test_calls_follow_the_messages_of_their_subagents(memory_factory: Callable[..., AgentRunner]) -> None:
    def answer(text: str) -> list[dict[str, Any]]:
        call = tool_call("c", "f", "{}", result="r")
        call[0]["parentMessageId"] = "m"
        return [*text_message("m", text), *call]

    _, messages = await run_all(memory_factory(), mix(of("s1", answer("a")), of("s2", answer("b"))))
    assistants = [message for message in messages if message["role"] == "assistant"]
    assert [(each["subagentRunId"], each["content"], len(each["toolCalls"])) for each in assistants] == [
        ("s1", "a", 1), ("s2", "b", 1),
    ]  # fmt: skip


@pytest.mark.fault("B6")
async def test_interrupts_name_the_calls_of_their_subagents(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    interrupts = [
        {"id": name, "reason": "tool_call", "toolCallId": "c", "subagentRunId": name} for name in ("s2", "s1")
    ]

    async def asking(input: Any) -> Any:
        calls = [of(owner, tool_call("c", owner, "{}")) for owner in ("s1", "s2")]
        for event in mix(*calls):
            yield event
        outcome = {"type": "interrupt", "interrupts": interrupts}
        yield {"type": "RUN_FINISHED", "threadId": "t1", "runId": input.run_id, "outcome": outcome}

    live = await collect(await runner.run(asking, make_input(run="r1")))
    tools = {event["toolCallId"]: event["toolCallName"] for event in live if event["type"] == "TOOL_CALL_START"}
    named = [tools[interrupt["toolCallId"]] for interrupt in live[-1]["outcome"]["interrupts"]]
    assert named == ["s2", "s1"]

    # The agent repeats both calls, and none of them is shown again.
    resume = [{"interruptId": name, "status": "resolved"} for name in ("s2", "s1")]
    results = [of(owner, tool_call("c", owner, "{}", result=f"of {owner}")) for owner in ("s1", "s2")]
    await collect(await runner.run(agent_with(*mix(*results)), make_input(run="r2", resume=resume)))
    messages = await runner.threads.messages("t1")
    assert calls_of(messages) == [("s1", "{}", "of s1"), ("s2", "{}", "of s2")]


@pytest.mark.fault("B5")
async def test_an_agents_own_history_keeps_both_messages(memory_factory: Callable[..., AgentRunner]) -> None:
    streams = [of("s1", text_message("m", "a")), of("s2", text_message("m", "b"))]
    history = [{"id": "u0", "role": "user", "content": "u0"}]
    history += [{"id": "m", "role": "assistant", "content": text} for text in "ab"]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": history}
    _, messages = await run_all(memory_factory(), [*mix(*streams), snapshot], [snapshot])
    assert [message["content"] for message in messages if message["role"] == "assistant"] == ["a", "b"]
