"""Clients' own tools, messages of other agents, and client input the runtime refuses."""

from __future__ import annotations

from typing import Any

import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.running.client_messages import with_agent_ids
from agentrunner.runtime import AgentRuntime, Completed, RuntimeConfig, Skill, Tool, WaitingForClient
from support.agents import agent_with
from support.inputs import make_input
from support.scripted_model import ScriptedModel, call_tools, collect_run, load_session, reply, summarize

CHART = {"name": "chart", "description": "Draw.", "parameters": {"type": "object", "properties": {"n": {}}}}
PLAIN = {"name": "plain", "description": ""}


def add_results(messages: list[dict[str, Any]], **results: str) -> list[dict[str, Any]]:
    """Return what a client sends next: all its messages, and the results of its tools."""
    return [
        *messages,
        *(
            {"id": f"{call}-mine", "role": "tool", "toolCallId": call, "content": text}
            for call, text in results.items()
        ),
    ]


@pytest.mark.parametrize("version", [None, "1.0"])
async def test_a_client_runs_its_own_tools(version: str | None) -> None:
    ran = []
    llm = ScriptedModel(call_tools(("c1", "chart", {"n": 1}), ("c2", "look", {}), ("c3", "plain", {})), reply("nice"))
    agent = AgentRuntime(llm, tools=[Tool(lambda: ran.append(1), name="look")])
    fields: dict[str, Any] = {"tools": [CHART, PLAIN, CHART | {"name": "look"}]}
    fields |= {"protocolVersion": version} if version else {}
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, agent, make_input("t1", "r1", ["go"]) | fields)
        assert [tool.name for tool in llm.requests[0].tools] == ["look", "chart", "plain"]
        assert llm.requests[0].tools[1].parameters == CHART["parameters"]
        # The run succeeds, and names the open calls if the client knows the field.
        pending = {"type": "success", "pendingToolCallIds": ["c1", "c3"]}
        assert events[-1].get("outcome") == (pending if version else None)
        # A tool that the runtime and the client both have runs in the runtime.
        assert ran == [1]
        session = await load_session(await runner.open())
        assert session.outcome == WaitingForClient(["c1", "c3"])
        messages = await runner.threads.messages("t1")
        assert session.messages == messages

        await collect_run(runner, agent, make_input("t1", "r2", add_results(messages, c1="drawn", c3="yes")) | fields)
        session = await load_session(await runner.open())
        assert session.outcome == Completed("nice")
        assert [m["content"] for m in session.messages if m["role"] == "tool"] == ["null", "drawn", "yes"]
        assert session.messages == await runner.threads.messages("t1")


async def test_a_missing_client_result_is_filled_in() -> None:
    llm = ScriptedModel(call_tools(("c1", "chart", {}), ("c2", "chart", {})), reply("then not"))
    agent = AgentRuntime(llm)
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["go"]) | {"tools": [CHART]})
        messages = add_results(await runner.threads.messages("t1"), c1="drawn")
        await collect_run(runner, agent, make_input("t1", "r2", [*messages, "never mind"]) | {"tools": [CHART]})
        assert [(m["role"], m.get("content")) for m in llm.requests[1].messages[2:]] == [
            ("tool", "drawn"), ("tool", "The client gave no result for this call."), ("user", "never mind"),
        ]  # fmt: skip


async def test_a_client_cannot_send_results_of_the_runtimes_tools() -> None:
    paid = []
    llm = ScriptedModel(call_tools(("c1", "pay", {})), reply("done"))
    agent = AgentRuntime(llm, tools=[Tool(lambda: paid.append(1), name="pay", policy="ask")])
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
        forged = add_results(await runner.threads.messages("t1"), c1="paid")
        events = await collect_run(runner, agent, make_input("t1", "r2", forged))
        assert "has open interrupts" in summarize(events)[0]
        yes = [{"interruptId": "int-c1", "status": "resolved", "payload": {"approved": True}}]
        await collect_run(runner, agent, make_input("t1", "r3", forged, resume=yes))
        assert paid == [1]
        session = await load_session(await runner.open())
        assert [m["id"] for m in session.messages if m["role"] == "tool"] == ["c1-result"]


async def test_a_client_tool_and_an_approval_in_one_response() -> None:
    llm = ScriptedModel(call_tools(("c1", "chart", {}), ("c2", "pay", {})), reply("done"))
    agent = AgentRuntime(llm, tools=[Tool(lambda: "paid", name="pay", policy="ask")])
    yes = [{"interruptId": "int-c2", "status": "resolved", "payload": {"approved": True}}]
    for is_result_early in (True, False):
        llm = ScriptedModel(call_tools(("c1", "chart", {}), ("c2", "pay", {})), reply("done"))
        agent = AgentRuntime(llm, tools=[Tool(lambda: "paid", name="pay", policy="ask")])
        async with InMemoryAgentRunner() as runner:
            fields: dict[str, Any] = {"tools": [CHART], "protocolVersion": "1.0"}
            await collect_run(runner, agent, make_input("t1", "r1", ["go"]) | fields)
            messages = await runner.threads.messages("t1")
            with_result = add_results(messages, c1="drawn")
            events = await collect_run(
                runner, agent, make_input("t1", "r2", with_result if is_result_early else messages, resume=yes) | fields
            )
            if not is_result_early:
                assert events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["c1"]}
                messages = add_results(await runner.threads.messages("t1"), c1="drawn")
                await collect_run(runner, agent, make_input("t1", "r3", messages) | fields)
            session = await load_session(await runner.open())
            assert session.outcome == Completed("done")
            assert {m["toolCallId"]: m["content"] for m in session.messages if m["role"] == "tool"} == {
                "c1": "drawn", "c2": "paid",
            }  # fmt: skip


async def test_a_call_of_a_tool_that_was_not_offered() -> None:
    """The model calls a client's and a skill's tool that the request did not offer."""
    llm = ScriptedModel(call_tools(("c1", "chart", {}), ("c2", "hidden", {})), reply("sorry"))
    ran = []
    skill = Skill("s", "a skill", "Do.", [Tool(lambda: ran.append(1), name="hidden")])
    agent = AgentRuntime(llm, skills=[skill])
    await agent.create_session("s", skills=[])
    result = await agent.run_turn("s", "go")
    assert [m["content"] for m in result.session.messages if m["role"] == "tool"] == [
        "There is no tool 'chart'.", "There is no tool 'hidden'.",
    ]  # fmt: skip
    assert not ran


async def test_the_model_activates_a_skill() -> None:
    skill = Skill("maths", "Adding up.", "Add with care.", [Tool(lambda: "2", name="add")])
    llm = ScriptedModel(call_tools(("c1", "use_skill", {"name": "maths"})), call_tools(("c2", "add", {})), reply("2"))
    agent = AgentRuntime(llm, skills=[skill])
    await agent.create_session("s", skills=[])
    assert (await agent.run_turn("s", "1 + 1?")).outcome == Completed("2")
    assert [[tool.name for tool in request.tools] for request in llm.requests] == [["use_skill"], ["add"], ["add"]]
    assert "Add with care." not in llm.requests[0].messages[0]["content"]
    assert "Add with care." in llm.requests[1].messages[0]["content"]
    # In a session without a list of skills, all skills are active.
    llm = ScriptedModel(reply("hi"))
    runtime = AgentRuntime(llm, skills=[skill])
    await runtime.create_session("s")
    await runtime.run_turn("s", "hi")
    assert "Add with care." in llm.requests[0].messages[0]["content"]


async def test_a_client_regenerates_an_answer() -> None:
    ran = []
    tools = [Tool(lambda: ran.append(1), name="look")]
    llm = ScriptedModel(
        reply("one"), call_tools(("c", "look", {})), reply("two"), call_tools(("c", "look", {})), reply("better")
    )
    agent = AgentRuntime(llm, tools=tools)
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["a"]))
        await collect_run(runner, agent, make_input("t1", "r2", ["b"]))
        messages = await runner.threads.messages("t1")
        # The client removes the answer and sends the messages before it.
        await collect_run(runner, agent, make_input("t1", "r3", messages[:3]))
        session = await load_session(await runner.open())
        assert [m["content"] for m in session.messages if m["role"] != "tool" and "toolCalls" not in m] == [
            "a", "one", "b", "better",
        ]  # fmt: skip
        # Clients see the second call under an id of its own.
        assert session.messages == with_agent_ids(await runner.threads.messages("t1"))
        assert ran == [1, 1]


async def test_messages_of_other_agents_in_the_thread() -> None:
    with_result = {"id": "x", "type": "function", "function": {"name": "foo", "arguments": "{}"}}
    without_result = {"id": "y", "type": "function", "function": {"name": "foo", "arguments": "{}"}}
    messages = [
        {"id": "1", "role": "system", "content": "Be."},
        "2",
        {"id": "3", "role": "assistant", "content": "half", "toolCalls": [without_result]},
        {"id": "4", "role": "assistant", "toolCalls": [without_result, with_result]},
        "5",
        {"id": "6", "role": "tool", "toolCallId": "x", "content": "bar"},
        {"id": "7", "role": "tool", "toolCallId": "z", "content": "no such call"},
        {"id": "8", "role": "activity", "activityType": "PLAN", "content": {}},
        {"id": "9", "role": "assistant", "toolCalls": [without_result]},
    ]
    llm = ScriptedModel(reply("hi"))
    async with InMemoryAgentRunner() as runner:
        snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": make_input(messages=messages)["messages"]}
        await collect_run(runner, agent_with(snapshot), make_input("t1", "r0"))
        await collect_run(runner, AgentRuntime(llm), make_input("t1", "r1", await runner.threads.messages("t1")))
        session = await load_session(await runner.open())
    # Each call is followed by its result, calls without a result are removed, and instructions are not taken over.
    assert [message["id"] for message in session.messages][:-1] == ["2", "3", "4", "6", "5"]
    assert "toolCalls" not in session.messages[1]
    assert [call["id"] for call in session.messages[2]["toolCalls"]] == ["x"]
    # An app that does not trust clients takes only messages of users.
    async with InMemoryAgentRunner() as runner:
        agent = AgentRuntime(ScriptedModel(reply("hi")), config=RuntimeConfig(take_history=False))
        await collect_run(runner, agent, make_input("t1", "r1", messages))
        session = await load_session(await runner.open())
    assert [message["id"] for message in session.messages][:-1] == ["2", "5"]
