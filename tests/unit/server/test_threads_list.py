"""The list of threads: pages, cursors and filters."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from support.agents import Gate, agent_with
from support.asgi import client_of
from support.backends import in_memory
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from support.asgi import Client

    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hello"), {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}})


async def ran(client: Client, *threads: str, agent: str = "default") -> None:
    for thread in threads:
        answer = await client.post(f"/agent/{agent}/run", make_input(thread, f"run of {thread}"))
        assert answer.status == 200


async def ids(client: Client, query: str = "") -> list[str]:
    return [thread["id"] for thread in (await client.get(f"/threads{query}")).json()["threads"]]


async def test_there_are_no_threads_at_first(runner: AgentRunner) -> None:
    answer = await client_of(runner, {"default": AGENT}).get("/threads")
    assert (answer.status, answer.json()) == (200, {"threads": [], "nextCursor": None})


async def test_a_thread_in_a_list(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    (thread,) = (await client.get("/threads")).json()["threads"]
    times = [thread.pop(name) for name in ("createdAt", "updatedAt", "lastRunAt")]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at) for at in times)
    assert times == sorted(times)
    assert thread == {
        "id": "t1", "name": None, "agentId": "default", "organizationId": "", "createdById": "", "archived": False,
        "running": False,
    }  # fmt: skip


async def test_a_thread_with_a_live_run_is_listed_as_running(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": AGENT, "slow": gate})
    await ran(client, "t1")
    async with client.open("POST", "/agent/slow/run", make_input()) as run:
        await gate.reached.wait()
        assert [thread["running"] for thread in (await client.get("/threads")).json()["threads"]] == [True]
        gate.open()
        await run.answer()
    assert [thread["running"] for thread in (await client.get("/threads")).json()["threads"]] == [False]


async def test_threads_of_one_agent(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT, "other": AGENT})
    await ran(client, "t1")
    await ran(client, "t2", agent="other")
    assert await ids(client, "?agentId=default") == ["t1"]
    assert await ids(client, "?agentId=other") == ["t2"]
    assert await ids(client, "?agentId=unknown") == []
    assert sorted(await ids(client, "?agentId=")) == sorted(await ids(client)) == ["t1", "t2"]


async def test_archived_threads_are_listed_only_on_request(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1", "t2")
    await client.post("/threads/t1/archive", {"agentId": "default"})
    assert await ids(client) == ["t2"]
    assert sorted(await ids(client, "?includeArchived=true")) == ["t1", "t2"]
    for other in ("false", "1", "True", "yes", ""):
        assert await ids(client, f"?includeArchived={other}") == ["t2"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 8, 1000, 999_999_999])
async def test_pages_hold_each_thread_once(size: int, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    names = [f"t{n}" for n in range(5)] + ["ü/€", "\x01"]
    await ran(client, *names)
    whole = (await client.get("/threads")).json()["threads"]
    assert sorted(thread["id"] for thread in whole) == sorted(names)
    pages, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/threads?agentId=default&limit={size}&cursor={cursor}")).json()
        pages.append(page["threads"])
        cursor = page["nextCursor"]
    assert [thread for page in pages for thread in page] == whole
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1], "the last page is never an empty one"


async def test_a_thread_moves_to_the_top_when_it_is_used(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1", "t2", "t3")
    before = (await client.get("/threads")).json()["threads"]
    oldest = before[-1]
    number = 0
    # Two runs may end in the same millisecond; then the thread id decides.
    while (await ids(client))[0] != oldest["id"] or number == 0:
        number += 1
        await client.post("/agent/default/run", make_input(oldest["id"], f"again {number}"))
    again = (await client.get("/threads")).json()["threads"][0]
    assert again["createdAt"] == oldest["createdAt"]
    assert again["updatedAt"] == again["lastRunAt"] >= oldest["updatedAt"]


@pytest.mark.parametrize(
    "limit", ["0", "-1", "x", "1.5", "1e3", "+1", "%201", "0x1", "9" * 10, "9" * 5_000, "%D9%A1", "1,2"]
)
async def test_a_limit_must_be_a_positive_number(limit: str, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).get(f"/threads?limit={limit}")
    assert (answer.status, answer.json()) == (400, {"error": "Invalid limit"})


def cursor_of(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@in_memory
@pytest.mark.parametrize(
    "cursor",
    [
        "x", "!", "%00", "%FF", "a" * 100_000, "e30", cursor_of([]), cursor_of({}), cursor_of(1), cursor_of("ab"),
        cursor_of(None), cursor_of([1]), cursor_of([1, 2]), cursor_of(["1", "t"]), cursor_of([1.5, "t"]),
        cursor_of([True, "t"]),
        cursor_of([None, None]), cursor_of([1, "t", 2]), cursor_of([10**30, "t"]), cursor_of([1 << 62, "t"]),
        cursor_of([-(1 << 63), "t"]), cursor_of([1, ["t"]]), base64.urlsafe_b64encode(b'[1,"\\ud800"]').decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(), base64.urlsafe_b64encode(b'[1,"\xff"]').decode(),
    ],
    ids=lambda cursor: cursor[:20],
)  # fmt: skip
async def test_an_invalid_list_cursor_is_refused(cursor: str, runner: AgentRunner) -> None:
    answer = await client_of(runner, {"default": AGENT}).get(f"/threads?cursor={cursor}")
    assert (answer.status, answer.json()) == (400, {"error": "Invalid cursor"})


@pytest.mark.parametrize("place", [[0, ""], [-1, "t"], [1 << 61, ""], [1 << 61, "x" * 10_000], [0, "\0'\"%_"]])
async def test_a_list_cursor_of_an_unknown_thread_still_marks_a_position(place: list[Any], runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    assert await ids(client, f"?cursor={cursor_of(place)}") == (["t1"] if place[0] > 1 else [])


@pytest.mark.parametrize("agent_id", ["a%20b", "a/b", "%00", "%C3%BC", "'", "x" * 129, "%0A", "a%0A", "%FF", "*"])
async def test_an_agent_id_in_a_query_must_have_plain_characters(agent_id: str, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).get(f"/threads?agentId={agent_id}")
    assert (answer.status, answer.json()) == (400, {"error": "Valid agentId query param is required"})


@pytest.mark.parametrize("agent_id", ["a.b", "a@b", "a:b", "a=b", "a-b", "a_b", "A9", "x" * 128])
async def test_an_agent_id_may_have_every_plain_character(agent_id: str, memory_factory: MemoryFactory) -> None:
    assert await ids(client_of(memory_factory(), {"default": AGENT}), f"?agentId={agent_id}") == []


async def test_unknown_and_repeated_query_parameters(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1", "t2")
    assert len(await ids(client, "?x=1&&=&%ZZ=%ZZ&limit=2")) == 2
    assert (await client.get("/threads?limit=1&limit=2")).status == 200
