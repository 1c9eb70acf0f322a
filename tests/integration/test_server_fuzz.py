"""Random requests get the responses OpenAPI describes; random events arrive unchanged."""

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
from support.random_events import Dice, parse_frames
from support.serving import serving
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agentrunner import AgentRunner

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))
"""Random requests to each operation, beside those at its limits."""
EVENTS = 20_000
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
def test_responses_are_as_described(case: Any, url: str) -> None:
    run_id = case.body.get("runId") if isinstance(case.body, dict) else None
    if isinstance(run_id, str) and 0 < len(run_id) <= 1024:
        # A run id can be used only once.
        fresh = str(uuid.uuid4())
        case.body["runId"] = run_id[: 1024 - len(fresh)] + fresh
    without = []
    if case.operation.path.endswith(("/connect", "/stop/{threadId}")):
        # These routes answer an id that is too long like an unknown one, with success.
        without.append(negative_data_rejection)
    if (case.query or {}).get("cursor") or (case.headers or {}).get("Last-Event-ID") or _last_seen(case.body):
        # OpenAPI cannot describe which cursors exist.
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


# No event of an agent can be taken for a frame


@pytest.mark.parametrize("seed", range(RUNS))
async def test_random_events_arrive_unchanged(seed: int, memory_factory: Callable[..., AgentRunner]) -> None:
    dice = Dice(seed)
    events = dice.events(EVENTS // RUNS)

    async def agent(input: Any) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in events:
            yield dice.encode_event(event)
        yield run_finished(input.thread_id, input.run_id)

    run_input = make_input(f"t{seed}\n\ndata: {{}}", "r\r\nid: 7", protocolVersion="1.0")
    begun = run_started(run_input["threadId"], run_input["runId"], input=run_input)
    sent = [begun, *events, run_finished(run_input["threadId"], run_input["runId"])]
    app = create_app(memory_factory(keep_raw_events=True), {"default": agent})
    async with client(app) as http:
        frames = parse_frames((await http.post("/agent/default/run", json=run_input)).content)
        assert len(frames) == len(sent), frames[-1]
        assert [cursor for cursor, _ in frames] == [str(number + 1) for number in range(len(sent))]
        assert [json.loads(data) for _, data in frames] == sent
        again = parse_frames((await http.post("/agent/default/connect", json=run_input)).content)
        short = [event.to_dict() for event in compact([json.dumps(event) for event in sent])]
        assert len(short) < len(sent)
        assert [cursor for cursor, _ in again] == [f"{len(sent)}.{number}" for number in range(len(short))]
        assert [json.loads(data) for _, data in again] == short
        # Resume in the middle of the replay.
        for cursor in (len(short) // 2, len(short) - 1):
            headers = {"last-event-id": f"{len(sent)}.{cursor}"}
            rest = parse_frames((await http.post("/agent/default/connect", json=run_input, headers=headers)).content)
            assert rest == again[cursor + 1 :]
        assert (await http.get(f"/threads/{quote(run_input['threadId'])}/events")).json()["events"] == short


@pytest.mark.parametrize(
    "body",
    [
        b"id: 1\ndata: {}\n\ndata: {}\n\n", b"id: 1\ndata: {}\ndata: {}\n\n", b"id: 1\ndata: {\r}\n\n", b"data: {}\n\n",
        b"id: 1\ndata: {}\n", b"id: 1\nid: 2\ndata: {}\n\n", b"id: 1\nevent: x\ndata: {}\n\n", b"id: 1\n\ndata: {}\n\n",
        b"\n\n", b"id: 1\ndata: {}\n\n\n", b": x\n\n", b"id: 1\ndata: {}",
    ],
)  # fmt: skip
def test_the_parser_of_the_tests_accepts_no_malformed_frame(body: bytes) -> None:
    with pytest.raises(AssertionError):
        parse_frames(body)
