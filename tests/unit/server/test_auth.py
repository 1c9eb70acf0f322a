"""Authentication, and that no scope ever sees or changes anything of another."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from agentrunner.server import Principal, create_app
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect
from support.thread_requests import (
    UNKNOWN_THREAD,
    authenticate_by_name,
    build_resource_envelope,
    build_thread_requests,
    send,
)
from support.wire import client, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from agentrunner import AgentRunner
ID = "x" * 8


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    options = {"authenticate": authenticate_by_name, "mode": "both"} | options
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


async def status_and_body(answer: httpx.Response) -> tuple[int, bytes]:
    return answer.status_code, answer.content


def comparable(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


async def test_authenticate_may_be_a_function_or_a_coroutine_function(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    async def later(request: Request) -> Principal | None:
        await asyncio.sleep(0)
        return authenticate_by_name(request)

    for authenticate in (authenticate_by_name, later):
        app = app_of(memory_factory(), authenticate=authenticate)
        async with client(app) as http:
            refused = await http.get("/threads")
            assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
            assert refused.headers["www-authenticate"] == "Bearer"
            assert (await http.get("/threads", headers={"x-user": "ann"})).status_code == 200


async def test_every_route_but_health_requires_authentication(runner: AgentRunner) -> None:
    async with client(app_of(runner, inspector=True)) as http:
        for name, way in build_thread_requests("t", "r").items():
            assert (await send(http, way)).status_code == 401, name
        for path in ("/info", "/threads", "/inspector-metadata", "/metrics"):
            assert (await http.get(path)).status_code == 401, path
        for path in ("/threads/clear", "/transcribe", "/threads/subscribe", "/agent/default/suggest"):
            assert (await http.post(path, json=make_input())).status_code == 401, path
        for path in ("/healthz", "/readyz"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        metrics = await http.get("/metrics", headers={"x-user": "ann"})
        assert metrics.status_code == 200
        assert 'agentrunner_http_requests_total{route="unmatched",status="401"}' in metrics.text


async def test_what_authenticate_raises_is_passed_on(memory_factory: Callable[..., AgentRunner]) -> None:
    def refuse(_: Request) -> Principal:
        raise HTTPException(418, "no tea", headers={"x-why": "coffee"})

    async with client(app_of(memory_factory(), authenticate=refuse)) as http:
        answer = await http.get("/threads")
        assert (answer.status_code, answer.json()) == (418, {"error": "no tea"})
        assert answer.headers["x-why"] == "coffee"
        assert (await http.get("/metrics")).status_code == 418


@pytest.mark.parametrize("wrong", [True, "ann", 7, {"scope": "ann"}, object()])
async def test_authenticate_must_return_a_principal(
    wrong: object, memory_factory: Callable[..., AgentRunner], caplog: pytest.LogCaptureFixture
) -> None:
    app: Any = app_of(memory_factory(), authenticate=lambda _: wrong)
    async with client(app) as http:
        answer = await http.get("/threads")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal_error"})
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert type(wrong).__name__ in str(record.exc_info[1])


async def test_an_error_of_authenticate_is_not_revealed(
    memory_factory: Callable[..., AgentRunner], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Request) -> Principal:
        raise KeyError("the key to everything")

    async with client(app_of(memory_factory(), authenticate=broken)) as http:
        answer = await http.get("/threads")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal_error"})
    assert "the key to everything" in caplog.text


@pytest.mark.parametrize("scope", ["", None, 7, "x" * 1025, "é" * 513, "\ud800"])
def test_a_scope_must_be_a_non_empty_string(scope: Any) -> None:
    with pytest.raises(ValueError, match=r"1 to 1024 bytes|surrogates not allowed"):
        Principal(scope)


async def test_the_thread_of_another_scope_looks_like_an_unknown_thread(runner: AgentRunner) -> None:
    app = app_of(runner)
    async with client(app, **{"x-user": "ann"}) as ann, client(app, **{"x-user": "bob"}) as bob:
        assert (await send(ann, build_thread_requests("annsannsx", "r1")["run"])).status_code == 200
        assert (await ann.patch("/threads/annsannsx", json={"name": "private"})).status_code == 200
        before = await everything(ann, "annsannsx")
        anns, missing = build_thread_requests("annsannsx", "r2"), build_thread_requests("nobody-sx", "r3")
        for name, way in anns.items():
            answer = await send(bob, way)
            assert (answer.status_code, answer.content) == UNKNOWN_THREAD, name
            if not name.startswith("run"):
                assert comparable(await send(bob, missing[name])) == comparable(answer), name
        nothing = await send(bob, ("POST", "/agent/default/connect", make_input("annsannsx", "r4"), {}))
        nowhere = await send(bob, ("POST", "/agent/default/connect", make_input("nobody-sx", "r4"), {}))
        assert comparable(nothing) == comparable(nowhere)
        assert (nothing.status_code, nothing.content) == (200, b"")
        assert await everything(ann, "annsannsx") == before
        for name, way in build_thread_requests("annsannsx", "r5").items():
            assert (await send(ann, way)).status_code != 401, name


async def everything(http: httpx.AsyncClient, thread: str) -> list[bytes]:
    """Return all that a client can read of a thread, and the list of threads."""
    answers = [await http.get(f"/threads/{thread}{rest}") for rest in ("/messages", "/events", "/state")]
    answers.append(await http.post("/agent/default/connect", json=make_input(thread, "look")))
    answers.append(await http.get("/threads", params={"includeArchived": "true"}))
    assert [answer.status_code for answer in answers] == [200] * 5
    return [answer.content for answer in answers]


@pytest.mark.parametrize("policy", ["reject", "supersede", "enqueue"])
async def test_a_busy_thread_of_another_scope_looks_like_an_unknown_thread(
    policy: str, runner_factory: Callable[..., AgentRunner]
) -> None:
    runner = runner_factory(on_concurrent_run=policy)
    gate = Gate([{"type": "STATE_SNAPSHOT", "snapshot": {"secret": "of ann"}}])
    app = app_of(runner, gate)
    async with client(app, **{"x-user": "ann"}) as ann, client(app, **{"x-user": "bob"}) as bob:
        running = asyncio.create_task(send(ann, build_thread_requests("busybusyx", "r1")["run"]))
        await gate.reached.wait()
        # With that policy, another run of Ann's waits for its turn; Bob must not have to wait behind it.
        second = build_thread_requests("busybusyx", "r2")["run"]
        waiting = asyncio.create_task(send(ann, second)) if policy == "enqueue" else None
        if waiting is not None:
            await until(lambda: runner._claiming.has_waiting_runs)
        missing = build_thread_requests("nobody-sx", "r9")
        for name, way in build_thread_requests("busybusyx", "r3").items():
            answer = await send(bob, way)
            assert (answer.status_code, answer.content) == UNKNOWN_THREAD, name
            if not name.startswith("run"):
                assert comparable(await send(bob, missing[name])) == comparable(answer), name
        nothing = await send(bob, ("POST", "/agent/default/connect", make_input("busybusyx", "r4"), {}))
        assert (nothing.status_code, nothing.content) == (200, b"")
        assert (await bob.get("/threads")).json() == {"threads": [], "nextCursor": None}
        assert (await bob.post("/threads/clear")).status_code == 204
        assert not gate.cancelled
        assert await runner.is_running("busybusyx")
        gate.open()
        assert b"RUN_FINISHED" in (await running).content
        if waiting is not None:
            assert b"RUN_FINISHED" in (await waiting).content


async def test_list_and_clear_reach_only_the_callers_threads(runner: AgentRunner) -> None:
    app = app_of(runner)
    async with client(app, **{"x-user": "ann"}) as ann, client(app, **{"x-user": "bob"}) as bob:
        for name, http in (("ann", ann), ("bob", bob)):
            for number in range(3):
                way = build_thread_requests(f"{name}-{number}-{ID}", f"{name}-r{number}")["run"]
                assert (await send(http, way)).status_code == 200
        page = (await ann.get("/threads", params={"limit": 2})).json()
        assert [thread["id"][:5] for thread in page["threads"]] == ["ann-2", "ann-1"]
        assert {thread["createdById"] for thread in page["threads"]} == {"ann"}
        # With Ann's cursor, Bob still gets only his own threads.
        others = (await bob.get("/threads", params={"limit": 9, "cursor": page["nextCursor"]})).json()
        assert all(thread["id"].startswith("bob-") for thread in others["threads"])
        for way in (
            ("POST", "/threads/clear", {}, {}),
            ("POST", "/", build_resource_envelope("/threads/clear", "POST"), {}),
        ):
            assert (await send(ann, way)).status_code == 204
            assert (await ann.get("/threads")).json()["threads"] == []
            assert len((await bob.get("/threads")).json()["threads"]) == 3


async def test_a_thread_without_a_scope_is_invisible_to_every_principal(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("m", "hello")), make_input("nobodysxx", "r1")))
    app = app_of(runner)
    async with client(app, **{"x-user": "bob"}) as bob:
        for name, way in build_thread_requests("nobodysxx", "r2").items():
            answer = await send(bob, way)
            assert (answer.status_code, answer.content) == UNKNOWN_THREAD, name
        await bob.post("/threads/clear")
    assert [thread.thread_id for thread in await runner.threads.list()] == ["nobodysxx"]


@pytest.mark.fault("C7")
async def test_the_run_id_of_another_scope_reveals_no_thread(runner: AgentRunner) -> None:
    app = app_of(runner)
    async with client(app, **{"x-user": "ann"}) as ann, client(app, **{"x-user": "bob"}) as bob:
        assert (await send(ann, build_thread_requests("annsannsx", "the-run")["run"])).status_code == 200
        assert (await send(bob, build_thread_requests("bobs-bobx", "a-run")["run"])).status_code == 200
        assert (await send(bob, build_thread_requests("bobs-bobx", "a-run")["run"])).status_code == 409
        # Bob must neither learn which run ids Ann has used nor keep her from using one.
        assert (await send(bob, build_thread_requests("bobs-bobx", "the-run")["run"])).status_code == 200
        assert (await send(bob, build_thread_requests("bobs-bobx", "the-run~answer")["run"])).status_code == 200
        assert (await send(ann, build_thread_requests("annsannsx", "the-run~answer")["run"])).status_code == 200
        # For an unknown thread the response must not reveal whether the run id is taken.
        for run in ("the-run", "a-run", "new-run"):
            assert (
                await status_and_body(await send(bob, build_thread_requests("annsannsx", run)["run"])) == UNKNOWN_THREAD
            )


async def test_a_scope_sees_its_threads_again_when_another_server_opens_the_file(
    sqlite_factory: Callable[..., AgentRunner],
) -> None:
    app = app_of(sqlite_factory())
    async with client(app, **{"x-user": "ann"}) as ann:
        assert (await send(ann, build_thread_requests("annsannsx", "r1")["run"])).status_code == 200
    again = app_of(sqlite_factory())
    async with client(again, **{"x-user": "ann"}) as ann, client(again, **{"x-user": "bob"}) as bob:
        assert [thread["id"] for thread in (await ann.get("/threads")).json()["threads"]] == ["annsannsx"]
        for name, way in build_thread_requests("annsannsx", "r2").items():
            assert await status_and_body(await send(bob, way)) == UNKNOWN_THREAD, name
