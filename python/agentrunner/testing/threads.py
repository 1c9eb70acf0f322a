"""The verbs over threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.stored_threads import kept_runs, summary
from agentrunner.testing.writer import begin, claim, history, raw, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from agentrunner.types import ThreadSummary


class Threads(Chapter):
    """Threads are listed, named, archived, deleted; one without a stored or live run is not there."""

    async def test_of_an_unknown_thread(self, store: Store) -> None:
        """Every verb on a thread that has no run raises `ThreadNotFound`."""
        missing = "there is no such thread"
        for verb in (
            store.thread("t"), store.rename("t", "name"), store.archive("t", True), store.delete("t"),
        ):  # fmt: skip
            await refused(ThreadNotFound, verb, missing)
        equal(await _names(store), [], "asking after a thread does not make it")

    async def test_a_thread_whose_first_run_is_live(self, store: Store) -> None:
        """A thread is there from its first claim on: listed, named, archived, with no run stored."""
        writer = await begin(store, "t", "r", agent_id="agent")
        thread = await store.thread("t")
        equal(
            (thread.runs, thread.running, thread.agent_id), (0, True, "agent"), "it is running, and nothing is stored"
        )
        check(
            thread.created_at == thread.updated_at > 1.6e12, "its times, in milliseconds since 1970, are of its claim"
        )
        equal(await store.threads(10, None, False, None, ANY_SCOPE), [thread], "the list says the same")
        await store.rename("t", "named early")
        await store.archive("t", True)
        await writer.end()
        ended = await store.thread("t")
        equal((ended.name, ended.archived, ended.runs), ("named early", True, 1), "the end of a run changes neither")
        check(ended.created_at == ended.updated_at >= thread.created_at, "from now on its times are of the run's end")

    async def test_names_and_marks(self, store: Store) -> None:
        """`rename` and `archive` change only what they say, and can be taken back."""
        await whole(store, "t", "r")
        before = await store.thread("t")
        equal((before.name, before.archived), (None, False), "a thread has no name at first and is not archived")
        for name in ("a name", "", "'; DROP TABLE runs; -- %s {} \U0001f600", None):
            await store.rename("t", name)
            equal((await store.thread("t")).name, name, "keep the name as it is given")
        await store.archive("t", True)
        equal((await store.thread("t")).archived, True, "keep the mark")
        await store.archive("t", False)
        equal(await store.thread("t"), before, "nothing else has changed")

    async def test_lists_pages_newest_first(self, store: Store) -> None:
        """`threads` gives the newest first, by `updated_at` and then thread id; pages neither skip nor double."""
        # Two of each time: a page's edge falls between them.
        for n in range(10):
            await store.put(summary(f"t{n}", updated_at=1000 + n // 2), kept_runs(f"r{n}"))
        expected = [f"t{n}" for n in reversed(range(10))]
        equal(await _names(store), expected, "order by (updated_at, thread_id), greatest first")
        for limit in (1, 3, 9, 10, 11):
            found: list[ThreadSummary] = []
            while page := await store.threads(
                limit, (found[-1].updated_at, found[-1].thread_id) if found else None, False, None, ANY_SCOPE
            ):
                check(len(page) <= limit, f"give no more than {limit} threads")
                found += page
            equal([thread.thread_id for thread in found], expected, f"pages of {limit} skip or double")

    async def test_a_thread_that_ran_comes_first(self, store: Store) -> None:
        """A run's end makes its thread the newest; times never run backwards."""
        for n in range(3):
            await store.put(summary(f"t{n}", updated_at=1000 + n), kept_runs(f"r{n}"))
        await whole(store, "t0", "again")
        equal((await _names(store))[0], "t0", "the one that ran is the newest")
        far = (await store.thread("t0")).updated_at + 3_600_000
        await store.put(summary("ahead", updated_at=far), kept_runs("of a clock that was ahead", created_at=far))
        await whole(store, "ahead", "next")
        first, second = await store.runs("ahead", 0, 1 << 20)
        check(second.created_at >= first.created_at, "the clock may be set back, the times of a thread's runs are not")
        equal((await store.thread("ahead")).updated_at, second.created_at, "`updated_at` is when the last run ended")

    async def test_lists_what_is_asked_for(self, store: Store) -> None:
        """`threads` leaves archived ones out unless asked, and takes one agent's only if one is named."""
        for thread_id, agent_id in (("a", "x"), ("b", "x"), ("c", "y")):
            await whole(store, thread_id, f"run of {thread_id}", agent_id=agent_id)
        await store.archive("a", True)
        equal(set(await _names(store)), {"b", "c"}, "leave archived threads out")
        equal(set(await _names(store, include_archived=True)), {"a", "b", "c"}, "show archived threads when asked")
        equal(set(await _names(store, agent_id="x")), {"b"}, "an agent's threads only")
        equal(
            set(await _names(store, agent_id="x", include_archived=True)), {"a", "b"}, "an agent's, with archived ones"
        )
        equal(await _names(store, agent_id="z"), [], "nobody's")

    async def test_a_thread_is_deleted(self, store: Store) -> None:
        """`delete` removes a thread and all it has: its runs, ids, frames, name and place."""
        await whole(store, "t", "r1", ["u1"], agent_id="agent")
        await whole(store, "other", "r2", ["u1"])
        await store.rename("t", "name")
        await store.delete("t")
        await refused(ThreadNotFound, store.thread("t"), "it is deleted")
        equal(await history(store, "t"), [], "its history goes")
        equal(await raw(store, "t"), [], "its raw frames go")
        equal(await store.runs("t", 0, 1 << 20), [], "its runs go")
        _, known = await claim(store, "t", "r1", ["u1", "m-r1"])
        equal(known, [], "its message ids go, and its run ids are free")
        thread = await store.thread("t")
        equal((thread.name, thread.agent_id, thread.runs), (None, None, 0), "a thread of that name starts anew")
        equal((await store.thread("other")).runs, 1, "other threads stay")

    async def test_a_running_thread_is_not_deleted(self, store: Store) -> None:
        """`delete` raises `ThreadAlreadyRunning` for a live run, and `clear` leaves its thread out."""
        await whole(store, "idle", "r1")
        live = await begin(store, "live", "r2")
        await refused(ThreadAlreadyRunning, store.delete("live"), "look for a live run in the step that deletes")
        await store.clear(ANY_SCOPE)
        equal(await _names(store), ["live"], "clear what has no live run")
        await live.end()
        equal(len(await history(store, "live")), 2, "the run that was live is whole")
        await store.delete("live")
        equal(await _names(store), [], "nothing is left")


async def _names(store: Store, *, include_archived: bool = False, agent_id: str | None = None) -> list[str]:
    found: list[Any] = await store.threads(100, None, include_archived, agent_id, ANY_SCOPE)
    return [thread.thread_id for thread in found]
