"""Tools: their schemas, how the runtime runs them, and how a failed call affects a turn."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentrunner import AgentError, InMemoryAgentRunner
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


def test_the_model_receives_name_docstring_and_schema() -> None:
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
    arguments = paint.validate('{"colour": "red", "at": [{"x": 1}], "schema": "b", "_hidden": true}')
    assert paint.function(**arguments) == "Colour.RED [Point(x=1, y=0)] 1.5 b True"
    for text, message in [
        ('{"colour": "red"}', "at: Field required"),
        ('{"colour": "blue", "at": []}', "colour: Input should be 'red'"),
        ('{"colour": "red", "at": [{"x": "one"}]}', "at.0.x: Input should be a valid integer"),
        ('{"colour": "red", "at": [], "width": 0}', "width: Input should be greater than 0"),
        ('{"colour": "red", "at": [], "size": 0}', "size: Extra inputs are not permitted"),
        ('{"colour": "red", "at": [', "arguments: Invalid JSON"),
        ("[]", "arguments: "),
        ('{"colour": "red", "at": [], "width": Infinity}', "Invalid JSON"),
    ]:
        with pytest.raises(InvalidArguments, match=message):
            paint.validate(text)


def test_functions_that_cannot_be_tools() -> None:
    def star(*args: int) -> None: ...
    def double(**kwargs: int) -> None: ...
    def positional(a: int, /) -> None: ...
    def nowhere(a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821
    def opaque(a: asyncio.Lock) -> None: ...
    def callback(a: Callable[[], None]) -> None: ...

    for function in (star, double, positional, nowhere, opaque, callback):
        with pytest.raises(TypeError, match=f"tool '{function.__name__}'"):
            Tool(function)
    with pytest.raises(ToolNameClash, match="two tools of the runtime are called 'paint'"):
        AgentRuntime(ScriptedModel(), tools=[paint, Tool(paint.function)])


class Calculator:
    def add(self, a: int, b: int) -> int:
        return a + b

    async def __call__(self, a: int) -> int:
        return a


async def call_tool(tool: Any, **arguments: Any) -> str:
    """Make a model call the tool `it`, and return the result that the model receives."""
    runtime = AgentRuntime(ScriptedModel(call_tools(("c", "it", arguments)), reply("done")), tools=[tool])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Completed("done")
    return str(result.session.messages[2]["content"])


async def test_methods_partials_and_callable_objects_can_be_tools() -> None:
    assert await call_tool(Tool(Calculator().add, name="it"), a=1, b=2) == "3"
    assert await call_tool(Tool(Calculator(), name="it"), a=7) == "7"
    assert await call_tool(Tool(functools.partial(Calculator().add, b=1), name="it"), a=7) == "8"
    assert Tool(functools.partial(paint.function, colour=Colour.RED)).spec.description.startswith("Paint a line.")

    def it(context: ToolContext, a: str = "x") -> list[Any]:
        return [a, context.session_id, context.tool_call_id, context.attempt, len(context.idempotency_key)]

    assert await call_tool(it) == '["x","s","c",1,32]'
    assert "context" not in Tool(it).spec.parameters["properties"]

    async def soft() -> ToolResult:
        return ToolResult("some of it", "the rest is missing")

    assert await call_tool(Tool(soft, name="it")) == "some of it"
    assert await call_tool(Tool(lambda: Point(x=1), name="it")) == '{"x":1,"y":0}'
    assert await call_tool(Tool(lambda: None, name="it")) == "null"


async def test_the_model_is_told_about_invalid_calls() -> None:
    llm = ScriptedModel(
        call_tools(
            ("c1", "paint", {"colour": "blue", "at": []}), ("c2", "print", {}), ("c3", "paint", '{"colour": "r')
        ),
        reply("sorry"),
    )
    runtime = AgentRuntime(llm, tools=[paint], error_recovery=ToolErrorRecovery("stop"))
    await runtime.create_session("s")
    assert (await runtime.run_turn("s", "go")).outcome == Completed("sorry")
    results = {m["toolCallId"]: m for m in llm.requests[1].messages if m["role"] == "tool"}
    assert results["c1"]["content"] == "The arguments of 'paint' do not fit: colour: Input should be 'red'"
    assert results["c2"]["content"] == results["c2"]["error"] == "There is no tool 'print'."
    assert "Invalid JSON" in results["c3"]["content"]


async def test_only_concurrent_tools_run_at_the_same_time() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []
    both = asyncio.Event()

    async def work(name: str, wait: bool) -> str:
        running.add(name)
        seen.append(set(running))
        if wait:
            # This ends only if the other call runs at the same time.
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


async def test_the_model_is_told_about_a_failed_tool_with_advice() -> None:
    llm = ScriptedModel(
        call_tools(("c1", "boom", {})), call_tools(("c2", "fine", {})), call_tools(("c3", "boom", {})), reply("done")
    )
    fine = Tool(lambda: "ok", name="fine")
    boom = Tool(lambda: raise_when_called(ValueError("too hot"))(), name="boom")
    runtime = AgentRuntime(llm, tools=[boom, fine], error_recovery=ToolErrorRecovery(max_retries=1))
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        results = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
        assert results[0]["content"] == f"Error: too hot\n{ToolErrorRecovery().advice}"
        assert results[0]["metadata"] == {"error": "too hot"}
        assert summarize(events)[-1] == "RUN_FINISHED"
        session = await load_session(await runner.open())
        assert llm.requests[1].messages[2]["error"] == "too hot"
        assert session.messages == await runner.threads.messages("t1")


async def test_a_tool_that_keeps_failing_fails_the_turn() -> None:
    llm = ScriptedModel(*[call_tools((f"c{n}", "boom", {})) for n in range(9)])
    runtime = AgentRuntime(llm, tools=[Tool(lambda: raise_when_called(KeyError())(), name="boom")])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Failed("Tool 'boom' failed: KeyError (tools failed in 4 model responses in a row)")
    assert len(llm.requests) == 4


async def test_a_failed_tool_stops_the_turn_if_configured() -> None:
    ran = []
    after = Tool(lambda: ran.append(1), name="after")
    llm = ScriptedModel(call_tools(("c1", "boom", {}), ("c2", "after", {})), reply("not reached"), reply("yes"))
    boom = Tool(lambda: raise_when_called(AgentError("too hot"))(), name="boom")
    runtime = AgentRuntime(llm, tools=[boom, after], error_recovery=ToolErrorRecovery("stop"))
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == "Tool 'boom' failed: too hot"
        assert not ran
        session = await load_session(await runner.open())
        assert session.outcome == Failed("Tool 'boom' failed: too hot")
        # Every call has a result, so the provider accepts the next request.
        assert [m["content"] for m in session.messages if m["role"] == "tool"] == [
            "Error: too hot", "Not run: Tool 'boom' failed: too hot",
        ]  # fmt: skip


async def test_a_call_over_its_timeout_fails() -> None:
    @tool(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    runtime = AgentRuntime(ScriptedModel(call_tools(("c", "slow", {})), reply("done")), tools=[slow])
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.session.messages[2]["metadata"]["error"] == "it took longer than 0.01 seconds"


@pytest.mark.parametrize("concurrent", [False, True])
async def test_stopping_the_run_cancels_its_tools(concurrent: bool) -> None:
    started, cancelled = asyncio.Event(), []

    @tool(concurrent=concurrent)
    async def wait(name: str) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    llm = ScriptedModel(call_tools(("a", "wait", {"name": "a"}), ("b", "wait", {"name": "b"})), reply("next answer"))
    runtime = AgentRuntime(llm, tools=[wait])
    async with InMemoryAgentRunner() as runner:
        stream = await runner.run(runtime, make_input("t1", "r1", ["go"]))
        await started.wait()
        assert await runner.stop("t1")
        assert [event.type async for event in stream][-1] == "RUN_FINISHED"
        assert sorted(cancelled) == (["a", "b"] if concurrent else ["a"])
        session = await load_session(await runner.open())
        assert session.outcome is None
        # The next message ends the stopped turn: started calls have an unknown outcome, the others did not run.
        events = await collect_run(runner, runtime, make_input("t1", "r2", ["next"]))
        results = [m["content"] for m in llm.requests[1].messages if m["role"] == "tool"]
        assert results[0].startswith("The outcome of this call is unknown")
        assert results[1].startswith("The outcome" if concurrent else "This tool was not run")
        assert summarize(events)[1] == "MESSAGES_SNAPSHOT"
        assert (await load_session(await runner.open())).messages == await runner.threads.messages("t1")


async def test_a_tool_that_raises_cancelled_error_cancels_the_run() -> None:
    @tool
    async def odd() -> None:
        raise asyncio.CancelledError

    async with InMemoryAgentRunner() as runner:
        runtime = AgentRuntime(ScriptedModel(call_tools(("c", "odd", {})), reply("never")), tools=[odd])
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == "The agent was cancelled"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"secret": "deny"}, "This call is not allowed."),
        (lambda call, session: Deny(f"not {call.name} in {session.id}"), "This call is not allowed: not secret in s"),
    ],
)
async def test_a_policy_denies_a_call(policy: Any, message: str) -> None:
    llm = ScriptedModel(call_tools(("c1", "secret", {}), ("c2", "open", {})), reply("done"))
    tools = [Tool(lambda: "leaked", name="secret"), Tool(lambda: "fine", name="open", policy="deny")]

    def combined_policy(call, session):
        if call.name == "open":
            return "allow"
        return policy[call.name] if isinstance(policy, dict) else policy(call, session)

    runtime = AgentRuntime(llm, tools=tools, tool_policy=combined_policy)
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "go")
    assert result.outcome == Completed("done")
    assert [m["content"] for m in result.session.messages if m["role"] == "tool"] == [message, "fine"]


@pytest.mark.parametrize(("verdict", "result"), [(True, "ran"), (False, "This call is not allowed.")])
async def test_a_policy_may_return_a_bool(verdict: bool, result: str) -> None:
    for policy in ({"it": verdict}, lambda call, session: verdict):
        llm = ScriptedModel(call_tools(("c", "it", {})), reply("done"))
        runtime = AgentRuntime(llm, tools=[Tool(lambda: "ran", name="it", policy="ask")], tool_policy=policy)
        await runtime.create_session("s")
        session = (await runtime.run_turn("s", "go")).session
        assert [m["content"] for m in session.messages if m["role"] == "tool"] == [result]


async def test_a_failing_policy_runs_no_tool() -> None:
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
async def test_exceptions_that_would_end_more_than_the_call(error: BaseException, text: str) -> None:
    def it() -> None:
        raise error

    async def it_async() -> None:
        raise error

    assert (await call_tool(it)).startswith(f"Error: {text}")
    text = "coroutine raised StopIteration" if isinstance(error, StopIteration) else text
    assert (await call_tool(Tool(it_async, name="it"))).startswith(f"Error: {text}")


async def test_a_result_that_is_not_json_is_an_error() -> None:
    assert (await call_tool(Tool(lambda: object(), name="it"))).startswith("Error: the value cannot be written as JSON")
