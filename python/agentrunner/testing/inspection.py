"""Tests for `inspect` and `aclose`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import StoreClosed
from agentrunner.stores import Change
from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary, put_damaged
from agentrunner.testing.writer import begin, claim, history, lines, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentrunner.stores import Store


class InspectionTests(ConformanceTests):
    """`inspect` reports problems and repairs some; `aclose` releases everything."""

    async def test_a_store_without_problems_is_sound(self, store: Store) -> None:
        """The report of a store without problems is sound and counts what it has.

        Neither checking nor repairing it changes anything.
        """
        check((await store.inspect(False)).is_sound, "an empty store is sound")
        await store_run(store, "a", "r1")
        await store_run(store, "a", "r2")
        await store_run(store, "b", "r3")
        live = await begin(store, "a", "r4")
        await store.write([Change("kind", "a", "a", b""), Change("kind", "b", "", b"")])
        before = lines(await history(store, "a"))
        for fix in (False, True):
            report = await store.inspect(fix)
            check(report.is_sound, f"nothing is wrong, but {report}")
            check_equal((report.threads, report.runs), (2, 3), "count threads that have stored runs, and those runs")
            check_equal(report.records, 2, "count records, of threads or of none")
        check_equal(lines(await history(store, "a")), before, "inspecting changes nothing that is sound")
        await live.end()

    async def test_a_run_whose_owner_is_gone_is_reported_as_dead(self, store: Store) -> None:
        """A live run whose owner is gone is `dead` until it is recovered."""
        needs_shared(store)
        async with self.open_store(lease_ttl=0.3) as gone:
            await begin(gone, "t", "r")
        while not (report := await store.inspect(False)).dead:  # noqa: ASYNC110 - a lease ends silently
            await asyncio.sleep(0.02)
        check_equal((report.dead, report.is_sound), ([("t", "r")], False), "name the thread and the run")

    async def test_a_run_that_cannot_be_read_is_reported_as_corrupt(self, store: Store) -> None:
        """A run whose events cannot be read is `corrupt`, and a repair does not delete it."""
        if not await put_damaged(store):
            return
        for fix in (False, True, False):
            report = await store.inspect(fix)
            check_equal((report.corrupt, report.is_sound), ([("t", "r2")], False), "name the thread and the run")

    async def test_a_store_can_be_closed_twice(self) -> None:
        """A second `aclose` does nothing."""
        async with self.open_store() as store:
            await store_run(store, "t", "r")
            await store.aclose()

    async def test_every_method_of_a_closed_store_raises_StoreClosed(self) -> None:
        """After `aclose`, every method of a durable store raises `StoreClosed`."""
        self.needs_durable()
        async with self.open_store() as store:
            writer = await begin(store, "t", "r")
            batch = _core.Batch(b"id: 2\ndata: {}\n\n", 2, 1)
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "claim": lambda: claim(store, "t2", "r2"),
            "append": lambda: store.append(writer.claim, batch, False),
            "renew": lambda: store.renew([writer.claim]),
            "finish": lambda: store.finish(writer.claim, writer.recorder, True),
            "request_stop": lambda: store.request_stop("t", None),
            "live": lambda: store.live(),
            "stops": lambda: store.stops(),
            "recover": lambda: store.recover(),
            "journal": lambda: store.journal("t", 0, None, 1),
            "history": lambda: store.history("t", (0, None), None, 1),
            "locate": lambda: store.locate("t", (0, None)),
            "threads": lambda: store.threads(1, None, True, None, ANY_SCOPE),
            "thread": lambda: store.thread("t"),
            "rename": lambda: store.rename("t", None),
            "archive": lambda: store.archive("t", True),
            "delete": lambda: store.delete("t"),
            "clear": lambda: store.clear(ANY_SCOPE),
            "runs": lambda: store.runs("t", 0, 1),
            "put": lambda: store.put(make_summary("t3"), make_runs("r3")),
            "prune": lambda: store.prune(1, None, 1),
            "record": lambda: store.record("kind", "key"),
            "records": lambda: store.records(None, None, None, 1),
            "write": lambda: store.write([Change("kind", "key", "t", b"")]),
            "inspect": lambda: store.inspect(False),
        }
        for name, verb in verbs.items():
            await check_raises(StoreClosed, _call(verb), f"`{name}` of a store that is closed")


async def _call(verb: Callable[[], Awaitable[object]]) -> object:
    # Whether it raises when it is called or when it is awaited.
    return await verb()
