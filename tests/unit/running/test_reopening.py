"""A runner opens again: after it was closed, and in another event loop."""

import asyncio

import pytest
from starlette.testclient import TestClient

from agentrunner import AgentRunner, RunnerClosed
from agentrunner.harness import Harness
from agentrunner.server import create_app
from agentrunner.stores.urls import store_from_url
from support.event_loops import Waiting, collect, make_input, talker, types

pytestmark = pytest.mark.fault("D8")


@pytest.fixture(params=[False, True], ids=["runner", "harness"])
def has_harness(request) -> bool:
    return request.param


def serve_twice(runner: AgentRunner, has_harness: bool) -> None:
    agents = {"default": talker(1)}
    events = []
    if has_harness:
        agents = Harness(runner, agents)
        agents.subscribe(events.append)
    app = create_app(runner, agents)
    for number in range(2):
        with TestClient(app) as client:
            response = client.post("/agent/default/run", json=make_input("t", f"r{number}"))
            assert response.status_code == 200
            assert '"RUN_FINISHED"' in response.text
            assert len(client.get("/threads/t/messages").json()["messages"]) == number + 1
            assert bool(events) == has_harness
            events.clear()
    assert runner.is_closed


def test_an_app_starts_again_after_its_shutdown(location: str, has_harness: bool) -> None:
    serve_twice(AgentRunner(store_from_url(location)), has_harness)


def test_an_app_in_memory_starts_again_after_its_shutdown(has_harness: bool) -> None:
    serve_twice(AgentRunner.from_url("memory:"), has_harness)


def test_an_app_without_a_lifespan_serves_each_request_in_a_loop_of_its_own(make) -> None:
    runner = make()
    client = TestClient(create_app(runner, {"default": talker(1)}))
    for number in range(3):
        response = client.post("/agent/default/run", json=make_input("t", f"r{number}"))
        assert '"RUN_FINISHED"' in response.text
    asyncio.run(close(runner))


async def close(runner: AgentRunner) -> None:
    await runner.open()
    await runner.aclose()


def test_a_second_loop_finds_the_runs_of_the_first_ended(make) -> None:
    runner = make()
    waiting = Waiting()

    async def start() -> None:
        async for _ in runner.run(waiting, make_input("t", "r1")):
            return

    async def read() -> None:
        events = await collect(await runner.connect("t"))
        assert types(events) == ["RUN_STARTED", "RUN_ERROR"]
        assert events[-1].to_dict()["code"] == "INTERRUPTED"
        assert types(await collect(await runner.run(talker(1), make_input("t", "r2"))))[-1] == "RUN_FINISHED"
        await runner.aclose()

    asyncio.run(start())
    asyncio.run(read())


def test_a_store_opens_in_a_second_loop_unless_its_connections_ended_with_the_first(location: str) -> None:
    store = store_from_url(location)
    runner = AgentRunner(store)

    async def use() -> None:
        await runner.threads.list()

    with asyncio.Runner() as loop:
        loop.run(use())
        if not getattr(store, "outlives_loop", True):
            # What is left open would warn.
            loop.run(store.aclose())
    if getattr(store, "outlives_loop", True):
        asyncio.run(use())
    else:
        with pytest.raises(RunnerClosed, match="close the runner before its loop ends"):
            asyncio.run(use())
    asyncio.run(runner.aclose())


def test_a_runner_in_use_in_another_loop_says_where_to_close_it(make) -> None:
    runner = make()
    with asyncio.Runner() as loop:
        loop.run(runner.open())
        with pytest.raises(RunnerClosed, match="open in another event loop; call its `aclose\\(\\)` there"):
            asyncio.run(runner.threads.list())
        loop.run(runner.aclose())


def test_only_open_opens_a_closed_runner(make, go) -> None:
    async def main() -> None:
        runner = make()
        for number in range(2):
            async with runner:
                await collect(await runner.run(talker(1), make_input("t", f"r{number}")))
            with pytest.raises(RunnerClosed, match="open it with `async with`"):
                await runner.threads.list()
        assert len(await (await runner.open()).live("t")) == 0
        await runner.aclose()

    go(main())


def test_only_open_opens_a_closed_harness(make, go) -> None:
    async def main() -> None:
        harness = Harness(make(), {"default": talker(1)})
        for _ in range(2):
            async with harness:
                assert (await harness.run("Hello", thread_id="t")).state == "completed"
            with pytest.raises(RunnerClosed, match="open it with `async with`"):
                await harness.run("Hello")
        await harness.runner.aclose()

    go(main())
