"""`OpenAIClient` in a SQLite runner: the provider's requests and the client's events."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agentrunner.runtime import AgentRuntime, Completed, Failed, RuntimeConfig, Tool
from agentrunner.runtime.context import ContextWindowManager
from agentrunner.runtime.openai import OpenAIClient
from agentrunner.runtime.pydantic_ai import PydanticAIClient
from agentrunner.runtime.session import Session, Sessions
from agentrunner.runtime.skills import Skill
from support.chat_completions import (
    DISCONNECT,
    KEY,
    ChatResponse,
    ErrorResponse,
    FakeProvider,
    call_chunks,
    chunk,
    fake_provider,
    text_chunks,
)
from support.inputs import make_input
from support.scripted_model import collect_run, load_session, summarize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner import SqliteAgentRunner
    from support.chat_completions import FakeProvider

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
TWO = (("call-a", "weather", '{"city": "Lisbon"}'), ("call-b", "weather", '{"city": "Porto"}'))


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@asynccontextmanager
async def runtime(provider: FakeProvider, **options: Any) -> AsyncIterator[AgentRuntime]:
    async with OpenAIClient("test", base_url=provider.url, api_key=KEY, max_retries=0) as client:
        yield AgentRuntime(client, **options)


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def list_requests(provider: FakeProvider) -> list[list[tuple[str, Any]]]:
    """Return the roles and contents of each request's messages."""
    return [[(message["role"], message["content"]) for message in request["messages"]] for request in provider.requests]


async def test_a_text_run_and_the_next_run(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with fake_provider(
        ChatResponse(text_chunks("Good morning", usage=USAGE), split_bytes=3), ChatResponse(text_chunks("You are Ada"))
    ) as provider:
        async with runtime(provider, config=RuntimeConfig(system_prompt="Be kind.", settings={"seed": 7})) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["I am Ada"], protocolVersion="1.0"))
            assert text(events) == "Good morning"
            assert events[-1]["usage"] == [{"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}]
            messages = await runner.threads.messages("t1")
            question = {"id": "q2", "role": "user", "content": "Who am I?"}
            assert (
                text(await collect_run(runner, agent, make_input("t1", "r2", [*messages, question]))) == "You are Ada"
            )
    assert list_requests(provider) == [
        [("system", "Be kind."), ("user", "I am Ada")],
        [("system", "Be kind."), ("user", "I am Ada"), ("assistant", "Good morning"), ("user", "Who am I?")],
    ]
    assert {request["seed"] for request in provider.requests} == {7}


@pytest.mark.parametrize("split_bytes", [None, 1])
async def test_concurrent_tools(sqlite_factory: Callable[..., SqliteAgentRunner], split_bytes: int | None) -> None:
    runner = sqlite_factory()
    with fake_provider(
        ChatResponse(call_chunks(*TWO, text="Let me look."), split_bytes),
        ChatResponse(text_chunks("Sunny in both"), split_bytes),
    ) as provider:
        async with runtime(provider, tools=[Tool(weather, concurrent=True)]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    assert text(events) == "Let me look.Sunny in both"
    results = [(event["toolCallId"], event["content"]) for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert results == [("call-a", "sunny in Lisbon"), ("call-b", "sunny in Porto")]
    first, second = provider.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    assert first["tools"][0]["function"]["parameters"]["required"] == ["city"]
    assert second["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [
            {"id": key, "type": "function", "function": {"name": name, "arguments": args}} for key, name, args in TWO
        ]},
        {"role": "tool", "tool_call_id": "call-a", "content": "sunny in Lisbon"},
        {"role": "tool", "tool_call_id": "call-b", "content": "sunny in Porto"},
    ]  # fmt: skip
    session = await load_session(await runner.open())
    assert session.outcome == Completed("Sunny in both")
    assert session.messages == await runner.threads.messages("t1")


async def test_reasoning_is_not_sent_back_by_default(
    sqlite_factory: Callable[..., SqliteAgentRunner],
) -> None:
    runner = sqlite_factory()
    reasoning = [chunk({"reasoning_content": "Hm, "}), chunk({"reasoning_content": "well."})]
    with fake_provider(
        ChatResponse([*reasoning, *call_chunks(TWO[0])]), ChatResponse(text_chunks("Sunny"))
    ) as provider:
        async with runtime(provider, tools=[weather]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    deltas = [event["delta"] for event in events if event["type"] == "REASONING_MESSAGE_CONTENT"]
    assert "".join(deltas) == "Hm, well."
    assert "Hm" not in str(provider.requests)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ErrorResponse(500, {"error": {"message": f"secret {KEY}"}}), "overloaded or has failed (500)"),
        (ErrorResponse(401, {"error": {"message": f"wrong key {KEY}"}}), "does not accept the API key (401)"),
        (ChatResponse([*text_chunks("It was a")[:-1], DISCONNECT]), "closed the connection"),
        (ChatResponse(text_chunks("It was a")[:-1]), "before it was complete"),
        (ChatResponse(text_chunks("It was a", finish="content_filter")), "withheld the response"),
    ],
)
async def test_a_failing_provider_fails_the_run_but_not_the_thread(
    sqlite_factory: Callable[..., SqliteAgentRunner], failure: ChatResponse | ErrorResponse, message: str
) -> None:
    runner = sqlite_factory()
    with fake_provider(failure, ChatResponse(text_chunks("Here I am"))) as provider:
        async with runtime(provider) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Hello?"]))
            assert events[-1]["type"] == "RUN_ERROR"
            assert message in events[-1]["message"]
            assert KEY not in str(events)
            session = await load_session(await runner.open())
            assert session.outcome == Failed(events[-1]["message"])
            events = await collect_run(
                runner, agent, make_input("t1", "r2", [{"id": "q2", "role": "user", "content": "Now?"}])
            )
            assert text(events) == "Here I am"
    # The text of an incomplete response is not part of the next request, whose roles have to alternate.
    assert list_requests(provider)[1] == [("user", "Hello?\n\nNow?")]


async def test_the_model_is_told_about_failed_calls(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    def look(at: str) -> str:
        raise OSError(f"{at} is dark")

    runner = sqlite_factory()
    failing_calls = call_chunks(("a", "look", '{"at": "it"}'), ("b", "look", '{"at": '), ("c", "fly", "{}"))
    with fake_provider(ChatResponse(failing_calls), ChatResponse(text_chunks("I see nothing"))) as provider:
        async with runtime(provider, tools=[look]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Look"]))
    assert text(events) == "I see nothing"
    roles = [(message["role"], message.get("tool_call_id")) for message in provider.requests[1]["messages"]]
    assert roles == [("user", None), ("assistant", None), ("tool", "a"), ("tool", "b"), ("tool", "c")]
    raised, invalid, unknown = (message["content"] for message in provider.requests[1]["messages"][2:])
    assert "it is dark" in raised
    assert "do not fit" in invalid
    assert "no tool 'fly'" in unknown
    broken = provider.requests[1]["messages"][1]["tool_calls"][1]["function"]["arguments"]
    assert broken == '{"invalid_json": "{\\"at\\": "}'


@pytest.mark.parametrize(
    ("payload", "ran", "result"),
    [
        ({"approved": True}, ["Lisbon"], "sunny in Lisbon"),
        ({"approved": True, "editedArgs": {"city": "Porto"}}, ["Porto"], "sunny in Porto"),
        ({"approved": False, "reason": "too far"}, [], "too far"),
    ],
)
async def test_another_process_decides_an_approval(
    sqlite_factory: Callable[..., SqliteAgentRunner], payload: dict[str, Any], ran: list[str], result: str
) -> None:
    looked_at: list[str] = []

    def look(city: str) -> str:
        looked_at.append(city)
        return weather(city)

    tool = Tool(look, name="weather", policy="ask")
    with fake_provider(ChatResponse(call_chunks(TWO[0])), ChatResponse(text_chunks("There you are"))) as provider:
        runner = sqlite_factory()
        async with runtime(provider, tools=[tool]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
        (interrupt,) = events[-1]["outcome"]["interrupts"]
        assert interrupt["toolCallId"] == "call-a"
        assert interrupt["metadata"]["input"] == {"city": "Lisbon"}
        assert not looked_at
        assert len(provider.requests) == 1
        await runner.aclose()
        # A new runner stands for another process, which has only the file of the first.
        runner = sqlite_factory()
        async with runtime(provider, tools=[tool]) as agent:
            resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": payload}]
            events = await collect_run(runner, agent, make_input("t1", "r2", resume=resume))
    assert looked_at == ran
    assert text(events) == "There you are"
    roles = [message["role"] for message in provider.requests[1]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    assert result in provider.requests[1]["messages"][2]["content"]


async def test_a_long_thread_is_trimmed_only_for_the_provider(
    sqlite_factory: Callable[..., SqliteAgentRunner],
) -> None:
    runner = sqlite_factory()
    manager = ContextWindowManager(max_messages=4)
    with fake_provider(
        ChatResponse(call_chunks(TWO[0])),
        ChatResponse(text_chunks("Sunny")),
        ChatResponse(text_chunks("Yes")),
        ChatResponse(text_chunks("Bye")),
    ) as provider:
        config = RuntimeConfig(system_prompt="Be brief.")
        async with runtime(provider, tools=[weather], context_manager=manager, config=config) as agent:
            for number, question in enumerate(("Weather?", "Sure?", "Bye!")):
                message = {"id": f"q{number}", "role": "user", "content": question}
                await collect_run(runner, agent, make_input("t1", f"r{number}", [message]))
    assert [len(request["messages"]) for request in provider.requests] == [2, 4, 2, 4]
    assert list_requests(provider)[3] == [
        ("system", "Be brief."),
        ("user", "Sure?"),
        ("assistant", "Yes"),
        ("user", "Bye!"),
    ]
    session = await load_session(await runner.open())
    assert [message["role"] for message in session.messages] == [
        "user", "assistant", "tool", "assistant", "user", "assistant", "user", "assistant",
    ]  # fmt: skip


async def test_a_conversation_that_cannot_be_trimmed_fails(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with fake_provider(ChatResponse(text_chunks("no"))) as provider:
        async with runtime(provider, context_manager=ContextWindowManager(max_tokens=20)) as agent:
            events = await collect_run(
                runner, agent, make_input("t1", "r1", ["A long question, and a longer one. " * 3])
            )
        assert "max_tokens is 20" in summarize(events)[-1]
        assert not provider.requests


async def test_the_model_activates_a_skill(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    travel = Skill("travel", "Plans trips.", "Look at the weather first.", [weather])
    activation = call_chunks(("call-s", "use_skill", '{"name": "travel"}'))
    runner = sqlite_factory()
    with fake_provider(
        ChatResponse(activation),
        ChatResponse(call_chunks(TWO[0])),
        ChatResponse(text_chunks("Go")),
        ChatResponse(text_chunks("Yes")),
    ) as provider:
        async with runtime(provider, skills=[travel]) as agent:
            agent_store = await runner.open()
            await Sessions(agent_store).save(Session("t1", skills=[]), messages=[])
            events = await collect_run(runner, agent, make_input("t1", "r1", ["A trip?"]))
            question = {"id": "q2", "role": "user", "content": "Sure?"}
            await collect_run(runner, agent, make_input("t1", "r2", [question]))
    assert text(events) == "Go"
    tools = [[tool["function"]["name"] for tool in request["tools"]] for request in provider.requests]
    assert tools == [["use_skill"], ["weather"], ["weather"], ["weather"]]
    prompts = [request["messages"][0]["content"] for request in provider.requests]
    assert "- travel: Plans trips." in prompts[0]
    assert all(prompt == "# Skill: travel\n\nLook at the weather first." for prompt in prompts[1:])


async def test_stopping_a_run_closes_the_connection(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with fake_provider(ChatResponse(text_chunks("On and on it goes"), pause_after=3)) as provider:
        async with runtime(provider) as agent:
            stream = await runner.run(agent, make_input("t1", "r1", ["Go"]))
            async for event in stream:
                if event.type == "TEXT_MESSAGE_CONTENT":
                    assert await runner.stop("t1")
                    break
            while not provider.disconnects:
                await asyncio.sleep(0.001)
            while await runner.is_running("t1"):
                await asyncio.sleep(0.001)


async def test_the_same_run_with_pydantic_ai(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with fake_provider(
        ChatResponse(call_chunks(*TWO, text="Let me look."), 7), ChatResponse(text_chunks("Sunny in both", usage=USAGE))
    ) as provider:
        async with httpx2.AsyncClient() as http:
            openai_provider = OpenAIProvider(base_url=provider.url, api_key=KEY, http_client=http)
            agent = AgentRuntime(PydanticAIClient(OpenAIChatModel("test", provider=openai_provider)), tools=[weather])
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    assert text(events) == "Let me look.Sunny in both"
    assert list_requests(provider)[1] == [
        ("user", "Weather?"), ("assistant", "Let me look."),
        ("tool", "sunny in Lisbon"), ("tool", "sunny in Porto"),
    ]  # fmt: skip
