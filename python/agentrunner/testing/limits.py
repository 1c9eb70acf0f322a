"""Names and texts of any kind, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import AgentRunnerError, ThreadNotFound
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.stored_threads import kept_runs, summary
from agentrunner.testing.writer import begin, claim, history, lines, raw, text, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store

HOSTILE = (
    "'; DROP TABLE runs; --", '"', "`", "%", "%s", "_", "{}", "{0}", ":", "a:b", "*", "?", "[a-z]", "\\", "/", "../..",
    " ", "\t\n", "t ", " t", "t", "T", "ü", "u\u0308", "\U0001f600", "\u202e", "0", "-1", "null", "x" * 1024, "ü" * 512,
)  # fmt: skip
"""Ids that mean something to SQL, to patterns, to formats, to paths, or are easily taken for one another."""


class Limits(Chapter):
    """Ids and texts come from outside: each is kept as it is, and none is taken for another or for a command."""

    async def test_any_text_is_an_id(self, store: Store) -> None:
        """Threads, runs, messages, agents and scopes may have any text of up to 1 KiB for an id."""
        for n, name in enumerate(HOSTILE):
            await whole(store, name, f"{name} {n}", [name], agent_id=name, scope=name)
        for n, name in enumerate(HOSTILE):
            thread = await store.thread(name)
            equal((thread.thread_id, thread.agent_id, thread.scope), (name, name, name), "keep ids as they are")
            equal([run.run_id for run in await store.runs(name, 0, 1 << 20)], [f"{name} {n}"], "one thread, one run")
            equal(len(await history(store, name)), 5, f"the thread {name!r} has its own history only")
            listed = [found.thread_id for found in await store.threads(100, None, False, None, name)]
            equal(listed, [name], f"list the threads of the scope {name!r}, of no other")
            listed = [found.thread_id for found in await store.threads(100, None, False, name, ANY_SCOPE)]
            equal(listed, [name], f"list the threads of the agent {name!r}, of no other")
        for name in HOSTILE:
            _, known = await claim(store, name, f"again {name}", [name, f"{name}{name}"], scope=name)
            equal(known, [name], f"the thread {name!r} knows its message")
            equal(len(await store.live(name)), 1, f"one run is live in the thread {name!r}")
            check(await store.request_stop(name, f"again {name}"), f"the run of the thread {name!r} is found")

    async def test_what_is_no_name_at_all(self, store: Store) -> None:
        """An id that cannot be kept, with a NUL or half a surrogate pair, is refused with a typed error, or kept."""
        for name in ("a\0b", "\0", "\ud800"):
            try:
                await store.claim(name, f"run of {name}", "{}", None, [], None)
            except (AgentRunnerError, UnicodeEncodeError, ValueError):
                continue
            live = [claim.thread_id for claim, _ in await store.live(name)]
            equal(live, [name], "an id that is taken is kept as it is")
        await refused(ThreadNotFound, store.thread("a"), "no id is cut short at a NUL")
        await whole(store, "t", "r")
        equal((await store.thread("t")).runs, 1, "the store goes on")

    async def test_any_text_is_data(self, store: Store) -> None:
        """Events, names and inputs are kept byte for byte, NUL, quotes and line separators too."""
        wild = "\0 \u2028 \r\n\r\n data: x ' \" \\ %s {} \U0001f600 \x7f"
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", wild), {"type": "CUSTOM", "name": wild, "value": {wild: [1e300, None, wild]}})
        shown = await raw(store, "t")
        equal(shown[2].to_dict()["delta"], wild, "keep what was said as it is")
        await writer.end()
        equal(lines(await raw(store, "t"))[: len(shown)], lines(shown), "raw frames stay as they are")
        said = [event.to_dict()["delta"] for event in await history(store, "t") if event.type == "TEXT_MESSAGE_CONTENT"]
        equal(said, [wild], "keep what was said as it is")

    async def test_many_message_ids(self, store: Store) -> None:
        """A run may bring thousands of messages, and ask after as many."""
        ids = [f"message {n}" for n in range(5000)]
        await whole(store, "t", "r1", ids)
        _, known = await claim(store, "t", "r2", [*ids, "new"])
        equal(len(set(known)), 5000, "give every id that is known")

    async def test_large_pieces(self, store: Store) -> None:
        """One event of 4 MiB, and one batch of 5,000 small ones, are kept as any other."""
        writer = await begin(store, "t", "r")
        await writer.write(*text("large", "x" * (4 << 20)))
        await writer.write(*text("small", *("y" for _ in range(5000))))
        equal(len(await raw(store, "t", limit=50_000)), 5006, "keep every event")
        await writer.end()
        equal(sum(len(bytes(event)) > 4 << 20 for event in await history(store, "t")), 1, "keep the whole event")

    async def test_many_threads(self, store: Store) -> None:
        """Two hundred threads are listed, cleared and copied as one is."""
        for n in range(200):
            await store.put(summary(f"t{n:03}", updated_at=1000 + n), kept_runs(f"r{n}"))
        found = await store.threads(1000, None, False, None, ANY_SCOPE)
        equal([thread.thread_id for thread in found], [f"t{n:03}" for n in reversed(range(200))], "newest first, all")
        await store.clear(ANY_SCOPE)
        equal(await store.threads(1000, None, True, None, ANY_SCOPE), [], "clear them all")
