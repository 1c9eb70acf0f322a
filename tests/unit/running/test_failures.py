"""What the readers of a failed run are told, and the one line that the log gets."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, model_serializer

from agentrunner import AgentError, StoreError
from agentrunner.errors import LlmUnauthorized
from agentrunner.harness import Harness
from agentrunner.runtime import AgentRuntime, ToolErrorRecovery, tool
from support.agents import Gate, agent_with, scripted_agent
from support.events import run_started, text_message
from support.inputs import make_input
from support.scripted_model import ScriptedModel, call_tools
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

ADDRESS = "postgresql://app:PASSWORD@db/app"
INVALID = b'{"type":"TEXT_MESSAGE_END","messageId":"never opened"}'


class Nameless(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise ValueError(ADDRESS)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception that takes no attribute."""

    text: str


class Failing(BaseModel):
    """A value whose conversion fails."""

    @model_serializer
    def convert(self) -> Any:
        raise KeyError(ADDRESS)


def raising(error: BaseException) -> Any:
    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        raise error

    return agent


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.fault("C5")
@pytest.mark.parametrize("in_harness", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(ADDRESS), KeyError(ADDRESS), OSError(1, ADDRESS), Nameless(), StoreError(ADDRESS), Frozen(ADDRESS),
        SystemExit(ADDRESS),
    ],
)  # fmt: skip
async def test_the_text_of_an_exception_goes_to_the_log_only(
    error: BaseException, in_harness: bool, memory_factory: MemoryFactory, caplog: pytest.LogCaptureFixture
) -> None:
    runner = memory_factory()
    if in_harness:
        async with Harness(runner, {"default": raising(error)}) as harness:
            result = await harness.run("hi", thread_id="t1", run_id="r1")
            assert ADDRESS not in (result.error or "")
            assert ADDRESS not in str(await harness.run_record("r1"))
    else:
        await collect(await runner.run(raising(error), make_input()))
    shown = [event.to_dict() for event in await runner.threads.events("t1")]
    assert shown[-1]["type"] == "RUN_ERROR"
    assert ADDRESS not in str(shown)
    (record,) = failures(caplog)
    error_id = shown[-1]["message"].partition("error id ")[2].split()[0]
    assert len(error_id) == 12
    assert error_id in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AgentError("Out of milk"), "INCOMPLETE_STREAM"),
        (AgentError("Out of milk", code="NO_MILK"), "NO_MILK"),
        (LlmUnauthorized("Out of milk"), "INCOMPLETE_STREAM"),
    ],
)
async def test_an_error_that_is_written_for_readers_keeps_its_text(
    error: Exception, code: str, memory_factory: MemoryFactory
) -> None:
    events = await collect(await memory_factory().run(raising(error), make_input()))
    assert (events[-1]["message"], events[-1]["code"]) == ("Out of milk", code)


@pytest.mark.fault("B7")
@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (AgentError("half \ud83d of one"), "half \ufffd of one", "INCOMPLETE_STREAM"),
        (AgentError("both \ud83d\ude00"), "both \U0001f600", "INCOMPLETE_STREAM"),
        (AgentError("x", code="half \ude00"), "x", "half \ufffd"),
        (AgentError("x", code=5), "x", "5"),  # type: ignore[arg-type]
    ],
)
async def test_a_run_ends_with_any_text_and_code_of_an_error(
    error: Exception, message: str, code: str, memory_factory: MemoryFactory
) -> None:
    runner = memory_factory()
    events = await collect(await runner.run(raising(error), make_input()))
    assert (events[-1]["message"], events[-1]["code"]) == (message, code)
    assert await collect(await runner.connect("t1")) == events


@pytest.mark.fault("C5")
@pytest.mark.parametrize("value", [Failing(), {"deep": [Failing()]}])
async def test_the_text_of_a_value_s_own_exception_goes_to_the_log_only(
    value: Any, memory_factory: MemoryFactory, caplog: pytest.LogCaptureFixture
) -> None:
    event = {"type": "CUSTOM", "name": "x", "value": value}
    events = await collect(await memory_factory().run(agent_with(event), make_input()))
    assert events[-1]["code"] == "INVALID_EVENT"
    assert "KeyError" in events[-1]["message"]
    assert ADDRESS not in str(events)
    (record,) = failures(caplog)
    assert record.exc_info is not None
    assert ADDRESS in str(record.exc_info[1].__cause__)  # type: ignore[union-attr]


@pytest.mark.fault("C5")
async def test_the_text_of_an_exception_is_shown_if_the_application_says_so(memory_factory: MemoryFactory) -> None:
    events = await collect(await memory_factory(show_agent_errors=True).run(raising(OSError("late")), make_input()))
    assert events[-1]["message"] == "late"


@pytest.mark.fault("C5")
async def test_the_text_of_a_tool_s_exception_does_not_end_up_in_the_run_s_error(
    memory_factory: MemoryFactory, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    async def look() -> str:
        """Look something up."""
        raise RuntimeError(ADDRESS)

    agent = AgentRuntime(
        ScriptedModel(call_tools(("c1", "look", {}))), tools=[look], error_recovery=ToolErrorRecovery(action="stop")
    )
    message = {"id": "u1", "role": "user", "content": "hi"}
    events = await collect(await memory_factory().run(agent, make_input(messages=[message])))
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["message"].startswith("Tool 'look' failed: internal error")
    (record,) = failures(caplog)
    assert record.exc_info is not None
    assert ADDRESS in str(record.exc_info[1])


@pytest.mark.fault("C5")
async def test_the_text_of_a_store_s_error_goes_to_the_log_only(
    memory_factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise StoreError(ADDRESS)

    runner = memory_factory()
    monkeypatch.setattr(await runner.open(), "append", fail)
    events = await collect(await runner.run(Gate(text_message("m1", "x")), make_input()))
    assert events[-1]["code"] == "STORE_ERROR"
    assert ADDRESS not in str(events)
    (record,) = failures(caplog)
    assert record.exc_info is not None
    assert ADDRESS in str(record.exc_info[1])


@pytest.mark.fault("D15")
@pytest.mark.parametrize(
    ("agent", "code"),
    [
        (scripted_agent([run_started(), {"type": "RUN_ERROR", "message": "no\nmilk", "code": "NO_MILK"}]), "NO_MILK"),
        (scripted_agent([{"type": "RUN_ERROR", "message": "no milk"}]), "None"),
        (scripted_agent([run_started(), INVALID]), "INVALID_EVENT_SEQUENCE"),
        (scripted_agent([run_started(), 5]), "INVALID_EVENT"),
        (raising(RuntimeError("milk")), "INCOMPLETE_STREAM"),
        (raising(AgentError("milk", code="NO_MILK")), "NO_MILK"),
        (lambda _: None, "INCOMPLETE_STREAM"),
        (Gate, "TIMEOUT"),
    ],
)
@pytest.mark.parametrize("window", [0, 1 << 20])
async def test_a_failed_run_leaves_one_warning(
    agent: Any, code: str, window: int, memory_factory: MemoryFactory, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"silence_timeout": 0.05} if agent is Gate else {}
    runner = memory_factory(live_window_bytes=window, **options)
    events = await collect(
        await runner.run(agent() if agent is Gate else agent, make_input("t\n1", "r1"), agent_id="milkman")
    )
    (record,) = failures(caplog)
    assert record.levelno == logging.WARNING
    line = record.getMessage()
    assert f"thread t\\n1: run r1 of agent milkman failed with code {code}: " in line
    assert events[-1]["message"].replace("\n", "\\n") in line


@pytest.mark.fault("D15")
async def test_a_run_that_is_stopped_or_finishes_leaves_no_warning(
    memory_factory: MemoryFactory, caplog: pytest.LogCaptureFixture
) -> None:
    runner, gate = memory_factory(), Gate()
    await collect(await runner.run(agent_with(), make_input()))
    stream = await runner.run(gate, make_input(run="r2"))
    await gate.reached.wait()
    await runner.stop("t1")
    await collect(stream)
    assert failures(caplog) == []
