"""Looking a store over, and closing it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import StoreClosed
from agentrunner.stores import Change
from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.stored_threads import kept_runs, put_damaged, summary
from agentrunner.testing.writer import begin, claim, history, lines, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentrunner.stores import Store


class Inspecting(Chapter):
    """`inspect` reports what is wrong and mends what can be mended; `aclose` lets go."""

    async def test_a_sound_store(self, store: Store) -> None:
        """A store with nothing wrong says so and how much it has; looking, and mending, changes nothing."""
        check((await store.inspect(False)).is_sound, "an empty store is sound")
        await whole(store, "a", "r1")
        await whole(store, "a", "r2")
        await whole(store, "b", "r3")
        live = await begin(store, "a", "r4")
        await store.write([Change("kind", "a", "a", b""), Change("kind", "b", "", b"")])
        before = lines(await history(store, "a"))
        for fix in (False, True):
            report = await store.inspect(fix)
            check(report.is_sound, f"nothing is wrong, but {report}")
            equal((report.threads, report.runs), (2, 3), "count threads that have stored runs, and those runs")
            equal(report.records, 2, "count records, of threads or of none")
        equal(lines(await history(store, "a")), before, "inspecting changes nothing that is sound")
        await live.end()

    async def test_runs_left_behind_are_reported(self, store: Store) -> None:
        """A live run whose owner is gone is `dead` until it is recovered."""
        needs_shared(store)
        async with self.opened(lease_ttl=0.3) as gone:
            await begin(gone, "t", "r")
        while not (report := await store.inspect(False)).dead:  # noqa: ASYNC110 - a lease ends silently
            await asyncio.sleep(0.02)
        equal((report.dead, report.is_sound), ([("t", "r")], False), "name the thread and the run")

    async def test_damaged_runs_are_reported(self, store: Store) -> None:
        """A run whose events cannot be read is `corrupt`; the store is not sound, and mending does not remove it."""
        if not await put_damaged(store):
            return
        for fix in (False, True, False):
            report = await store.inspect(fix)
            equal((report.corrupt, report.is_sound), ([("t", "r2")], False), "name the thread and the run")

    async def test_closed_twice(self) -> None:
        """`aclose` may be called twice."""
        async with self.opened() as store:
            await whole(store, "t", "r")
            await store.aclose()

    async def test_a_closed_store_says_so(self) -> None:
        """After `aclose` every verb raises `StoreClosed`, where there is something to be closed."""
        self.needs_durable()
        async with self.opened() as store:
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
            "put": lambda: store.put(summary("t3"), kept_runs("r3")),
            "prune": lambda: store.prune(1, None, 1),
            "record": lambda: store.record("kind", "key"),
            "records": lambda: store.records(None, None, None, 1),
            "write": lambda: store.write([Change("kind", "key", "t", b"")]),
            "inspect": lambda: store.inspect(False),
        }
        for name, verb in verbs.items():
            await refused(StoreClosed, _asked(verb), f"`{name}` of a store that is closed")


async def _asked(verb: Callable[[], Awaitable[object]]) -> object:
    # Whether it raises when it is called or when it is awaited.
    return await verb()
