"""Asking a run to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import equal
from agentrunner.testing.writer import begin

if TYPE_CHECKING:
    from agentrunner.stores import Store


class Stops(Chapter):
    """A stop is a mark on the live run; whoever owns the run looks for it."""

    async def test_a_stop_is_seen(self, store: Store) -> None:
        """`request_stop` marks the live run; `stops` and `live` tell, until the run has ended."""
        one, other = await begin(store, "t", "r1"), await begin(store, "other", "r2")
        equal(await store.stops(), [], "nobody asked for a stop")
        equal(await store.request_stop("t", None), True, "there is a live run to be stopped")
        equal(await store.stops(), [one.claim.token], "`stops` gives the tokens of runs asked to stop, of no other")
        equal(await store.live("t"), [(one.claim, True)], "`live` says a stop is asked for")
        equal(await store.live("other"), [(other.claim, False)], "another thread's run is none of it")
        await one.end()
        equal(await store.stops(), [], "a run that has ended is asked nothing")
        next_run = await begin(store, "t", "r3")
        equal(await store.live("t"), [(next_run.claim, False)], "a stop is for one run; the next one starts unmarked")

    async def test_only_the_run_that_is_meant(self, store: Store) -> None:
        """With a run id only that run is marked; false, and no mark, where another is live."""
        live = await begin(store, "t", "r2")
        equal(await store.request_stop("t", "r1"), False, "r1 is not live: compare run ids in the step that marks")
        equal(await store.live("t"), [(live.claim, False)], "the run that is live was not meant")
        equal(await store.request_stop("t", "r2"), True, "r2 is live")
        equal(await store.stops(), [live.claim.token], "r2 is asked to stop")

    async def test_asked_twice(self, store: Store) -> None:
        """False where a stop is asked for already: of those who ask only one is told that they did it."""
        await begin(store, "t", "r")
        equal([await store.request_stop("t", None) for _ in range(3)], [True, False, False], "mark it once")

    async def test_nothing_to_stop(self, store: Store) -> None:
        """False where no run is live."""
        equal(await store.request_stop("unknown", None), False, "there is no such thread")
        await (await begin(store, "t", "r")).end()
        equal(await store.request_stop("t", None), False, "its run has ended")
        equal(await store.request_stop("t", "r"), False, "its run has ended")

    async def test_a_stop_from_another_process(self, store: Store) -> None:
        """A stop asked for in one process is seen in the one that owns the run."""
        needs_shared(store)
        async with self.opened() as other:
            live = await begin(store, "t", "r")
            equal(await other.request_stop("t", "r"), True, "a live run is seen from every process")
            equal(await store.stops(), [live.claim.token], "so is the mark")
            equal(await other.live("t"), [(live.claim, True)], "and by the one who asked")
