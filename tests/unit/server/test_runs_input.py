"""The input of `run`: what is accepted, and the errors for what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ag_ui.core import RunAgentInput

from support.agents import agent_with
from support.asgi import client_of
from support.backends import in_memory
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner, InMemoryAgentRunner

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hel", "lo"))
STREAM = [
    "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]  # fmt: skip
RUN = "/agent/default/run"


def issues(body: dict[str, Any]) -> list[Any]:
    assert body["error"] == "Invalid request body"
    content: list[Any] = json.loads(body["details"])
    assert all(set(issue) == {"code", "path", "message"} for issue in content)
    return content


MISSING = object()
REQUIRED = {
    name: RunAgentInput.model_fields[field].is_required()
    for name, field in (("tools", "tools"), ("context", "context"), ("forwardedProps", "forwarded_props"))
}
"""Whether the installed ag-ui-protocol requires these fields, as it did before 1.0; the server then fills them in."""
WRONG = {
    "threadId": [MISSING, None, 1, 1.5, True, [], {}, ["t"], ""],
    "runId": [MISSING, None, 1, 1.5, True, [], {}, ["r"], ""],
    "messages": [MISSING, None, 1, "x", True, {}, [None], [1], ["x"], [[]], [{}]],
    "tools": [1, "x", True, {}, [None], [1], ["x"], [[]], [{}], [{"name": 1}]],
    "context": [1, "x", True, {}, [None], [1], ["x"], [[]], [{}], [{"value": 1}]],
    "parentRunId": [1, True, [], {}],
    "resume": [1, "x", True, {}, [None], [{}], [[]]],
    "protocolVersion": [1, True, [], {}],
}


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
async def test_a_field_of_a_wrong_type_is_refused(
    verb: str, field: str, value: Any, memory_factory: MemoryFactory
) -> None:
    runner = memory_factory()
    run_input = make_input() | {field: value}
    if value is MISSING:
        del run_input[field]
    answer = await client_of(runner, {"default": AGENT}).post(f"/agent/default/{verb}", run_input)
    if verb == "connect" and value == "":
        # No run is started, and connecting to such a thread is an empty stream.
        assert answer.events() == []
        return
    assert answer.status == 400
    problems = issues(answer.json())
    # The runner refuses an empty id, with a message instead of a path.
    assert value == "" or {issue["path"][0] for issue in problems} == {field}
    assert await runner.threads.list() == []


MESSAGES = [
    {"id": 1, "role": "user", "content": "x"}, {"role": "user", "content": "x"}, {"id": "m", "content": "x"},
    {"id": "m", "role": "user"}, {"id": "m", "role": "nobody", "content": "x"}, {"id": "m", "role": 1, "content": "x"},
    {"id": "m", "role": "user", "content": 1}, {"id": "m", "role": "user", "content": [1]},
    {"id": "m", "role": "user", "content": [{"type": "nothing"}]}, {"id": "m", "role": "tool", "content": "x"},
    {"id": "m", "role": "assistant", "toolCalls": [{}]}, {"id": "m", "role": "assistant", "toolCalls": "x"},
    {"id": "m", "role": "assistant", "content": {"a": 1}}, {"id": ["m"], "role": "user", "content": "x"},
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
async def test_a_message_of_a_wrong_type_is_refused(message: Any, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(RUN, make_input(messages=[message]))
    assert answer.status == 400
    assert all(issue["path"][:2] == ["messages", 0] for issue in issues(answer.json()))


@pytest.mark.parametrize("content", [b"null", b"[]", b"1", b'"x"', b"true"])
async def test_an_input_must_be_an_object(content: bytes, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(RUN, content)
    assert (answer.status, issues(answer.json())[0]["path"]) == (400, [])


WHOLE = json.dumps(make_input()).encode()


def with_state(state: bytes) -> bytes:
    return WHOLE.replace(b'"state": {}', b'"state": ' + state)


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
@pytest.mark.parametrize(
    "content",
    [
        b"", b" ", b"{", b"not json", b"\xff", b"\x00", WHOLE[:-1], WHOLE + b"}", WHOLE + WHOLE,
        b"\xef\xbb\xbf" + WHOLE,
        WHOLE.decode().encode("utf-16"), WHOLE.replace(b'"t1"', b'"\\ud800"'), b"'" + WHOLE,
        *map(
            with_state,
            [
                b"NaN", b"Infinity", b"-Infinity", b"{,}", b"[1,]",
                b'"\xed\xa0\x80"',
                b'"a\nb"', b"01", b"1.", b".1", b"+1", b"0x1", b"undefined", b"//\n1", b'"\\x41"',
                b"[" * 1_000_000, b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
            ],
        ),
    ],
    ids=lambda content: f"{len(content)} {content[:4]!r} {content[40:70]!r}" if isinstance(content, bytes) else content,
)  # fmt: skip
async def test_a_body_that_is_not_json_is_refused(verb: str, content: bytes, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(f"/agent/default/{verb}", content)
    assert answer.status == 400
    assert answer.json()["error"] == "Invalid request body"
    assert answer.json()["details"]


@pytest.mark.fault("B7")
async def test_halves_of_surrogates_in_a_body_are_taken(memory_factory: MemoryFactory) -> None:
    runner = memory_factory()
    client = client_of(runner, {"default": AGENT})
    message = b'[{"id":"m","role":"user","content":"a\\ud83d \\ud83d\\ude00"}]'
    for number, state in enumerate((b"{}", b'{"\\ud800":"\\udc00\\ud800"}')):
        body = json.dumps(make_input("t1", f"r{number}")).encode()
        body = body.replace(b'"messages": []', b'"messages": ' + message).replace(b'"state": {}', b'"state": ' + state)
        answer = await client.post(RUN, body)
        assert answer.status == 200
        assert event_types(answer.events())[-1] == "RUN_FINISHED"
    assert (await runner.threads.messages("t1"))[0]["content"] == "a\ud83d \U0001f600"
    # JSON has no such word, and it does not become valid because of a half elsewhere.
    assert (await client.post(RUN, body.replace(state, b'["\\ud800",NaN]'))).status == 400


async def test_numbers_that_json_parsers_round_are_accepted(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    for n, number in enumerate((b"1e999", b"-1e999", b"1" * 5_000, b"0." + b"1" * 5_000, b"1e-999", b"-0", b"2e308")):
        content = json.dumps(make_input(f"t{n}", f"r{n}")).encode().replace(b'"state": {}', b'"state": %s' % number)
        answer = await client.post(RUN, content)
        assert answer.status in (200, 400), number
        if answer.status == 200:
            assert event_types(answer.events()) == STREAM
            assert event_types((await client.get(f"/threads/t{n}/events")).json()["events"])[-1] == "RUN_FINISHED"


@in_memory
@pytest.mark.parametrize(("levels", "status"), [(126, 200), (127, 200), (128, 400), (200, 400), (1_000, 400)])
@pytest.mark.parametrize("field", ["state", "forwardedProps", "messages", "unknown"])
async def test_nesting_is_accepted_up_to_a_limit(levels: int, status: int, field: str, runner: AgentRunner) -> None:
    # The input is a level itself; a message in its list adds two.
    depth = levels - (3 if field == "messages" else 1)
    deep = "[" * depth + "]" * depth
    if field == "messages":
        deep = f'[{{"id":"m","role":"user","content":"x","unknown":{deep}}}]'
    content = f'{{"{field}":{deep},{json.dumps({k: v for k, v in make_input().items() if k != field})[1:]}'
    answer = await client_of(runner, {"default": AGENT}).post(RUN, content.encode())
    assert answer.status == status
    if status == 200:
        assert f'"{field}":{deep}'.encode() in answer.body


async def test_the_last_of_duplicate_keys_wins(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    content = b'{"threadId":"first","threadId":"t1","state":{"a":1,"a":2},' + WHOLE[1:].replace(b'"state": {}, ', b"")
    answer = await client.post(RUN, content)
    assert answer.events()[0]["input"]["state"] == {"a": 2}
    assert [thread.thread_id for thread in await runner.threads.list()] == ["t1"]


@in_memory
@pytest.mark.parametrize(
    ("field", "value", "seen"),
    [
        ("state", None, MISSING), ("state", [], []), ("state", "x", "x"), ("state", 0, 0), ("state", False, False),
        ("state", {"a": None}, {"a": None}), ("forwardedProps", None, MISSING),
        ("forwardedProps", {"a": None}, {"a": None}),
        ("tools", None, MISSING), ("context", None, MISSING), ("parentRunId", None, MISSING), ("resume", None, MISSING),
        ("protocolVersion", None, MISSING), ("tools", MISSING, MISSING), ("context", MISSING, MISSING),
        ("state", MISSING, MISSING), ("forwardedProps", MISSING, MISSING), ("unknown", {"x": [1]}, {"x": [1]}),
    ],
)  # fmt: skip
async def test_an_optional_field_may_be_null(field: str, value: Any, seen: Any, runner: AgentRunner) -> None:
    run_input = make_input(protocolVersion="1.0") | {field: value}
    if value is MISSING:
        del run_input[field]
    answer = await client_of(runner, {"default": AGENT}).post(RUN, run_input)
    assert event_types(answer.events()) == STREAM
    # Clients refuse an optional field that is null.
    if seen is MISSING and REQUIRED.get(field):
        seen = {} if field == "forwardedProps" else []
    assert answer.events()[0]["input"].get(field, MISSING) == seen
