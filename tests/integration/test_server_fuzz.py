"""Whatever is sent is answered, as it is described; and whatever an agent says arrives as it was said, and no more."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from agentrunner import InMemoryAgentRunner, compact
from agentrunner.server import create_app
from agentrunner.server.openapi import build_openapi
from support.agents import agent_with
from support.events import run_finished, run_started, text_message
from support.inputs import make_input
from support.random_events import Dice, parsed
from support.serving import serving
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agentrunner import AgentRunner

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))
"""How many random requests are tried of each operation, beside those at its limits."""
EVENTS = 100_000
RUNS = 10


def make() -> Any:
    return create_app(
        InMemoryAgentRunner(), {"default": agent_with(*text_message("m", "hello")), "other": agent_with()}
    )


schema = schemathesis.openapi.from_dict(build_openapi(make().context))


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
    app = create_app(memory_factory(), {"default": agent_with()}, base_path="/api/")
    async with client(app) as http:
        described = (await http.get("/openapi.json")).json()
    assert described["openapi"] == "3.1.0"
    assert all(path.startswith("/api/") for path in described["paths"])


# What an agent says cannot be taken for a frame


@pytest.mark.parametrize("seed", range(RUNS))
async def test_what_an_agent_says_arrives_and_no_frame_more(
    seed: int, memory_factory: Callable[..., AgentRunner]
) -> None:
    dice = Dice(seed)
    events = dice.events(EVENTS // RUNS)

    async def agent(input: Any) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in events:
            yield dice.written(event)
        yield run_finished(input.thread_id, input.run_id)

    asked = make_input(f"t{seed}\n\ndata: {{}}", "r\r\nid: 7", protocolVersion="1.0")
    begun = run_started(asked["threadId"], asked["runId"], input=asked)
    said = [begun, *events, run_finished(asked["threadId"], asked["runId"])]
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
