"""Tests for `request_stop` and `stops`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check_equal
from agentrunner.testing.writer import begin

if TYPE_CHECKING:
    from agentrunner.stores import Store


class StopTests(ConformanceTests):
    """A request to stop marks the live run, and the run's owner looks for the mark."""

    async def test_request_stop_marks_the_live_run(self, store: Store) -> None:
        """`request_stop` marks the live run; `stops` and `live` show the mark until its end."""
        one, other = await begin(store, "t", "r1"), await begin(store, "other", "r2")
        check_equal(await store.stops(), [], "no run is marked yet")
        check_equal(await store.request_stop("t", None), True, "there is a live run to be stopped")
        check_equal(await store.stops(), [one.claim.token], "`stops` returns the tokens of marked runs only")
        check_equal(await store.live("t"), [(one.claim, True)], "`live` shows the mark")
        check_equal(await store.live("other"), [(other.claim, False)], "another thread's run is not affected")
        await one.end()
        check_equal(await store.stops(), [], "a run that has ended is not marked")
        next_run = await begin(store, "t", "r3")
        check_equal(
            await store.live("t"), [(next_run.claim, False)], "a stop is for one run; the next one starts unmarked"
        )

    async def test_request_stop_with_a_run_id_marks_only_that_run(self, store: Store) -> None:
        """With a run id, only that run is marked; if another is live, it returns false."""
        live = await begin(store, "t", "r2")
        check_equal(
            await store.request_stop("t", "r1"), False, "r1 is not live: compare run ids in the step that marks"
        )
        check_equal(await store.live("t"), [(live.claim, False)], "the run that is live was not meant")
        check_equal(await store.request_stop("t", "r2"), True, "r2 is live")
        check_equal(await store.stops(), [live.claim.token], "r2 is asked to stop")

    async def test_only_the_first_request_to_stop_returns_true(self, store: Store) -> None:
        """`request_stop` returns false if the run is already marked."""
        await begin(store, "t", "r")
        check_equal([await store.request_stop("t", None) for _ in range(3)], [True, False, False], "mark it once")

    async def test_request_stop_without_a_live_run_returns_false(self, store: Store) -> None:
        """`request_stop` returns false if no run is live."""
        check_equal(await store.request_stop("unknown", None), False, "there is no such thread")
        await (await begin(store, "t", "r")).end()
        check_equal(await store.request_stop("t", None), False, "its run has ended")
        check_equal(await store.request_stop("t", "r"), False, "its run has ended")

    async def test_a_request_to_stop_is_seen_in_every_process(self, store: Store) -> None:
        """A request to stop in one process is seen in the process that owns the run."""
        needs_shared(store)
        async with self.open_store() as other:
            live = await begin(store, "t", "r")
            check_equal(await other.request_stop("t", "r"), True, "a live run is seen from every process")
            check_equal(await store.stops(), [live.claim.token], "so is the mark")
            check_equal(await other.live("t"), [(live.claim, True)], "and by the one who asked")
