"""Ids, events and numbers that look odd and are kept exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agentrunner import (
    AgentRunner,
    InvalidInput,
)
from support.agents import agent_with
from support.bad_input import make_nested
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    pass


ODD = [
    'quote"s', "back\\slash", "sl/ash/../..", "line\nbreak\r\n", "tab\t\x01", "' OR 1=1; --", "名前", "مرحبا", "🙂",
    " ", "%2e%2e", "data: x\n\n", "<script>", "\u2028", "e\u0301", "\ufeff",
]  # fmt: skip


async def test_an_id_with_a_nul_character_is_kept_or_refused(runner: AgentRunner) -> None:
    odd = "nul\0id"
    for run_input in (make_input(odd, "r1"), make_input("t", odd), make_input("m", "r2", messages=[odd])):
        try:
            await collect(await runner.run(agent_with(), run_input))
        except InvalidInput:
            # PostgreSQL cannot store text with a NUL.
            assert run_input["threadId"] not in {thread.thread_id for thread in await runner.threads.list()}
        else:
            started = (await runner.threads.events(run_input["threadId"]))[0].to_dict()
            assert (started["threadId"], started["runId"]) == (run_input["threadId"], run_input["runId"])


@pytest.mark.parametrize("odd", ODD, ids=ascii)
async def test_ids_of_any_script_are_kept(runner: AgentRunner, odd: str) -> None:
    run_input = make_input(odd, f"run {odd}", messages=[f"message {odd}"])
    events = await collect(await runner.run(agent_with(*text_message(odd, odd)), run_input))
    assert (events[0]["threadId"], events[0]["runId"]) == (odd, f"run {odd}")
    assert events[1:-1] == text_message(odd, odd)
    assert await collect(await runner.connect(odd)) == events
    assert [m["id"] for m in await runner.threads.messages(odd)] == [f"message {odd}", odd]
    assert [thread.thread_id for thread in await runner.threads.list()] == [odd]
    more = make_input(odd, "r2", messages=[f"message {odd}", "new"])
    assert [m["id"] for m in (await collect(await runner.run(agent_with(), more)))[0]["input"]["messages"]] == ["new"]
    await runner.threads.rename(odd, odd)
    assert (await runner.threads.list())[0].name == odd
    await runner.threads.delete(odd)
    assert await runner.threads.list() == []


KEPT = [
    b'{"type":"CUSTOM","name":"nul","value":"a\\u0000b"}',
    b'{"type":"CUSTOM","name":"half","value":"\\ud83d"}',
    b'{"type":"CUSTOM","name":"null","value":null}',
    b'{"value":1,"zebra":2,"name":"order","apple":{"z":1,"a":2},"type":"CUSTOM"}',
    b'{"type":"CUSTOM","name":"big","value":123456789012345678901234567890}',
    b'{"type":"CUSTOM","name":"exact","value":[1.0,1e2,0.1000,-0.0,1E400]}',
    b'{"type":"CUSTOM","name":"same key twice","value":{"a":1,"a":2}}',
    b'{"type":"CUSTOM","name":"escaped","value":"\\u00e9\\/"}',
    b'{"type":"BRAND_NEW","messageId":"","anything":[{"deep":null}]}',
    b'{"type":"message","content":"opaque"}',
    b'{"type":"STATE_SNAPSHOT","snapshot":null}',
    json.dumps(make_nested(100), separators=(",", ":")).encode(),
]


@pytest.mark.parametrize("data", KEPT, ids=lambda data: data[:60].decode())
async def test_an_event_is_kept_byte_for_byte(runner: AgentRunner, data: bytes) -> None:
    live = [bytes(event) async for event in await runner.run(agent_with(data), make_input())]
    assert live[1] == data
    stored = [bytes(event) async for event in await runner.connect("t1")]
    assert stored[1] == data
    assert len(stored) == 3


async def test_halves_of_a_character_join(runner: AgentRunner) -> None:
    one, two = (
        b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"\\u%s"}' % half for half in (b"d83d", b"de42")
    )
    live = await runner.run(agent_with(text_message("m1")[0], one, two, text_message("m1")[1]), make_input())
    assert [bytes(event) async for event in live][2:4] == [one, two]
    (message,) = await runner.threads.messages("t1")
    assert message["content"] == "🙂"


async def test_a_big_integer_of_a_dict_is_kept(runner: AgentRunner) -> None:
    event = {"type": "CUSTOM", "name": "big", "value": 2**100 + 1}
    seen = (await collect(await runner.run(agent_with(event), make_input())))[1]
    assert repr(seen) == repr(event)


async def test_fields_that_are_none_are_never_written(runner: AgentRunner) -> None:
    from ag_ui.core import CustomEvent, StateSnapshotEvent, TextMessageStartEvent

    start = {**text_message("m1")[0], "timestamp": None, "name": None, "subagentRunId": None, "metadata": None}
    null = json.dumps({**start, "messageId": "m2"}).encode()
    end = [{"type": "TEXT_MESSAGE_END", "messageId": f"m{n}"} for n in (1, 2, 3)]
    model = TextMessageStartEvent(message_id="m3", role="assistant", timestamp=None, name=None)
    kept = [CustomEvent(name="n", value=None), StateSnapshotEvent(snapshot=None)]
    agent = agent_with(start, end[0], null, end[1], model, end[2], *kept)
    events = await collect(await runner.run(agent, make_input()))
    assert events[1:7:2] == [{**text_message("m1")[0], "messageId": f"m{n}"} for n in (1, 2, 3)]
    assert events[7:9] == [
        {"type": "CUSTOM", "name": "n", "value": None},
        {"type": "STATE_SNAPSHOT", "snapshot": None},
    ]
    assert await collect(await runner.connect("t1")) == events
