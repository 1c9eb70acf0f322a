"""Whatever is sent is answered, as it is described; and whatever an agent says arrives as it was said, and no more."""

from __future__ import annotations

import json
import os
import uuid
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from wire import client

from agentrunner import InMemoryAgentRunner, compact
from agentrunner.server import create_app
from agentrunner.server.openapi import openapi
from conftest import finished, make_input, saying, started, text
from serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agentrunner import AgentRunner

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))
"""How many random requests are tried of each operation, beside those at its limits."""
EVENTS = 100_000
RUNS = 10


def make() -> Any:
    return create_app(InMemoryAgentRunner(), {"default": saying(*text("m", "hello")), "other": saying()})


schema = schemathesis.openapi.from_dict(openapi(make().state.server))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(make()) as at:
        yield at


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_what_is_described_is_what_happens(case: Any, url: str) -> None:
    run_id = case.body.get("runId") if isinstance(case.body, dict) else None
    if isinstance(run_id, str) and 0 < len(run_id) <= 1024:
        # A run id is used once.
        fresh = str(uuid.uuid4())
        case.body["runId"] = run_id[: 1024 - len(fresh)] + fresh
    without = []
    if case.operation.path.endswith(("/connect", "/stop/{threadId}")):
        # What cannot be there needs no checking: these answer an id that is too long as one that is unknown.
        without.append(negative_data_rejection)
    if (case.query or {}).get("cursor") or (case.headers or {}).get("Last-Event-ID") or _last_seen(case.body):
        # No description tells which cursors there are.
        without.append(positive_data_acceptance)
    answer = case.call_and_validate(base_url=url, timeout=10, excluded_checks=without)
    assert answer.status_code not in range(500, 600)


def _last_seen(body: Any) -> Any:
    return body.get("lastSeenEventId") if isinstance(body, dict) else None


async def test_the_description_is_served(memory_factory: Callable[..., AgentRunner]) -> None:
    app = create_app(memory_factory(), {"default": saying()}, base_path="/api/")
    async with client(app) as http:
        described = (await http.get("/openapi.json")).json()
    assert described["openapi"] == "3.1.0"
    assert all(path.startswith("/api/") for path in described["paths"])


# What an agent says cannot be taken for a frame

BITS = [
    "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "data:", "data: {}", "id:", "id: 7", "event: x", "retry: 1", ":",
    ": keep-alive", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\0", "\ufeff", "\ud800", "\udfff",
    "\udc00\ud800", "é", "🙂", '"', "\\", "\\n", "</script>", " ", "", "a",
]  # fmt: skip


class Dice(Random):
    def text(self) -> str:
        said = "".join(self.choices(BITS, k=self.randrange(8))) * (500 if self.random() < 0.002 else 1)
        # Two halves that have met are a whole.
        return said.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def name(self) -> str:
        """Ids and kinds are whole text of bounded length: anything else is refused."""
        return self.text()[:100].encode("utf-8", "ignore").decode()

    def value(self, depth: int = 0) -> Any:
        kind = self.randrange(8 if depth < 2 else 5)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.randrange(3))]
        if kind > 4:
            return {self.text(): self.value(depth + 1) for _ in range(self.randrange(3))}
        return [None, True, self.randrange(-(10**25), 10**25), self.random(), self.text()][kind]

    def events(self, count: int) -> list[dict[str, Any]]:
        """Valid events between the two ends of a run, as many as are said."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            kind, extra = self.randrange(5), {self.text() + "~": self.value()} if self.random() < 0.2 else {}
            if kind == 0 and count - len(found) > 5:
                message = f"{len(found)}{self.name()}"
                found += text(message, *(self.text() + "." for _ in range(3)))
            elif kind == 1:
                found.append({"type": "RAW", "event": self.value(), "source": self.text()} | extra)
            elif kind == 2:
                found.append({"type": "FROM_THE_FUTURE" + self.name(), "what": self.value()} | extra)
            elif kind == 3:
                found.append({"type": "STATE_SNAPSHOT", "snapshot": {self.text(): self.value()}} | extra)
            else:
                found.append({"type": "CUSTOM", "name": self.text() + "n", "value": self.value()} | extra)
        return found

    def written(self, event: dict[str, Any]) -> Any:
        """Give an event in one of the ways agents have."""
        plain = json.dumps(event, ensure_ascii=True)
        way = self.randrange(4)
        if way == 0:
            # JSON with line breaks between its tokens.
            return json.dumps(event, indent=self.choice(["\n", "\r\n", "\n\n", "\t"])).encode()
        if way == 1:
            return plain
        if way == 2:
            return plain.encode()
        # A dict cannot be written where a text in it is no UTF-8.
        return event if "\\ud" not in plain else plain


def parsed(body: bytes) -> list[tuple[str, str]]:
    """Parse an event stream as the HTML standard says; give each event's last id and data. No frame may say more."""
    lines = body.decode("utf-8", "strict").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines.pop() == ""
    found: list[tuple[str, str]] = []
    last_id, data, fields = "", [], []
    for line in lines:
        if line == "":
            assert fields == ["id", "data"], fields
            found.append((last_id, "\n".join(data)))
            data, fields = [], []
            continue
        assert not line.startswith(":")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields.append(name)
        if name == "id" and "\0" not in value:
            last_id = value
        elif name == "data":
            data.append(value)
    assert not fields
    return found


@pytest.mark.parametrize("seed", range(RUNS))
async def test_what_an_agent_says_arrives_and_no_frame_more(
    seed: int, memory_factory: Callable[..., AgentRunner]
) -> None:
    dice = Dice(seed)
    events = dice.events(EVENTS // RUNS)

    async def agent(input: Any) -> AsyncIterator[Any]:
        yield started(input.thread_id, input.run_id)
        for event in events:
            yield dice.written(event)
        yield finished(input.thread_id, input.run_id)

    asked = make_input(f"t{seed}\n\ndata: {{}}", "r\r\nid: 7", protocolVersion="1.0")
    begun = started(asked["threadId"], asked["runId"], input=asked)
    said = [begun, *events, finished(asked["threadId"], asked["runId"])]
    app = create_app(memory_factory(), {"default": agent})
    async with client(app) as http:
        frames = parsed((await http.post("/agent/default/run", json=asked)).content)
        assert len(frames) == len(said), frames[-1]
        assert [cursor for cursor, _ in frames] == [str(number + 1) for number in range(len(said))]
        assert [json.loads(data) for _, data in frames] == said
        again = parsed((await http.post("/agent/default/connect", json=asked)).content)
        short = [event.to_dict() for event in compact([json.dumps(event) for event in said])]
        assert len(short) < len(said)
        assert [cursor for cursor, _ in again] == [f"{len(said)}.{number}" for number in range(len(short))]
        assert [json.loads(data) for _, data in again] == short
        # Read on from the middle of it.
        for cursor in (len(short) // 2, len(short) - 1):
            headers = {"last-event-id": f"{len(said)}.{cursor}"}
            rest = parsed((await http.post("/agent/default/connect", json=asked, headers=headers)).content)
            assert rest == again[cursor + 1 :]
        assert (await http.get(f"/threads/{quote(asked['threadId'])}/events")).json()["events"] == short


@pytest.mark.parametrize(
    "body",
    [
        b"id: 1\ndata: {}\n\ndata: {}\n\n", b"id: 1\ndata: {}\ndata: {}\n\n", b"id: 1\ndata: {\r}\n\n", b"data: {}\n\n",
        b"id: 1\ndata: {}\n", b"id: 1\nid: 2\ndata: {}\n\n", b"id: 1\nevent: x\ndata: {}\n\n", b"id: 1\n\ndata: {}\n\n",
        b"\n\n", b"id: 1\ndata: {}\n\n\n", b": x\n\n", b"id: 1\ndata: {}",
    ],
)  # fmt: skip
def test_the_parser_takes_no_frame_that_says_more(body: bytes) -> None:
    with pytest.raises(AssertionError):
        parsed(body)
