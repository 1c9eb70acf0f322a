"""Tests for `threads`, `thread`, `rename`, `archive`, `delete` and `clear`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import begin, claim, history, read_journal, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from agentrunner.types import ThreadSummary


class ThreadTests(ConformanceTests):
    """Threads are listed, named, archived and deleted."""

    async def test_every_method_for_an_unknown_thread_raises_ThreadNotFound(self, store: Store) -> None:
        """Every method for a thread without a run raises `ThreadNotFound`."""
        missing = "there is no such thread"
        for verb in (
            store.thread("t"), store.rename("t", "name"), store.archive("t", True), store.delete("t"),
        ):  # fmt: skip
            await check_raises(ThreadNotFound, verb, missing)
        check_equal(await _names(store), [], "asking after a thread does not make it")

    async def test_a_thread_exists_from_its_first_claim_on(self, store: Store) -> None:
        """A thread exists from its first claim on: it is listed and can be renamed and archived."""
        writer = await begin(store, "t", "r", agent_id="agent")
        thread = await store.thread("t")
        check_equal(
            (thread.runs, thread.running, thread.agent_id), (0, True, "agent"), "it is running, and nothing is stored"
        )
        check(
            thread.created_at == thread.updated_at > 1.6e12, "its times, in milliseconds since 1970, are of its claim"
        )
        check_equal(await store.threads(10, None, False, None, ANY_SCOPE), [thread], "the list has the same summary")
        await store.rename("t", "named early")
        await store.archive("t", True)
        await writer.end()
        ended = await store.thread("t")
        check_equal(
            (ended.name, ended.archived, ended.runs), ("named early", True, 1), "the end of a run changes neither"
        )
        check(ended.created_at == ended.updated_at >= thread.created_at, "from now on its times are of the run's end")

    async def test_rename_and_archive_change_nothing_else(self, store: Store) -> None:
        """`rename` and `archive` change nothing else, and can be undone."""
        await store_run(store, "t", "r")
        before = await store.thread("t")
        check_equal((before.name, before.archived), (None, False), "a thread has no name at first and is not archived")
        for name in ("a name", "", "'; DROP TABLE runs; -- %s {} \U0001f600", None):
            await store.rename("t", name)
            check_equal((await store.thread("t")).name, name, "keep the name as it is given")
        await store.archive("t", True)
        check_equal((await store.thread("t")).archived, True, "keep the mark")
        await store.archive("t", False)
        check_equal(await store.thread("t"), before, "nothing else has changed")

    async def test_threads_are_listed_newest_first_in_pages(self, store: Store) -> None:
        """`threads` lists the newest first, by `updated_at` and thread id, in exact pages."""
        # Two of each time: a page's edge falls between them.
        for n in range(10):
            await store.put(make_summary(f"t{n}", updated_at=1000 + n // 2), make_runs(f"r{n}"))
        expected = [f"t{n}" for n in reversed(range(10))]
        check_equal(await _names(store), expected, "order by (updated_at, thread_id), greatest first")
        for limit in (1, 3, 9, 10, 11):
            listed: list[ThreadSummary] = []
            while page := await store.threads(
                limit, (listed[-1].updated_at, listed[-1].thread_id) if listed else None, False, None, ANY_SCOPE
            ):
                check(len(page) <= limit, f"return no more than {limit} threads")
                listed += page
            check_equal([thread.thread_id for thread in listed], expected, f"pages of {limit} skip or repeat frames")

    async def test_the_end_of_a_run_makes_its_thread_the_newest(self, store: Store) -> None:
        """The end of a run makes its thread the newest, and times never go backwards."""
        for n in range(3):
            await store.put(make_summary(f"t{n}", updated_at=1000 + n), make_runs(f"r{n}"))
        await store_run(store, "t0", "again")
        check_equal((await _names(store))[0], "t0", "the one that ran is the newest")
        far = (await store.thread("t0")).updated_at + 3_600_000
        await store.put(make_summary("ahead", updated_at=far), make_runs("of a clock that was ahead", created_at=far))
        await store_run(store, "ahead", "next")
        first, second = await store.runs("ahead", 0, 1 << 20)
        check(second.created_at >= first.created_at, "the clock may be set back, the times of a thread's runs are not")
        check_equal(
            (await store.thread("ahead")).updated_at, second.created_at, "`updated_at` is when the last run ended"
        )

    async def test_threads_can_be_filtered_by_agent_and_archived(self, store: Store) -> None:
        """`threads` omits archived threads unless asked, and can list one agent's only."""
        for thread_id, agent_id in (("a", "x"), ("b", "x"), ("c", "y")):
            await store_run(store, thread_id, f"run of {thread_id}", agent_id=agent_id)
        await store.archive("a", True)
        check_equal(set(await _names(store)), {"b", "c"}, "leave archived threads out")
        check_equal(
            set(await _names(store, include_archived=True)), {"a", "b", "c"}, "show archived threads when asked"
        )
        check_equal(set(await _names(store, agent_id="x")), {"b"}, "an agent's threads only")
        check_equal(
            set(await _names(store, agent_id="x", include_archived=True)), {"a", "b"}, "an agent's, with archived ones"
        )
        check_equal(await _names(store, agent_id="z"), [], "no thread has it")

    async def test_delete_removes_everything_a_thread_has(self, store: Store) -> None:
        """`delete` removes a thread's runs, ids, frames, name and place in the list."""
        await store_run(store, "t", "r1", ["u1"], agent_id="agent")
        await store_run(store, "other", "r2", ["u1"])
        await store.rename("t", "name")
        await store.delete("t")
        await check_raises(ThreadNotFound, store.thread("t"), "it is deleted")
        check_equal(await history(store, "t"), [], "its history goes")
        check_equal(await read_journal(store, "t"), [], "its raw frames go")
        check_equal(await store.runs("t", 0, 1 << 20), [], "its runs go")
        _, known = await claim(store, "t", "r1", ["u1", "m-r1"])
        check_equal(known, {}, "its message ids go, and its run ids are free")
        thread = await store.thread("t")
        check_equal((thread.name, thread.agent_id, thread.runs), (None, None, 0), "a thread of that name starts anew")
        check_equal((await store.thread("other")).runs, 1, "other threads stay")

    async def test_delete_of_a_running_thread_raises_ThreadAlreadyRunning(self, store: Store) -> None:
        """`delete` of a running thread raises `ThreadAlreadyRunning`, and `clear` keeps it."""
        await store_run(store, "idle", "r1")
        live = await begin(store, "live", "r2")
        await check_raises(ThreadAlreadyRunning, store.delete("live"), "check for a live run in the step that deletes")
        await store.clear(ANY_SCOPE)
        check_equal(await _names(store), ["live"], "clear what has no live run")
        await live.end()
        check_equal(len(await history(store, "live")), 2, "the run that was live is whole")
        await store.delete("live")
        check_equal(await _names(store), [], "nothing is left")


async def _names(store: Store, *, include_archived: bool = False, agent_id: str | None = None) -> list[str]:
    listed: list[Any] = await store.threads(100, None, include_archived, agent_id, ANY_SCOPE)
    return [thread.thread_id for thread in listed]
