"""Tests with unusual ids and texts, and with large values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import AgentRunnerError, ThreadNotFound
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import begin, claim, history, lines, read_journal, store_run, text
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store

HOSTILE = (
    "'; DROP TABLE runs; --", '"', "`", "%", "%s", "_", "{}", "{0}", ":", "a:b", "*", "?", "[a-z]", "\\", "/", "../..",
    " ", "\t\n", "t ", " t", "t", "T", "ü", "u\u0308", "\U0001f600", "\u202e", "0", "-1", "null", "x" * 1024, "ü" * 512,
)  # fmt: skip
"""Ids that SQL, patterns, formats or paths could misread, or that look alike."""


class LimitTests(ConformanceTests):
    """Ids and texts come from outside, so each is stored as it is."""

    async def test_any_text_up_to_1_KiB_is_an_id(self, store: Store) -> None:
        """Threads, runs, messages, agents and scopes may have any text up to 1 KiB as an id."""
        for n, name in enumerate(HOSTILE):
            await store_run(store, name, f"{name} {n}", [name], agent_id=name, scope=name)
        for n, name in enumerate(HOSTILE):
            thread = await store.thread(name)
            check_equal((thread.thread_id, thread.agent_id, thread.scope), (name, name, name), "keep ids as they are")
            check_equal(
                [run.run_id for run in await store.runs(name, 0, 1 << 20)], [f"{name} {n}"], "one thread, one run"
            )
            check_equal(len(await history(store, name)), 5, f"the thread {name!r} has its own history only")
            listed = [listed_thread.thread_id for listed_thread in await store.threads(100, None, False, None, name)]
            check_equal(listed, [name], f"list the threads of the scope {name!r}, of no other")
            listed = [
                listed_thread.thread_id for listed_thread in await store.threads(100, None, False, name, ANY_SCOPE)
            ]
            check_equal(listed, [name], f"list the threads of the agent {name!r}, of no other")
        for name in HOSTILE:
            _, known = await claim(store, name, f"again {name}", [name, f"{name}{name}"], scope=name)
            check_equal(known, {name: 5}, f"the thread {name!r} knows its message")
            check_equal(len(await store.live(name)), 1, f"one run is live in the thread {name!r}")
            check(await store.request_stop(name, f"again {name}"), f"the run of the thread {name!r} is found")

    async def test_an_id_that_cannot_be_stored_raises_a_typed_error(self, store: Store) -> None:
        """An id with a NUL or a lone surrogate is stored unchanged, or refused with a typed error."""
        for name in ("a\0b", "\0", "\ud800"):
            try:
                await store.claim(name, f"run of {name}", "{}", None, [], None)
            except (AgentRunnerError, UnicodeEncodeError, ValueError):
                continue
            live = [claim.thread_id for claim, _ in await store.live(name)]
            check_equal(live, [name], "an id that is accepted is stored unchanged")
        await check_raises(ThreadNotFound, store.thread("a"), "no id is cut short at a NUL")
        await store_run(store, "t", "r")
        check_equal((await store.thread("t")).runs, 1, "the store continues")

    async def test_events_names_and_inputs_are_stored_byte_for_byte(self, store: Store) -> None:
        """Events, names and inputs are stored byte for byte, with NUL, quotes and line separators."""
        wild = "\0 \u2028 \r\n\r\n data: x ' \" \\ %s {} \U0001f600 \x7f"
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", wild), {"type": "CUSTOM", "name": wild, "value": {wild: [1e300, None, wild]}})
        shown = await read_journal(store, "t")
        check_equal(shown[2].to_dict()["delta"], wild, "keep what was deltas as it is")
        await writer.end()
        check_equal(lines(await read_journal(store, "t"))[: len(shown)], lines(shown), "raw frames stay as they are")
        deltas = [
            event.to_dict()["delta"] for event in await history(store, "t") if event.type == "TEXT_MESSAGE_CONTENT"
        ]
        check_equal(deltas, [wild], "keep what was deltas as it is")

    async def test_a_run_may_have_thousands_of_message_ids(self, store: Store) -> None:
        """A run may have thousands of messages, and a claim may ask for as many."""
        ids = [f"message {n}" for n in range(5000)]
        await store_run(store, "t", "r1", ids)
        _, known = await claim(store, "t", "r2", [*ids, "new"])
        check_equal(len(known), 5000, "return every id that is known")

    async def test_large_events_and_large_batches_are_stored(self, store: Store) -> None:
        """One event of 4 MiB and one batch of 5,000 events are stored like any others."""
        writer = await begin(store, "t", "r")
        await writer.write(*text("large", "x" * (4 << 20)))
        await writer.write(*text("small", *("y" for _ in range(5000))))
        check_equal(len(await read_journal(store, "t", limit=50_000)), 5006, "keep every event")
        await writer.end()
        check_equal(sum(len(bytes(event)) > 4 << 20 for event in await history(store, "t")), 1, "keep the whole event")

    async def test_hundreds_of_threads_are_listed_and_cleared(self, store: Store) -> None:
        """Two hundred threads are listed and cleared as one is."""
        for n in range(200):
            await store.put(make_summary(f"t{n:03}", updated_at=1000 + n), make_runs(f"r{n}"))
        all_threads = await store.threads(1000, None, False, None, ANY_SCOPE)
        check_equal(
            [thread.thread_id for thread in all_threads],
            [f"t{n:03}" for n in reversed(range(200))],
            "newest first, all",
        )
        await store.clear(ANY_SCOPE)
        check_equal(await store.threads(1000, None, True, None, ANY_SCOPE), [], "clear them all")
