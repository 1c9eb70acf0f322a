"""Bodies made to keep the event loop busy: refused early, in few words, or read in slices."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import _core
from agentrunner.running import input_encoding, inputs
from agentrunner.server import Limits, bodies, create_app, runs, sse
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("A1")
PATHS = ("/agent/default/run", "/agent/default/connect", "/agent/default/suggest", "/", "/default")
MAX_ANSWER_BYTES = 16 * 1024


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def app_of(runner: AgentRunner, **options: Any) -> Any:
    return create_app(runner, {"default": agent_with(*text_message("m", "hello"))}, **options)


def user_messages(count: int) -> list[dict[str, Any]]:
    return [{"id": f"u{number}", "role": "user", "content": "x"} for number in range(count)]


def body_of(**fields: Any) -> bytes:
    return json.dumps(make_input() | fields).encode()


TOO_MANY_VALUES = [
    body_of(messages=[{}] * 1000),
    body_of(tools=[0] * 1000),
    body_of(state={str(number): 0 for number in range(500)}),
    b'[' * 100 + b'0,' * 1000,
    b'{"threadId":"t",' + b'"k":0,' * 500,
    json.dumps({"method": "agent/run", "params": [[]] * 1000}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", TOO_MANY_VALUES)
async def test_a_body_of_too_many_values_is_refused_before_anything_parses_it(
    body: bytes, runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(_: bytes) -> Any:
        pytest.fail("the body was parsed")

    for module in (bodies, runs):
        monkeypatch.setattr(module.orjson, "loads", parse)
    async with client(app_of(runner, mode="both", limits=Limits(body_values=500))) as http:
        for path in (*PATHS, "/agent/default/stop/t"):
            answer = await http.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 413, path
            assert answer.content.endswith(b'"A body has at most 500 JSON values"}')


@pytest.mark.fault("B7")
@pytest.mark.parametrize(
    "body",
    [
        b'["\\ud800",' + b"[" * 1100 + b"]" * 1100 + b",0" * 1000 + b"]",
        # `\\ud8` in two characters of UTF-16, where quotes and commas are followed by zeros.
        '{"\u755c\u3864":[0,0,0]}'.encode("utf-16-le"),
        b'\xef\xbb\xbf["\\ud800"]',
        b'["\\ud800","\xed\xa0\x80"]',
        b'["\\ud800",-Infinity]',
        b'["\\ud800",1e999]',
        b'["\\ud800",' + b"1" * 5000 + b"]",
        b'["\\ud800"',
    ],
)
async def test_what_orjson_would_not_count_is_not_parsed_because_of_half_a_surrogate(body: bytes) -> None:
    assert await bodies.load_json(body) is None


@pytest.mark.fault("B7")
async def test_a_body_with_halves_of_surrogates_is_parsed_like_others(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    def parse(body: bytes) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse_halves(body)

    parse_halves = bodies._parse_halves
    monkeypatch.setattr(bodies, "_parse_halves", parse)
    numbers = json.dumps([2**64 - 1, -(2**63), 10**30, -1.5, 1e300, 0, 7]).encode()
    as_orjson = await bodies.load_json(numbers)
    assert repr(await bodies.load_json(b'{"\\uDC00":' + numbers + b"}")) == repr({"\udc00": as_orjson})
    assert threads == [True]
    content = "\ud83d" + "x" * 300_000
    async with client(app_of(runner, mode="both", limits=Limits(body_values=100))) as http:
        headers = {"content-type": "application/json"}
        for number, path in enumerate(PATHS[:1] + PATHS[3:]):
            message = {"id": f"u{number}", "role": "user", "content": content}
            body = body_of(runId=f"r{number}", messages=[message])
            assert (await http.post(path, content=body, headers=headers)).status_code == 200
            too_many = body_of(runId="many", messages=[message], state=[0] * 100)
            assert (await http.post(path, content=too_many, headers=headers)).status_code == 413
    assert len(threads) > 3
    assert not any(threads[1:])
    messages = await runner.threads.messages("t1")
    assert [message["content"] for message in messages if message["role"] == "user"] == [content] * 3


async def test_text_in_strings_does_not_count_as_values(runner: AgentRunner) -> None:
    messages = [{"id": "u", "role": "user", "content": '[,{:"' * 10_000}]
    async with client(app_of(runner, limits=Limits(body_values=50))) as http:
        assert (await http.post("/agent/default/run", json=make_input() | {"messages": messages})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"messages": user_messages(4)}, "4 messages"),
        ({"tools": [{}] * 4}, "4 tools"),
        ({"context": [0] * 4}, "4 context"),
        ({"resume": [None] * 4}, "4 resume"),
        ({"messages": [{"id": "u", "role": "user", "content": [0] * 4}]}, "4 content of a message"),
        ({"messages": [{"id": "u", "role": "assistant", "toolCalls": [{}] * 4}]}, "4 toolCalls of a message"),
    ],
)
async def test_a_list_of_too_many_items_is_refused_by_its_name(
    fields: dict[str, Any], name: str, runner: AgentRunner
) -> None:
    limits = Limits(messages=3, tools=3, context=3, resume=3, message_parts=3)
    async with client(app_of(runner, mode="both", limits=limits)) as http:
        for path in PATHS:
            answer = await http.post(path, json=make_input() | fields)
            assert answer.status_code == 413, path
            assert f"the run's input has {name}, over the limit of 3" in answer.json()["message"]
    assert await runner.threads.list() == []


LONG = "x" * 8_000
WRONG = [
    {"messages": [{}] * 3000}, {"messages": [0] * 3000}, {"messages": [{"role": "nobody" * 1000, LONG: 0}]},
    {"messages": [{"id": "u", "role": "user", "content": [0] * 900}] * 3}, {"tools": [{LONG: 0}] * 900},
    {"messages": [{"id": "u", "role": "user", "content": [{"type": LONG}] * 3}]}, {"threadId": [0] * 3000},
    {"messages": [*user_messages(2000), {"id": "u", "role": "user", "content": 7}]}, {"runId": LONG},
    {"messages": [{"id": "u", "role": "user", "content": "x", "metadata": [LONG]}]}, {"context": [LONG, {}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", WRONG)
async def test_an_answer_lists_at_most_ten_short_issues(fields: dict[str, Any], runner: AgentRunner) -> None:
    async with client(app_of(runner)) as http:
        for path in PATHS[:3]:
            answer = await http.post(path, json=make_input() | fields)
            if path.endswith("connect") and "runId" in fields:
                continue
            assert answer.status_code == 400
            assert len(answer.content) < MAX_ANSWER_BYTES
            assert 0 < len(json.loads(answer.json()["details"])) <= 10


async def test_an_issue_names_its_message_in_any_slice(runner: AgentRunner) -> None:
    messages = [*user_messages(2000), {"id": "u", "role": "user", "content": 7}, *user_messages(10)]
    async with client(app_of(runner)) as http:
        answer = await http.post("/agent/default/run", json=make_input() | {"messages": messages})
    first_issue = json.loads(answer.json()["details"])[0]
    assert first_issue["path"] == ["messages", 2000, "user", "content", "str"]


async def test_many_messages_are_read_in_slices(runner: AgentRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[Any] = user_messages(2000)
    messages[7]["content"] = [{"type": "text", "text": "x"}] * 600
    sizes: list[int] = []
    adapter = inputs._message_list()

    class Measured:
        def validate_python(self, value: list[Any]) -> Any:
            sizes.append(sum(len(message["content"]) for message in value))
            return adapter.validate_python(value)

    monkeypatch.setattr(inputs, "_message_list", Measured)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    stream = await runner.run(agent_with(*text_message("m", "hello")), make_input() | {"messages": messages})
    counting.cancel()
    assert max(sizes) <= 600 + 2 * input_encoding.SLICE_ITEMS
    # Other tasks had their turn between the slices, both while they were checked and while they were written.
    assert turns > 2 * len(sizes) > 15
    started = (await anext(aiter(stream))).to_dict()
    assert started["input"]["messages"] == messages
    assert {name: started["input"][name] for name in ("threadId", "tools")} == {"threadId": "t1", "tools": []}


async def test_a_runner_without_http_refuses_too_many_items_and_names_few_issues(runner: AgentRunner) -> None:
    agent = agent_with(*text_message("m", "hello"))
    for fields, text in (
        ({"messages": [{}] * 100_001}, "100001 messages"),
        ({"messages": [{"id": "u", "role": "user", "content": [0] * 10_001}]}, "10001 content of a message"),
    ):
        with pytest.raises(inputs.InputTooLarge, match=text):
            await runner.run(agent, make_input() | fields)
    with pytest.raises(inputs.InvalidInput) as refusal:
        await runner.run(agent, make_input() | {"messages": [{LONG: 0}] * 9_000})
    assert len(refusal.value.issues) == 10
    assert len(str(refusal.value)) < MAX_ANSWER_BYTES


async def test_a_long_body_is_counted_and_checked_in_a_worker_thread(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[str] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(data: bytes, *options: Any) -> Any:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return function(data, *options)
            on_loop.append(name)
            return function(data, *options)

        return call

    core = type("Core", (), {name: getattr(_core, name) for name in dir(_core) if not name.startswith("__")})
    for name in ("count_values", "check_input"):
        setattr(core, name, staticmethod(note(name, getattr(_core, name))))
    monkeypatch.setattr(bodies, "_core", core)
    monkeypatch.setattr(inputs, "_core", core)
    async with client(app_of(runner)) as http:
        for length, names in ((1_000_000, []), (10, ["count_values", "check_input"])):
            messages = [{"id": "u", "role": "user", "content": "x" * length}]
            run_input = make_input("t", f"r{length}") | {"messages": messages}
            assert (await http.post("/agent/default/run", json=run_input)).status_code == 200
            assert on_loop == names


async def test_a_long_page_is_rewritten_for_older_clients_in_a_worker_thread() -> None:
    threads: list[threading.Thread] = []

    class Page(bytes):
        def for_legacy_clients(self) -> bytes:
            threads.append(threading.current_thread())
            return bytes(self)

    async def pages() -> AsyncIterator[Any]:
        yield Page(b": x\n\n")
        yield Page(b": %s\n\n" % (b"x" * sse.CHUNK_BYTES))

    async def stay_connected() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        """Take a part of the stream."""

    response = sse.EventStreamResponse(pages(), Limits(), legacy=True)  # type: ignore[arg-type]
    await response({"type": "http"}, stay_connected, send)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


async def test_a_connect_searches_the_history_once_for_all_messages(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0

    def find_ids(*arguments: Any) -> set[str]:
        nonlocal searches
        searches += 1
        return _core.find_ids(*arguments)

    async with client(app_of(runner)) as http:
        await http.post("/agent/default/run", json=make_input())
        core = type("Core", (), {name: getattr(_core, name) for name in ("snapshot", "Frames")})
        core.find_ids = staticmethod(find_ids)  # type: ignore[attr-defined]
        monkeypatch.setattr("agentrunner.reading.snapshot._core", core)
        answer = await http.post("/agent/default/connect", json=make_input() | {"messages": user_messages(3000)})
    assert answer.content.count(b'"id":"u') == 3000
    assert searches == 1
