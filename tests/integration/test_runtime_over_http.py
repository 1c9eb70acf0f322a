"""A runtime with `OpenAIClient` in runs of a SQLite runner: what a service is asked, and what a client is summarize."""

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
from support.chat_completions import END, KEY, Answer, Failure, calling, chunk, saying, service
from support.inputs import make_input
from support.scripted_model import collect_run, load_session, summarize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner import SqliteAgentRunner
    from support.chat_completions import Service

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
TWO = (("call-a", "weather", '{"city": "Lisbon"}'), ("call-b", "weather", '{"city": "Porto"}'))


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@asynccontextmanager
async def runtime(said: Service, **options: Any) -> AsyncIterator[AgentRuntime]:
    async with OpenAIClient("test", base_url=said.url, api_key=KEY, max_retries=0) as client:
        yield AgentRuntime(client, **options)


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def asked(said: Service) -> list[list[tuple[str, Any]]]:
    """Give of each question the roles and contents of its messages."""
    return [[(message["role"], message["content"]) for message in each["messages"]] for each in said.questions]


async def test_text_and_the_run_after_it(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with service(Answer(saying("Good morning", usage=USAGE), cut=3), Answer(saying("You are Ada"))) as said:
        async with runtime(said, config=RuntimeConfig(system_prompt="Be kind.", settings={"seed": 7})) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["I am Ada"], protocolVersion="1.0"))
            assert text(events) == "Good morning"
            assert events[-1]["usage"] == [{"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}]
            known = await runner.threads.messages("t1")
            again = {"id": "q2", "role": "user", "content": "Who am I?"}
            assert text(await collect_run(runner, agent, make_input("t1", "r2", [*known, again]))) == "You are Ada"
    assert asked(said) == [
        [("system", "Be kind."), ("user", "I am Ada")],
        [("system", "Be kind."), ("user", "I am Ada"), ("assistant", "Good morning"), ("user", "Who am I?")],
    ]
    assert {each["seed"] for each in said.questions} == {7}


@pytest.mark.parametrize("cut", [None, 1])
async def test_tools_side_by_side(sqlite_factory: Callable[..., SqliteAgentRunner], cut: int | None) -> None:
    runner = sqlite_factory()
    with service(Answer(calling(*TWO, text="Let me look."), cut), Answer(saying("Sunny in both"), cut)) as said:
        async with runtime(said, tools=[Tool(weather, concurrent=True)]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    assert text(events) == "Let me look.Sunny in both"
    results = [(event["toolCallId"], event["content"]) for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert results == [("call-a", "sunny in Lisbon"), ("call-b", "sunny in Porto")]
    first, second = said.questions
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
    session = await load_session(await runner.opened())
    assert session.outcome == Completed("Sunny in both")
    assert session.messages == await runner.threads.messages("t1")


async def test_reasoning_is_shown_and_not_sent_back(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    thinking = [chunk({"reasoning_content": "Hm, "}), chunk({"reasoning_content": "well."})]
    with service(Answer([*thinking, *calling(TWO[0])]), Answer(saying("Sunny"))) as said:
        async with runtime(said, tools=[weather]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    thought = [event["delta"] for event in events if event["type"] == "REASONING_MESSAGE_CONTENT"]
    assert "".join(thought) == "Hm, well."
    assert "Hm" not in str(said.questions)


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (Failure(500, {"error": {"message": f"secret {KEY}"}}), "overloaded or has failed (500)"),
        (Failure(401, {"error": {"message": f"wrong key {KEY}"}}), "does not accept the API key (401)"),
        (Answer([*saying("It was a")[:-1], END]), "closed the connection"),
        (Answer(saying("It was a")[:-1]), "before it was complete"),
        (Answer(saying("It was a", finish="content_filter")), "withheld the response"),
    ],
)
async def test_a_service_that_fails_fails_the_run_and_not_the_thread(
    sqlite_factory: Callable[..., SqliteAgentRunner], failure: Answer | Failure, why: str
) -> None:
    runner = sqlite_factory()
    with service(failure, Answer(saying("Here I am"))) as said:
        async with runtime(said) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Hello?"]))
            assert events[-1]["type"] == "RUN_ERROR"
            assert why in events[-1]["message"]
            assert KEY not in str(events)
            session = await load_session(await runner.opened())
            assert session.outcome == Failed(events[-1]["message"])
            events = await collect_run(
                runner, agent, make_input("t1", "r2", [{"id": "q2", "role": "user", "content": "Now?"}])
            )
            assert text(events) == "Here I am"
    # What half an answer said is no part of the next question.
    assert asked(said)[1] == [("user", "Hello?"), ("user", "Now?")]


async def test_a_tool_that_fails_is_told(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    def look(at: str) -> str:
        raise OSError(f"{at} is dark")

    runner = sqlite_factory()
    wrong = calling(("a", "look", '{"at": "it"}'), ("b", "look", '{"at": '), ("c", "fly", "{}"))
    with service(Answer(wrong), Answer(saying("I see nothing"))) as said:
        async with runtime(said, tools=[look]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Look"]))
    assert text(events) == "I see nothing"
    roles = [(message["role"], message.get("tool_call_id")) for message in said.questions[1]["messages"]]
    assert roles == [("user", None), ("assistant", None), ("tool", "a"), ("tool", "b"), ("tool", "c")]
    dark, unfit, unknown = (message["content"] for message in said.questions[1]["messages"][2:])
    assert "it is dark" in dark
    assert "do not fit" in unfit
    assert "no tool 'fly'" in unknown
    broken = said.questions[1]["messages"][1]["tool_calls"][1]["function"]["arguments"]
    assert broken == '{"invalid_json": "{\\"at\\": "}'


@pytest.mark.parametrize(
    ("payload", "ran", "told"),
    [
        ({"approved": True}, ["Lisbon"], "sunny in Lisbon"),
        ({"approved": True, "editedArgs": {"city": "Porto"}}, ["Porto"], "sunny in Porto"),
        ({"approved": False, "reason": "too far"}, [], "too far"),
    ],
)
async def test_an_approval(
    sqlite_factory: Callable[..., SqliteAgentRunner], payload: dict[str, Any], ran: list[str], told: str
) -> None:
    done: list[str] = []

    def look(city: str) -> str:
        done.append(city)
        return weather(city)

    tool = Tool(look, name="weather", policy="ask")
    with service(Answer(calling(TWO[0])), Answer(saying("There you are"))) as said:
        runner = sqlite_factory()
        async with runtime(said, tools=[tool]) as agent:
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
        (interrupt,) = events[-1]["outcome"]["interrupts"]
        assert interrupt["toolCallId"] == "call-a"
        assert interrupt["metadata"]["input"] == {"city": "Lisbon"}
        assert not done
        assert len(said.questions) == 1
        await runner.aclose()
        # Another process: nothing but the file is left of the first.
        runner = sqlite_factory()
        async with runtime(said, tools=[tool]) as agent:
            resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": payload}]
            events = await collect_run(runner, agent, make_input("t1", "r2", resume=resume))
    assert done == ran
    assert text(events) == "There you are"
    roles = [message["role"] for message in said.questions[1]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    assert told in said.questions[1]["messages"][2]["content"]


async def test_a_long_thread_is_trimmed_for_the_service_alone(
    sqlite_factory: Callable[..., SqliteAgentRunner],
) -> None:
    runner = sqlite_factory()
    manager = ContextWindowManager(max_messages=4)
    with service(
        Answer(calling(TWO[0])), Answer(saying("Sunny")), Answer(saying("Yes")), Answer(saying("Bye"))
    ) as said:
        config = RuntimeConfig(system_prompt="Be brief.")
        async with runtime(said, tools=[weather], context_manager=manager, config=config) as agent:
            for number, question in enumerate(("Weather?", "Sure?", "Bye!")):
                asks = {"id": f"q{number}", "role": "user", "content": question}
                await collect_run(runner, agent, make_input("t1", f"r{number}", [asks]))
    assert [len(each["messages"]) for each in said.questions] == [2, 4, 2, 4]
    assert asked(said)[3] == [("system", "Be brief."), ("user", "Sure?"), ("assistant", "Yes"), ("user", "Bye!")]
    session = await load_session(await runner.opened())
    assert [message["role"] for message in session.messages] == [
        "user", "assistant", "tool", "assistant", "user", "assistant", "user", "assistant",
    ]  # fmt: skip


async def test_what_cannot_be_trimmed_is_said(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with service(Answer(saying("no"))) as said:
        async with runtime(said, context_manager=ContextWindowManager(max_tokens=20)) as agent:
            events = await collect_run(
                runner, agent, make_input("t1", "r1", ["A long question, and a longer one. " * 3])
            )
        assert "max_tokens is 20" in summarize(events)[-1]
        assert not said.questions


async def test_a_skill_the_model_takes_into_use(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    travel = Skill("travel", "Plans trips.", "Look at the weather first.", [weather])
    taking = calling(("call-s", "use_skill", '{"name": "travel"}'))
    runner = sqlite_factory()
    with service(Answer(taking), Answer(calling(TWO[0])), Answer(saying("Go")), Answer(saying("Yes"))) as said:
        async with runtime(said, skills=[travel]) as agent:
            agent_store = await runner.opened()
            await Sessions(agent_store).save(Session("t1", skills=[]), messages=[])
            events = await collect_run(runner, agent, make_input("t1", "r1", ["A trip?"]))
            again = {"id": "q2", "role": "user", "content": "Sure?"}
            await collect_run(runner, agent, make_input("t1", "r2", [again]))
    assert text(events) == "Go"
    tools = [[tool["function"]["name"] for tool in each["tools"]] for each in said.questions]
    assert tools == [["use_skill"], ["weather"], ["weather"], ["weather"]]
    prompts = [each["messages"][0]["content"] for each in said.questions]
    assert "- travel: Plans trips." in prompts[0]
    assert all(prompt == "# Skill: travel\n\nLook at the weather first." for prompt in prompts[1:])


async def test_stopping_a_run_closes_the_connection(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with service(Answer(saying("On and on it goes"), pause_after=3)) as said:
        async with runtime(said) as agent:
            stream = await runner.run(agent, make_input("t1", "r1", ["Go"]))
            async for event in stream:
                if event.type == "TEXT_MESSAGE_CONTENT":
                    assert await runner.stop("t1")
                    break
            while not said.closed:
                await asyncio.sleep(0.001)
            while await runner.is_running("t1"):
                await asyncio.sleep(0.001)


async def test_the_same_over_pydantic_ai(sqlite_factory: Callable[..., SqliteAgentRunner]) -> None:
    runner = sqlite_factory()
    with service(Answer(calling(*TWO, text="Let me look."), 7), Answer(saying("Sunny in both", usage=USAGE))) as said:
        async with httpx2.AsyncClient() as http:
            provider = OpenAIProvider(base_url=said.url, api_key=KEY, http_client=http)
            agent = AgentRuntime(PydanticAIClient(OpenAIChatModel("test", provider=provider)), tools=[weather])
            events = await collect_run(runner, agent, make_input("t1", "r1", ["Weather?"]))
    assert text(events) == "Let me look.Sunny in both"
    assert asked(said)[1] == [
        ("user", "Weather?"), ("assistant", "Let me look."),
        ("tool", "sunny in Lisbon"), ("tool", "sunny in Porto"),
    ]  # fmt: skip
