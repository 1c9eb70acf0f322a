"""One turn: the order of its steps, the events clients see, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore, current_run
from agentrunner.errors import AgentError, LlmUnreachable, SessionNotFound, ThreadAlreadyRunning
from agentrunner.runtime import (
    AgentRuntime,
    Completed,
    Failed,
    Finish,
    LlmRequest,
    Middleware,
    ReasoningDelta,
    RuntimeConfig,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    Usage,
)
from support.inputs import make_input
from support.scripted_model import (
    CrashingStore,
    ScriptedModel,
    call_tools,
    collect_run,
    list_steps,
    load_session,
    name_change,
    reply,
    summarize,
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_the_order_of_a_turn() -> None:
    order: list[str] = []

    class Recording(Middleware):
        async def on_user_message(self, context, message):
            order.append(f"on_user_message {message['content']}")

        async def on_pre_llm(self, context, request):
            order.append(f"on_pre_llm {context.turn}")

        async def on_post_llm(self, context, response):
            order.append(f"on_post_llm {context.turn} {response.text}{[call.name for call in response.calls]}")

        async def on_tool_call(self, context, call, arguments):
            order.append(f"on_tool_call {call.name} {arguments}")

        async def on_tool_result(self, context, call, result):
            order.append(f"on_tool_result {result.content}")

    class Store(MemoryStore):
        async def write(self, changes, claim=None):
            kinds = [name_change(change) for change in changes]
            order.extend(list_steps([kinds]) or [f"write {kinds[-1]}"])
            return await super().write(changes, claim)

    class Context:
        def trim(self, messages, tools, /):
            order.append(f"trim {len(messages)} {[tool.name for tool in tools]}")
            return messages

    llm = ScriptedModel(call_tools(("c1", "add", {"a": 1, "b": 2})), reply("3"))
    async with AgentRuntime(
        llm, tools=[add], middlewares=[Recording()], context_manager=Context(), session_store=Store()
    ) as runtime:
        await runtime.create_session("s")
        order.clear()
        result = await runtime.run_turn("s", "1 + 2?")
    assert result.outcome == Completed("3")
    assert order == [
        "on_user_message 1 + 2?", "after_user_input",
        "trim 1 ['add']", "on_pre_llm 1", "before_llm", "on_post_llm 1 ['add']", "before_tool_calls",
        "write tool", "on_tool_call add {'a': 1, 'b': 2}", "on_tool_result 3", "write tool", "after_tool_calls",
        "trim 3 ['add']", "on_pre_llm 2", "before_llm", "on_post_llm 2 3[]", "write session",
    ]  # fmt: skip


async def test_the_events_a_client_sees() -> None:
    llm = ScriptedModel(
        [
            ReasoningDelta("Hm"), ReasoningDelta("."), TextDelta("\n"), TextDelta("Let "), TextDelta("me."),
            ToolCallStart("c1", "add"), ToolCallStart("c2", "add"), ToolCallArgs("c2", '{"a":3,"b":'),
            ToolCallArgs("c1", '{"a":1,"b":2}'), ToolCallArgs("c2", "4}"), TextDelta(" So"), Usage(10, 4),
            Finish("tool_calls"),
        ],
        [TextDelta("3 and 7"), Usage(20, 2, reasoning_tokens=1), Finish("stop")],
    )  # fmt: skip
    runner = InMemoryAgentRunner()
    async with runner:
        events = await collect_run(
            runner, AgentRuntime(llm, tools=[add]), make_input("t1", "r1", ["go"], protocolVersion="1.0")
        )
        assert summarize(events) == [
            "RUN_STARTED", "STEP_STARTED",
            "REASONING_START", "REASONING_MESSAGE_START", *["REASONING_MESSAGE_CONTENT"] * 2,
            "REASONING_MESSAGE_END", "REASONING_END",
            "TEXT_MESSAGE_START", *["TEXT_MESSAGE_CONTENT"] * 2, "TEXT_MESSAGE_END",
            "TOOL_CALL_START", "TOOL_CALL_START", *["TOOL_CALL_ARGS"] * 3,
            "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "TOOL_CALL_END", "TOOL_CALL_END",
            "TOOL_CALL_RESULT", "TOOL_CALL_RESULT", "STEP_FINISHED",
            "STEP_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "STEP_FINISHED",
            "RUN_FINISHED",
        ]  # fmt: skip
        assert events[0]["protocolVersion"] == "1.0"
        assert events[-1]["usage"] == [{"inputTokens": 30, "outputTokens": 6, "totalTokens": 36, "reasoningTokens": 1}]
        session = await load_session(await runner.open())
        assert session.messages == await runner.threads.messages("t1")
        assert [message["role"] for message in session.messages] == [
            "user", "reasoning", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip
        assert session.messages[2]["content"] == "\nLet me. So"
        assert [message["content"] for message in session.messages[3:5]] == ["3", "7"]


async def test_the_next_run_continues_the_session() -> None:
    llm = ScriptedModel(reply("one"), reply("two"))
    runtime = AgentRuntime(llm, config=RuntimeConfig(system_prompt="Count."))
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, runtime, make_input("t1", "r1", ["a"]))
        # A stock client sends all its messages; a client may also send only the new ones.
        all_messages = [*await runner.threads.messages("t1"), {"id": "b", "role": "user", "content": "b"}]
        await collect_run(runner, runtime, make_input("t1", "r2", all_messages))
        assert [(m["role"], m["content"]) for m in llm.requests[1].messages] == [
            ("system", "Count."), ("user", "a"), ("assistant", "one"), ("user", "b"),
        ]  # fmt: skip
        assert (await load_session(await runner.open())).messages == await runner.threads.messages("t1")


async def test_context_and_settings_reach_the_model() -> None:
    llm = ScriptedModel(reply("ok"))
    runtime = AgentRuntime(llm, config=RuntimeConfig(system_prompt="Be.", settings={"temperature": 0}))
    async with InMemoryAgentRunner() as runner:
        context = [{"description": "page", "value": "home"}]
        await collect_run(runner, runtime, make_input("t1", "r1", ["a"]) | {"context": context})
    assert llm.requests[0].messages[0]["content"] == "Be.\n\nContext:\n- page: home"
    assert llm.requests[0].settings == {"temperature": 0}


async def test_a_turn_ends_at_max_turns() -> None:
    class Tireless:
        async def stream(self, request, /):
            for event in call_tools((f"c{len(request.messages)}", "add", {"a": 1, "b": 1})):
                yield event

    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, AgentRuntime(Tireless(), tools=[add]), make_input("t1", "r1", ["go"]))
        assert events[-1]["message"].startswith("The turn reached max_turns (50 model requests)")
        session = await load_session(await runner.open())
        assert session.outcome == Failed(events[-1]["message"])
        assert sum(message["role"] == "tool" for message in session.messages) == 50


async def test_an_empty_response_is_requested_again() -> None:
    store = CrashingStore()
    empty = [TextDelta(" \n"), Finish("stop")]
    async with AgentRuntime(
        ScriptedModel(empty, [ReasoningDelta("…"), Finish("stop")], reply("hi")), session_store=store
    ) as runtime:
        await runtime.create_session("s")
        result = await runtime.run_turn("s", "hello?")
    assert result.outcome == Completed("hi")
    assert [message["role"] for message in result.session.messages] == ["user", "reasoning", "assistant"]
    assert list_steps(store.log) == ["after_user_input", *["before_llm"] * 3]


async def test_a_model_that_returns_only_empty_responses_fails_the_turn() -> None:
    llm = ScriptedModel(*[[Finish("stop")]] * 9)
    runtime = AgentRuntime(llm)
    await runtime.create_session("s")
    result = await runtime.run_turn("s", "hello?")
    assert result.outcome == Failed("The model returned 3 empty responses in a row")
    assert len(llm.requests) == 3


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ([LlmUnreachable("the provider cannot be reached")], "the provider cannot be reached"),
        ([TextDelta("half"), LlmUnreachable("the connection broke")], "the connection broke"),
        ([TextDelta("half")], "the model's response ended before it was complete; run the turn again"),
        ([ToolCallStart("c", "add"), AgentError("bug")], "bug"),
        ([ToolCallArgs("c", "{}")], "the model's response has arguments for a tool call that it has not started"),
    ],
)
async def test_a_failing_model_fails_the_turn(response: list[Any], message: str) -> None:
    llm = ScriptedModel(response, reply("better now"))
    runtime = AgentRuntime(llm)
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == message
        session = await load_session(await runner.open())
        assert session.outcome == Failed(message)
        assert [message["role"] for message in session.messages] == ["user"]
        # The thread continues, with the part of the response that clients have seen.
        messages = await runner.threads.messages("t1")
        events = await collect_run(runner, runtime, make_input("t1", "r2", [*messages, "again"]))
        assert summarize(events)[-1] == "RUN_FINISHED"
        requested = [(m["role"], m.get("content"), m.get("toolCalls")) for m in llm.requests[1].messages]
        seen = [(m["role"], m.get("content"), m.get("toolCalls")) for m in messages]
        assert requested == [*seen, ("user", "again", None)]


async def test_a_failed_turn_can_be_tried_again_from_its_checkpoint() -> None:
    runtime = AgentRuntime(ScriptedModel([LlmUnreachable("away")], reply("back")))
    await runtime.create_session("s")
    assert (await runtime.run_turn("s", "go")).outcome == Failed("away")
    result = await runtime.resume_from_checkpoint("s")
    assert (result.outcome, result.text) == (Completed("back"), "back")
    assert [message["role"] for message in result.session.messages] == ["user", "assistant"]


class ChangesEverything(Middleware):
    async def on_user_message(self, context, message):
        return message | {"content": message["content"].upper(), "id": "another"}

    async def on_pre_llm(self, context, request):
        extra = {"id": "note", "role": "system", "content": f"request {context.turn}"}
        return LlmRequest([extra, *request.messages], request.tools[:1], {"temperature": context.turn})

    async def on_post_llm(self, context, response):
        return replace(response, text=response.text.replace("secret", "***"))

    async def on_tool_result(self, context, call, result):
        return replace(result, content=result.content + "!")


async def test_middleware_can_change_what_it_sees() -> None:
    def never() -> str:
        raise AssertionError

    llm = ScriptedModel(call_tools(("c1", "add", {"a": 1, "b": 2}), ("c2", "never", {})), reply("the secret"))
    async with InMemoryAgentRunner() as runner:
        runtime = AgentRuntime(llm, tools=[add, never], middlewares=[ChangesEverything()])
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        session = await load_session(await runner.open())
        assert [(m["role"], m.get("content")) for m in session.messages] == [
            ("user", "GO"), ("assistant", None), ("tool", "3!"), ("tool", "There is no tool 'never'."),
            ("assistant", "the ***"),
        ]  # fmt: skip
        assert session.messages[0]["id"] == "go"
        # Readers saw the original answer as it arrived, but end with the stored one.
        assert (await runner.threads.messages("t1"))[-1]["content"] == "the ***"
        assert summarize(events)[-3:] == ["MESSAGES_SNAPSHOT", "STEP_FINISHED", "RUN_FINISHED"]
    assert [request.messages[0]["content"] for request in llm.requests] == ["request 1", "request 2"]
    assert [tool.name for tool in llm.requests[0].tools] == ["add"]
    assert llm.requests[1].settings == {"temperature": 2}


@pytest.mark.parametrize("hook", ["on_pre_llm", "on_post_llm", "on_tool_result"])
async def test_an_exception_in_middleware_fails_the_turn(hook: str) -> None:
    class FailingMiddleware(Middleware):
        pass

    async def fail(self, *_):
        raise AgentError(f"{hook} refuses")

    setattr(FailingMiddleware, hook, fail)
    runtime = AgentRuntime(
        ScriptedModel(call_tools(("c1", "add", {"a": 1, "b": 2}))), tools=[add], middlewares=[FailingMiddleware()]
    )
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1] == f"{hook} refuses"
        assert (await load_session(await runner.open())).outcome == Failed(f"{hook} refuses")


async def test_nothing_is_stored_of_a_message_that_middleware_refuses() -> None:
    class Refusing(Middleware):
        async def on_user_message(self, context, message):
            raise AgentError("not this")

    async with InMemoryAgentRunner() as runner:
        events = await collect_run(
            runner, AgentRuntime(ScriptedModel(), middlewares=[Refusing()]), make_input("t1", "r1", ["go"])
        )
        assert summarize(events) == ["not this"]
        assert await runner.threads.messages("t1") == []
        with pytest.raises(SessionNotFound):
            await load_session(await runner.open())


async def test_a_call_id_that_the_model_reuses_is_replaced() -> None:
    llm = ScriptedModel(
        call_tools(("c", "add", {"a": 1, "b": 2})), call_tools(("c", "add", {"a": 3, "b": 4})), reply("done")
    )
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, AgentRuntime(llm, tools=[add]), make_input("t1", "r1", ["go"]))
        messages = await runner.threads.messages("t1")
    assert [(m["toolCallId"], m["content"]) for m in messages if m["role"] == "tool"] == [("c", "3"), ("c-2", "7")]


async def test_a_runtime_works_without_a_runner() -> None:
    runtime = AgentRuntime(ScriptedModel(reply("hi"), reply("ho")))
    session = await runtime.create_session(metadata={"user": "ann"}, messages=[{"role": "system", "content": "Be."}])
    assert (await runtime.run_turn(session.id, "a")).text == "hi"
    events = [event async for event in runtime.run_turn_stream(session.id, {"role": "user", "content": "b"})]
    assert (events[0]["type"], events[-1]["type"]) == ("RUN_STARTED", "RUN_FINISHED")
    restored = await runtime.restore_session(session.id)
    assert [message["content"] for message in restored.messages] == ["Be.", "a", "hi", "b", "ho"]
    assert restored.metadata == {"user": "ann"}
    with pytest.raises(SessionNotFound):
        await runtime.run_turn("missing", "a")
    with pytest.raises(SessionNotFound):
        await runtime.resume_from_checkpoint(session.id, 99)


async def test_a_session_has_one_turn_at_a_time() -> None:
    runtime = AgentRuntime(ScriptedModel(reply("a", "b"), reply("c")))
    await runtime.create_session("s")
    first = runtime.run_turn_stream("s", "go")
    while (await anext(first))["type"] != "TEXT_MESSAGE_CONTENT":
        pass
    with pytest.raises(ThreadAlreadyRunning):
        await runtime.run_turn("s", "me too")
    await first.aclose()
    assert (await runtime.run_turn("s", "now")).text == "c"


async def test_a_tool_can_read_the_current_run(memory_factory: Any) -> None:
    seen = []

    def look() -> str:
        seen.append(current_run().run_id)
        return "ok"

    runner: AgentRunner = memory_factory()
    await collect_run(
        runner,
        AgentRuntime(ScriptedModel(call_tools(("c", "look", {})), reply("x")), tools=[look]),
        make_input("t1", "r9", ["a"]),
    )
    assert seen == ["r9"]
