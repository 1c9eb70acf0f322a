"""Several server processes on one store: each of them serves every thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx

from agentrunner import fold
from support.inputs import make_input
from support.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDLESS = {"forwardedProps": {"pause": 0.01}, "protocolVersion": "1.0"}


class Client:
    """A client of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30)

    @contextlib.asynccontextmanager
    async def stream(self, verb: str, run_input: dict[str, Any], after: str = "", agent: str = "default") -> Any:
        headers = {"last-event-id": after} if after else {}
        async with self.http.stream("POST", f"/agent/{agent}/{verb}", json=run_input, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield frames_of(answer)

    async def read(self, verb: str, run_input: dict[str, Any], **options: str) -> list[tuple[str, dict[str, Any]]]:
        """Read a stream to its end."""
        async with self.stream(verb, run_input, **options) as frames:
            return [frame async for frame in frames]

    async def stop(self, thread: str, run: str) -> bool:
        answer = await self.http.post(f"/agent/default/stop/{thread}", json={"runId": run})
        stopped: bool = answer.json()["stopped"]
        return stopped

    async def running(self) -> dict[str, bool]:
        listed = (await self.http.get("/threads")).json()["threads"]
        return {thread["id"]: thread["running"] for thread in listed}


async def frames_of(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    cursor = ""
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            cursor = line[4:]
        elif line.startswith("data: "):
            yield cursor, json.loads(line[6:])


@contextlib.asynccontextmanager
async def servers(location: str, folder: Path, count: int, **options: float) -> AsyncIterator[list[Client]]:
    """Start servers on one store, and yield a client of each."""
    started = [Server(location, folder / f"log{number}", **options) for number in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(server) for server in started))
        clients = [Client(server) for server in started]
        for client in clients:
            await stack.enter_async_context(client.http)
        yield clients


def types(frames: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [event["type"] for _, event in frames]


async def test_any_server_connects_to_a_run_lists_it_and_stops_it(location: str, tmp_path: Path) -> None:
    async with servers(location, tmp_path, 2) as (here, there):
        async with here.stream("run", make_input("t", "r", **ENDLESS)) as run:
            own = [await anext(run) for _ in range(20)]
            async with there.stream("connect", make_input("t", "look", **ENDLESS)) as joined:
                late = [await anext(joined)]
                resumed = asyncio.create_task(there.read("connect", make_input("t", "look", **ENDLESS), after="7"))
                assert await here.running() == await there.running() == {"t": True}
                refused = await there.http.post("/agent/default/run", json=make_input("t", "second", **ENDLESS))
                assert (refused.status_code, refused.json()["code"]) == (409, "agent_thread_locked")
                assert (await there.http.delete("/threads/t")).status_code == 409
                # Events after the prefix arrive as they happen, in the other process as well.
                while "." in late[-1][0] or int(late[-1][0]) < 100:
                    late.append(await anext(joined))
                assert not await there.stop("t", "another run")
                assert await there.stop("t", "r")
                late += [frame async for frame in joined]
            own += [frame async for frame in run]
        assert [cursor for cursor, _ in own] == [str(n + 1) for n in range(len(own))]
        assert own[-1][1]["type"] == "RUN_FINISHED"
        assert await resumed == own[7:]
        upto = int(late[0][0].partition(".")[0])
        assert [cursor for cursor, _ in late if "." in cursor] == [
            f"{upto}.{n}" for n in range(len(late) - len(own) + upto)
        ]
        assert [frame for frame in late if "." not in frame[0]] == own[upto:]
        assert fold(event for _, event in late) == fold(event for _, event in own)
        assert await here.running() == await there.running() == {"t": False}
        assert not await there.stop("t", "r")
        assert await there.read("connect", make_input("t", "look", **ENDLESS)) == await here.read(
            "connect", make_input("t", "look", **ENDLESS)
        )
        assert (await there.http.delete("/threads/t")).status_code == 200
        assert await here.running() == {}


async def test_a_reader_that_changes_servers_is_not_ahead(location: str, tmp_path: Path) -> None:
    async with servers(location, tmp_path, 2) as (here, there):
        async with here.stream("run", make_input("t", "r", **ENDLESS)) as run:
            async for cursor, _ in run:
                if int(cursor) % 20:
                    continue
                # The other server may not have read yet what the run's own server has sent.
                async with there.stream("connect", make_input("t", "look", **ENDLESS), cursor) as frames:
                    assert (await anext(frames))[0] == str(int(cursor) + 1)
                if int(cursor) > 500:
                    break
        ahead = await there.http.post(
            "/agent/default/connect", json=make_input("t", "look", **ENDLESS), headers={"last-event-id": "99999"}
        )
        assert (ahead.status_code, ahead.json()["code"]) == (409, "cursor_ahead")


async def test_a_question_is_answered_once_at_any_server(location: str, tmp_path: Path) -> None:
    async with servers(location, tmp_path, 2) as (here, there):
        run_input = make_input("t", "r", protocolVersion="1.0")
        question = (await here.read("run", run_input, agent="asking"))[-1][1]["outcome"]
        (interrupt,) = question["interrupts"]
        replayed = await there.read("connect", make_input("t", "look", protocolVersion="1.0"), agent="asking")
        assert replayed[-1][1]["outcome"] == question
        answer = {"resume": [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}]}
        # The stock client sends the answer under the asking run's id; both servers get it at the same time.
        answers = await asyncio.gather(
            *(client.http.post("/agent/asking/run", json=run_input | answer) for client in (there, here))
        )
        taken = [answer for answer in answers if answer.status_code == 200]
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert b'"runId":"r~' in taken[0].content
        for client in (here, there):
            replay = await client.read("connect", make_input("t", "look", protocolVersion="1.0"), agent="asking")
            assert types(replay) == ["RUN_STARTED", "RUN_FINISHED", "RUN_STARTED", *types(replay)[3:-1], "RUN_FINISHED"]
            deltas = [event["delta"] for _, event in replay if event["type"] == "TEXT_MESSAGE_CONTENT"]
            assert "".join(deltas) == "r-question resolved"
            assert not any("outcome" in event for _, event in replay)
            messages = (await client.http.get("/threads/t/messages")).json()["messages"]
            assert [message["content"] for message in messages] == ["r-question resolved"]


async def test_the_threads_of_a_killed_server_are_repaired_by_the_others(location: str, tmp_path: Path) -> None:
    async with servers(location, tmp_path, 2) as (here, there):
        async with here.stream("run", make_input("t", "r1", **ENDLESS)) as run:
            own = [await anext(run) for _ in range(20)]
            following = asyncio.create_task(there.read("connect", make_input("t", "look", **ENDLESS), after="1"))
            await here.server.kill()
            with contextlib.suppress(httpx.HTTPError):
                own += [frame async for frame in run]
        followed = await following
        # No reader has seen an event that is not stored.
        assert followed[: len(own) - 1] == own[1:]
        assert [cursor for cursor, _ in followed] == [str(n + 2) for n in range(len(followed))]
        assert followed[-1][1]["code"] == "INTERRUPTED"
        assert (
            await there.read("connect", make_input("t", "look", **ENDLESS), after=own[-1][0])
            == followed[len(own) - 1 :]
        )
        short = {"forwardedProps": {"turns": 1}, "protocolVersion": "1.0"}
        assert types(await there.read("run", make_input("t", "r2", **short)))[-1] == "RUN_FINISHED"
        assert await there.running() == {"t": False}


async def test_a_stopping_server_tells_the_readers_at_the_others(location: str, tmp_path: Path) -> None:
    async with servers(location, tmp_path, 2, shutdown=0.2) as (here, there):
        async with here.stream("run", make_input("t", "r1", **ENDLESS)) as run:
            own = [await anext(run) for _ in range(20)]
            following = asyncio.create_task(there.read("connect", make_input("t", "look", **ENDLESS), after="1"))
            ended = asyncio.create_task(here.server.end())
            own += [frame async for frame in run]
        assert await following == own[1:]
        assert own[-1][1]["code"] == "INTERRUPTED"
        assert await ended == 0
        short = {"forwardedProps": {"turns": 1}, "protocolVersion": "1.0"}
        assert types(await there.read("run", make_input("t", "r2", **short)))[-1] == "RUN_FINISHED"
