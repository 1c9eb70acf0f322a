"""Tools: what a model is told of them, how they are run, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentrunner import InMemoryAgentRunner
from agentrunner.errors import ToolNameClash
from agentrunner.runtime import (
    AgentRuntime,
    Completed,
    Deny,
    Failed,
    Tool,
    ToolContext,
    ToolErrorRecovery,
    ToolResult,
    tool,
)
from agentrunner.runtime.tools import InvalidArguments
from support.inputs import make_input
from support.scripted_model import (
    ScriptedModel,
    call_tools,
    collect_run,
    load_session,
    raise_when_called,
    reply,
    summarize,
)


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 0


@tool
def paint(
    colour: Colour,
    at: list[Point],
    width: Annotated[float, Field(gt=0, description="in metres")] = 1.5,
    *,
    schema: Literal["a", "b"] | None = None,
    _hidden: bool = False,
) -> str:
    """Paint a line.

    Through all the points.
    """
    return f"{colour} {at} {width} {schema} {_hidden}"


def test_what_a_model_is_told() -> None:
    assert paint.spec.name == "paint"
    assert paint.spec.description == "Paint a line.\n\nThrough all the points."
    schema = paint.spec.parameters
    assert list(schema["properties"]) == ["colour", "at", "width", "schema", "_hidden"]
    assert schema["required"] == ["colour", "at"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["width"] == {
        "default": 1.5, "description": "in metres", "exclusiveMinimum": 0, "type": "number",
    }  # fmt: skip
    assert schema["$defs"]["Point"]["properties"]["x"] == {"type": "integer"}
    assert "title" not in str(schema["properties"])


def test_arguments_are_validated() -> None:
    given = paint.validate('{"colour": "red", "at": [{"x": 1}], "schema": "b", "_hidden": true}')
    assert paint.function(**given) == "Colour.RED [Point(x=1, y=0)] 1.5 b True"
    for text, why in [
        ('{"colour": "red"}', "at: Field required"),
        ('{"colour": "blue", "at": []}', "colour: Input should be 'red'"),
        ('{"colour": "red", "at": [{"x": "one"}]}', "at.0.x: Input should be a valid integer"),
        ('{"colour": "red", "at": [], "width": 0}', "width: Input should be greater than 0"),
        ('{"colour": "red", "at": [], "size": 0}', "size: Extra inputs are not permitted"),
        ('{"colour": "red", "at": [', "arguments: Invalid JSON"),
        ("[]", "arguments: "),
        ('{"colour": "red", "at": [], "width": Infinity}', "Invalid JSON"),
    ]:
        with pytest.raises(InvalidArguments, match=why):
            paint.validate(text)


def test_what_cannot_be_a_tool() -> None:
    def star(*args: int) -> None: ...
    def double(**kwargs: int) -> None: ...
    def positional(a: int, /) -> None: ...
    def nowhere(a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821
    def opaque(a: asyncio.Lock) -> None: ...
    def callback(a: Callable[[], None]) -> None: ...

    for function in (star, double, positional, nowhere, opaque, callback):
        with pytest.raises(TypeError, match=f"tool '{function.__name__}'"):
            Tool(function)
    with pytest.raises(ToolNameClash, match="paint"):
        AgentRuntime(ScriptedModel(), tools=[paint, Tool(paint.function)])


class Calculator:
    def add(self, a: int, b: int) -> int:
        return a + b

    async def __call__(self, a: int) -> int:
        return a


async def result_of(one: Any, **arguments: Any) -> str:
    """Let a model call the tool, and give what it is told."""
    runtime = AgentRuntime(ScriptedModel(call_tools(("c", "it", arguments)), reply("done")), tools=[one])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Completed("done")
    return str(result.session.messages[2]["content"])


async def test_all_kinds_of_functions() -> None:
    assert await result_of(Tool(Calculator().add, name="it"), a=1, b=2) == "3"
    assert await result_of(Tool(Calculator(), name="it"), a=7) == "7"
    assert await result_of(Tool(functools.partial(Calculator().add, b=1), name="it"), a=7) == "8"
    assert Tool(functools.partial(paint.function, colour=Colour.RED)).spec.description.startswith("Paint a line.")

    def it(context: ToolContext, a: str = "x") -> list[Any]:
        return [a, context.session_id, context.tool_call_id, context.attempt, len(context.idempotency_key)]

    assert await result_of(it) == '["x","s","c",1,32]'
    assert "context" not in Tool(it).spec.parameters["properties"]

    async def soft() -> ToolResult:
        return ToolResult("some of it", "the rest is missing")

    assert await result_of(Tool(soft, name="it")) == "some of it"
    assert await result_of(Tool(lambda: Point(x=1), name="it")) == '{"x":1,"y":0}'
    assert await result_of(Tool(lambda: None, name="it")) == "null"


async def test_what_does_not_fit_is_told_to_the_model() -> None:
    llm = ScriptedModel(
        call_tools(
            ("c1", "paint", {"colour": "blue", "at": []}), ("c2", "print", {}), ("c3", "paint", '{"colour": "r')
        ),
        reply("sorry"),
    )
    runtime = AgentRuntime(llm, tools=[paint], error_recovery=ToolErrorRecovery("stop"))
    await runtime.create_session("s")
    assert (await runtime.run_turn("s", "go")).outcome == Completed("sorry")
    wrong = {m["toolCallId"]: m for m in llm.requests[1].messages if m["role"] == "tool"}
    assert wrong["c1"]["content"] == "The arguments of 'paint' do not fit: colour: Input should be 'red'"
    assert wrong["c2"]["content"] == wrong["c2"]["error"] == "There is no tool 'print'."
    assert "Invalid JSON" in wrong["c3"]["content"]


async def test_only_what_is_declared_safe_runs_side_by_side() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []
    both = asyncio.Event()

    async def work(name: str, wait: bool) -> str:
        running.add(name)
        seen.append(set(running))
        if wait:
            # Ends only if the other one runs as well.
            if len(running) == 2:
                both.set()
            await both.wait()
        else:
            await asyncio.sleep(0)
        running.discard(name)
        return name

    @tool(concurrent=True)
    async def read(name: str) -> str:
        return await work(name, True)

    @tool
    async def change(name: str) -> str:
        return await work(name, False)

    llm = ScriptedModel(
        call_tools(*[(n, t, {"name": n}) for n, t in [("a", "change"), ("b", "change"), ("c", "read"), ("d", "read"),
                                                ("e", "change")]]),
        reply("done"),
    )  # fmt: skip
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, AgentRuntime(llm, tools=[read, change]), make_input("t1", "r1", ["go"]))
    assert seen == [{"a"}, {"b"}, {"c"}, {"c", "d"}, {"e"}]
    assert [event["content"] for event in events if event["type"] == "TOOL_CALL_RESULT"] == list("abcde")


async def test_a_tool_that_fails_is_told_and_asked_to_be_simplified() -> None:
    llm = ScriptedModel(
        call_tools(("c1", "boom", {})), call_tools(("c2", "fine", {})), call_tools(("c3", "boom", {})), reply("done")
    )
    fine = Tool(lambda: "ok", name="fine")
    boom = Tool(lambda: raise_when_called(ValueError("too hot"))(), name="boom")
    runtime = AgentRuntime(llm, tools=[boom, fine], error_recovery=ToolErrorRecovery(max_retries=1))
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        failed = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
        assert failed[0]["content"] == f"Error: too hot\n{ToolErrorRecovery().advice}"
        assert failed[0]["metadata"] == {"error": "too hot"}
        assert summarize(events)[-1] == "RUN_FINISHED"
        session = await load_session(await runner.opened())
        assert llm.requests[1].messages[2]["error"] == "too hot"
        assert session.messages == await runner.threads.messages("t1")


async def test_a_tool_that_goes_on_failing_ends_the_turn() -> None:
    llm = ScriptedModel(*[call_tools((f"c{n}", "boom", {})) for n in range(9)])
    runtime = AgentRuntime(llm, tools=[Tool(lambda: raise_when_called(KeyError())(), name="boom")])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Failed("Tool 'boom' failed: KeyError (tools failed in 4 model responses in a row)")
    assert len(llm.requests) == 4


async def test_a_tool_that_fails_may_stop_the_turn() -> None:
    ran = []
    after = Tool(lambda: ran.append(1), name="after")
    llm = ScriptedModel(call_tools(("c1", "boom", {}), ("c2", "after", {})), reply("never said"), reply("yes"))
    boom = Tool(lambda: raise_when_called(ValueError("too hot"))(), name="boom")
    runtime = AgentRuntime(llm, tools=[boom, after], error_recovery=ToolErrorRecovery("stop"))
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == "Tool 'boom' failed: too hot"
        assert not ran
        session = await load_session(await runner.opened())
        assert session.outcome == Failed("Tool 'boom' failed: too hot")
        # No call stays without a result: the next turn can be asked.
        assert [m["content"] for m in session.messages if m["role"] == "tool"] == [
            "Error: too hot", "Not run: Tool 'boom' failed: too hot",
        ]  # fmt: skip


async def test_a_tool_that_takes_too_long() -> None:
    @tool(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    runtime = AgentRuntime(ScriptedModel(call_tools(("c", "slow", {})), reply("done")), tools=[slow])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.session.messages[2]["metadata"]["error"] == "it took longer than 0.01 seconds"


@pytest.mark.parametrize("concurrent", [False, True])
async def test_cancelling_reaches_the_tools_and_is_not_swallowed(concurrent: bool) -> None:
    started, cancelled = asyncio.Event(), []

    @tool(concurrent=concurrent)
    async def wait(name: str) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    llm = ScriptedModel(call_tools(("a", "wait", {"name": "a"}), ("b", "wait", {"name": "b"})), reply("on we go"))
    runtime = AgentRuntime(llm, tools=[wait])
    async with InMemoryAgentRunner() as runner:
        stream = await runner.run(runtime, make_input("t1", "r1", ["go"]))
        await started.wait()
        assert await runner.stop("t1")
        assert [event.type async for event in stream][-1] == "RUN_FINISHED"
        assert sorted(cancelled) == (["a", "b"] if concurrent else ["a"])
        session = await load_session(await runner.opened())
        assert session.outcome is None
        # The next message ends the turn that was stopped: what ran may have done something, what did not has not.
        events = await collect_run(runner, runtime, make_input("t1", "r2", ["next"]))
        results = [m["content"] for m in llm.requests[1].messages if m["role"] == "tool"]
        assert results[0].startswith("The outcome of this call is unknown")
        assert results[1].startswith("The outcome" if concurrent else "This tool was not run")
        assert summarize(events)[1] == "MESSAGES_SNAPSHOT"
        assert (await load_session(await runner.opened())).messages == await runner.threads.messages("t1")


async def test_a_tool_that_is_cancelled_by_itself_cancels_the_run() -> None:
    @tool
    async def odd() -> None:
        raise asyncio.CancelledError

    async with InMemoryAgentRunner() as runner:
        runtime = AgentRuntime(ScriptedModel(call_tools(("c", "odd", {})), reply("never")), tools=[odd])
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == "The agent was cancelled"


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"secret": "deny"}, "This call is not allowed."),
        (lambda call, session: Deny(f"not {call.name} in {session.id}"), "This call is not allowed: not secret in s"),
    ],
)
async def test_a_policy_may_deny(policy: Any, why: str) -> None:
    llm = ScriptedModel(call_tools(("c1", "secret", {}), ("c2", "open", {})), reply("done"))
    tools = [Tool(lambda: "leaked", name="secret"), Tool(lambda: "fine", name="open", policy="deny")]

    def both(call, session):
        if call.name == "open":
            return "allow"
        return policy[call.name] if isinstance(policy, dict) else policy(call, session)

    runtime = AgentRuntime(llm, tools=tools, tool_policy=both)
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Completed("done")
    assert [m["content"] for m in result.session.messages if m["role"] == "tool"] == [why, "fine"]


async def test_a_policy_that_fails_lets_nothing_run() -> None:
    ran = []
    for policy in (raise_when_called(ValueError("no policy")), lambda call, session: "maybe"):
        runtime = AgentRuntime(
            ScriptedModel(call_tools(("c", "it", {}))),
            tools=[Tool(lambda: ran.append(1), name="it")],
            tool_policy=policy,
        )
        await runtime.create_session("s")
        assert isinstance((await runtime.run_turn("s", "go")).outcome, Failed)
    assert not ran


@pytest.mark.parametrize(("error", "text"), [(StopIteration(), "StopIteration"), (SystemExit(2), "SystemExit 2")])
async def test_what_would_end_more_than_the_tool(error: BaseException, text: str) -> None:
    def it() -> None:
        raise error

    async def also() -> None:
        raise error

    assert (await result_of(it)).startswith(f"Error: {text}")
    text = "coroutine raised StopIteration" if isinstance(error, StopIteration) else text
    assert (await result_of(Tool(also, name="it"))).startswith(f"Error: {text}")


async def test_what_a_tool_gives_must_be_something_a_model_can_read() -> None:
    assert (await result_of(Tool(lambda: object(), name="it"))).startswith("Error: Unable to serialize")
