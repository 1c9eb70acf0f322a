"""Arguments of the wrong type: the runner refuses them, and changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InvalidCursor, InvalidInput
from support.agents import Gate, agent_with
from support.backends import embedded
from support.events import event_types, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = text_message("m1", "x")

CALLS: dict[str, Callable[[AgentRunner, Any], Any]] = {
    "connect": lambda runner, value: runner.connect(value),
    "snapshot": lambda runner, value: runner.snapshot(value),
    "is_running": lambda runner, value: runner.is_running(value),
    "stop": lambda runner, value: runner.stop(value),
    "get": lambda runner, value: runner.threads.get(value),
    "events": lambda runner, value: runner.threads.events(value),
    "fold": lambda runner, value: runner.threads.fold(value),
    "messages": lambda runner, value: runner.threads.messages(value),
    "state": lambda runner, value: runner.threads.state(value),
    "rename": lambda runner, value: runner.threads.rename(value, "x"),
    "archive": lambda runner, value: runner.threads.archive(value),
    "delete": lambda runner, value: runner.threads.delete(value),
}


@embedded
@pytest.mark.parametrize("value", [None, 5, b"t", ["t"], "\ud800"], ids=ascii)
async def test_a_thread_id_that_is_no_text_is_refused(runner: AgentRunner, value: Any) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t"))
    for name, call in CALLS.items():
        with pytest.raises(InvalidInput, match="thread_id must be"):
            pytest.fail(f"{name} returned {await call(runner, value)!r}")
    if value is not None:
        with pytest.raises(InvalidInput, match="thread_id must be"):
            await runner.recover(value)
    assert await runner.is_running("t")
    gate.open()
    await collect(stream)
    (thread,) = await runner.threads.list()
    assert (thread.thread_id, thread.name, thread.archived, thread.runs) == ("t", None, False, 1)


ARGUMENTS: dict[str, Callable[[AgentRunner], Any]] = {
    "run_id must be": lambda runner: runner.stop("t", 5),  # type: ignore[arg-type]
    "name must be": lambda runner: runner.threads.rename("t", 5),  # type: ignore[arg-type]
    "archived must be": lambda runner: runner.threads.archive("t", "no"),  # type: ignore[arg-type]
    "limit must be": lambda runner: runner.threads.list(limit="5"),  # type: ignore[arg-type]
    "before must be": lambda runner: runner.threads.list(before="t"),  # type: ignore[arg-type]
    "include_archived must be": lambda runner: runner.threads.list(include_archived=1),  # type: ignore[arg-type]
    "agent_id must be a str": lambda runner: runner.threads.list(agent_id=5),  # type: ignore[arg-type]
    "scope must be a str": lambda runner: runner.threads.list(scope=5),  # type: ignore[arg-type]
    "scope must be valid": lambda runner: runner.threads.clear(scope="\ud800"),
    "scope must be a str, not list": lambda runner: runner.threads.clear(scope=["a"]),  # type: ignore[arg-type]
    "known must be": lambda runner: runner.connect("t", known=5),  # type: ignore[arg-type]
    "known must be a list": lambda runner: runner.connect("t", known="m1"),  # type: ignore[arg-type]
    "each message": lambda runner: runner.connect("t", known=[5]),  # type: ignore[list-item]
    "the id of a message": lambda runner: runner.connect("t", known=[{"id": ["m"]}]),
    "a message of known cannot": lambda runner: runner.connect("t", known=[{"id": "m", "content": object()}]),
}


@embedded
@pytest.mark.parametrize("text", ARGUMENTS)
async def test_an_argument_of_the_wrong_type_is_refused(runner: AgentRunner, text: str) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input("t")))
    with pytest.raises(InvalidInput, match=text):
        await ARGUMENTS[text](runner)
    (thread,) = await runner.threads.list()
    assert (thread.thread_id, thread.name, thread.archived, thread.runs) == ("t", None, False, 1)


@embedded
async def test_a_cursor_that_is_no_str_is_refused(runner: AgentRunner) -> None:
    with pytest.raises(InvalidCursor, match="must be a str, not int"):
        await runner.connect("t", after=5)  # type: ignore[arg-type]


@embedded
@pytest.mark.parametrize(
    "agent",
    [None, 5, "agent", object(), {"default": agent_with()}],
    ids=["None", "a number", "a name", "an object", "a mapping"],
)
async def test_an_agent_that_cannot_be_called_is_refused_before_anything_starts(
    runner: AgentRunner, agent: Any
) -> None:
    with pytest.raises(
        InvalidInput, match=rf"function of the input, or an object with `run\(input\)`, not {type(agent).__name__}"
    ):
        await runner.run(agent, make_input())
    assert await runner.threads.list() == []
    await collect(await runner.run(agent_with(), make_input()))


@embedded
@pytest.mark.parametrize("options", [{"scope": 5}, {"headers": 5}, {"agent_id": 5}, {"agent_id": "\ud800"}], ids=ascii)
async def test_an_option_of_run_that_has_the_wrong_type_is_refused(runner: AgentRunner, options: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(options))} must be"):
        await runner.run(agent_with(), make_input(), **options)
    assert await runner.threads.list() == []
    await collect(await runner.run(agent_with(), make_input()))


class EventClass:
    """A class that an agent yields in place of an object."""

    def model_dump_json(self, **_: Any) -> str:
        return json.dumps(run_started())


@embedded
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (None, "must be a dict, an `ag_ui` model, or JSON text, not NoneType"),
        ([run_started()], "must be a dict, an `ag_ui` model, or JSON text, not list"),
        (EventClass, "not the class EventClass"),
        ("Hello", "must yield events, not text; to yield text, decorate it with `text_agent`"),
        ("", "decorate it with `text_agent`"),
        ("5", "decorate it with `text_agent`"),
    ],
    ids=repr,
)
async def test_the_error_for_a_value_that_is_no_event_tells_what_to_yield(
    runner: AgentRunner, event: Any, text: str, is_first: bool
) -> None:
    events = await collect(await runner.run(agent_with(event) if not is_first else only(event), make_input()))
    assert event_types(events)[-1] == "RUN_ERROR"
    assert events[-1]["code"] == "INVALID_EVENT"
    assert text in events[-1]["message"]


def only(event: Any) -> Any:
    async def agent(_: Any) -> Any:
        yield event

    return agent


@embedded
async def test_drain_with_a_time_that_is_no_number_refuses_nothing(runner: AgentRunner) -> None:
    with pytest.raises(TypeError):
        await runner.drain("x")  # type: ignore[arg-type]
    assert not runner.is_draining
    await collect(await runner.run(agent_with(), make_input()))
