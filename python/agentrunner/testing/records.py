"""Records: small things beside the runs, changed by comparing and setting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import InvalidRecord, LeaseLost, RecordConflict, ThreadNotFound
from agentrunner.stores import Change, Record
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.limits import HOSTILE
from agentrunner.testing.stored_threads import kept_runs, summary
from agentrunner.testing.writer import begin, recovered, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store

ALL_OR_NONE = "look at every change before the first is made, or undo: `write` makes all or none"
GOES = "a thread that is removed takes its records along, in the same step"
RACES = 200


def put(key: str, value: bytes = b"value", version: int | None = None, *, thread_id: str = "t") -> Change:
    """Give a change that sets a record."""
    return Change("kind", key, thread_id, value, version)


def removal(key: str, version: int | None = None, *, thread_id: str = "t") -> Change:
    """Give a change that removes one."""
    return Change("kind", key, thread_id, None, version)


async def everything(store: Store) -> list[Record]:
    """Give all records there are."""
    return await store.records(None, None, None, 10_000)


class Records(Chapter):
    """`write` makes all its changes or none; `record` and `records` give what is there."""

    async def test_what_is_written_is_there(self, store: Store) -> None:
        """What `write` has returned from is read as it was written, under the versions it gave."""
        equal(await store.record("kind", "a"), None, "there is none yet")
        equal(await everything(store), [], "there is none yet")
        first, second = await store.write([put("b", b"2"), put("a", b"1", thread_id="")])
        check(first > 0 and second > 0, "versions are above 0: that is for a record that is not there")
        equal(await store.record("kind", "a"), Record("kind", "a", "", second, b"1"), "give the record as it was set")
        equal(await store.record("kind", "b"), Record("kind", "b", "t", first, b"2"), "give the record as it was set")
        equal(await store.record("a", "kind"), None, "a record is found by its kind and its key")
        third, gone = await store.write([put("b", b"3"), removal("a", thread_id="")])
        equal((third > first, gone), (True, 0), "a higher version for what was set, 0 for what was removed")
        equal(await everything(store), [Record("kind", "b", "t", third, b"3")], "what was removed is gone")
        equal(await store.write([removal("a")]), [0], "what is not there can be removed")
        equal(await store.write([]), [], "nothing asked, nothing done")

    async def test_any_bytes(self, store: Store) -> None:
        """A value is bytes, any of them: none at all, NUL, all there are, a MiB."""
        values = [b"", b"\0", bytes(range(256)), "ü\ud7ff".encode(), bytes(range(256)) * 4096]
        versions = await store.write([put(f"{n}", value) for n, value in enumerate(values)])
        kept = [Record("kind", f"{n}", "t", versions[n], value) for n, value in enumerate(values)]
        equal(await everything(store) == kept, True, "keep each value byte for byte")
        for record in kept:
            equal(await store.record("kind", record.key) == record, True, "keep each value byte for byte")

    async def test_compared_and_set(self, store: Store) -> None:
        """A change that expects a version is made on that alone: 0 for none, `None` for whatever there is."""
        (version,) = await store.write([put("a", b"1", 0)])
        for stale in {0, version - 1, version + 1}:
            await refused(RecordConflict, store.write([put("a", b"x", stale)]), f"it has version {version}")
            await refused(RecordConflict, store.write([removal("a", stale)]), f"it has version {version}")
        await refused(RecordConflict, store.write([put("b", b"x", version)]), "there is none, of no version")
        await refused(RecordConflict, store.write([removal("b", version)]), "there is none, of no version")
        equal(await store.record("kind", "a"), Record("kind", "a", "t", version, b"1"), "a conflict changes nothing")
        (newer,) = await store.write([put("a", b"2", version)])
        (newest,) = await store.write([put("a", b"3")])
        check(version < newer < newest, "each write makes a higher version")
        equal(await store.write([removal("a", newest), removal("b", 0)]), [0, 0], "that was its version")
        equal(await everything(store), [], "it was removed")

    async def test_a_version_never_comes_back(self, store: Store) -> None:
        """A record made anew where one was removed has a higher version than that: what expects the old one is told."""
        versions = await store.write([put("a", b"same", 0)])
        for _ in range(20):
            await store.write([removal("a", versions[-1])])
            versions += await store.write([put("a", b"same", 0)])
            check(versions[-1] > versions[-2], "never use a version twice, also not after a removal")
            await refused(RecordConflict, store.write([put("a", b"x", versions[-2])]), "it is another record now")

    async def test_all_or_none(self, store: Store) -> None:
        """One change that conflicts, wherever it stands, and none of the call's is made; the error names its record."""
        (version,) = await store.write([put("m", b"kept")])
        await store.write([put("n", b"kept")])
        before = await everything(store)
        fine = [put("a"), put("m", b"x", version), put("z", b"x", 0), removal("n")]
        for bad in (put("k", b"x", version), removal("k", version), put("o", b"x", version)):
            for n in range(len(fine) + 1):
                try:
                    found = await store.write([*fine[:n], bad, *fine[n:]])
                except RecordConflict as error:
                    equal((error.kind, error.key), (bad.kind, bad.key), "name the record that is not as expected")
                else:
                    equal(found, RecordConflict, "there is no such record")
                equal(await everything(store), before, ALL_OR_NONE)
        await store.write(fine)
        equal([record.key for record in await everything(store)], ["a", "m", "z"], "without it they are made")

    async def test_a_records_thread_stays(self, store: Store) -> None:
        """A record is of one thread for good: a change that names another is a conflict, also with no version."""
        (version,) = await store.write([put("a")])
        before = await everything(store)
        for change in (put("a", b"x"), put("a", b"x", version), removal("a"), removal("a", version)):
            await refused(RecordConflict, store.write([change._replace(thread_id="other")]), "it is another thread's")
            equal(await everything(store), before, "a conflict changes nothing")

    async def test_what_cannot_be_kept_is_refused(self, store: Store) -> None:
        """`InvalidRecord` for what `stores.validation` refuses, whatever the store could keep; nothing is changed."""
        await store.write([put("a")])
        before = await everything(store)
        fine = put("b")
        for bad in (
            fine,
            fine._replace(kind=""),
            fine._replace(key=""),
            fine._replace(kind="k\0"),
            fine._replace(key="k\0"),
            fine._replace(thread_id="k\0"),
            fine._replace(key="\ud800"),
            fine._replace(key="ü" * 800),
            fine._replace(version=-1),
            fine._replace(version=True),
            fine._replace(version=1 << 63),
            fine._replace(value="text"),  # type: ignore[arg-type]
        ):
            await refused(InvalidRecord, store.write([fine, bad]), "call `stores.validation.check_changes` first")
            equal(await everything(store), before, "what is refused changes nothing")
        equal(await store.record("k\0", "\ud800"), None, "what cannot be kept is not there")
        equal(await store.records("k\0", None, None, 10), [], "what cannot be kept is not there")
        equal(await store.records(None, "\ud800", None, 10), [], "what cannot be kept is not there")

    async def test_the_longest_names(self, store: Store) -> None:
        """A kind has up to 64 bytes, a key 1536, a thread id 1024; all at once too."""
        from agentrunner.stores.validation import KEY_BYTES, KIND_BYTES, THREAD_ID_BYTES

        # As good as nothing can be taken out of it by packing.
        odd = "".join(chr(33 + (n * n * 7919 + n // 3) % 94) for n in range(KEY_BYTES))
        longest = Change(odd[:KIND_BYTES], odd, odd[:THREAD_ID_BYTES], b"value")
        (version,) = await store.write([longest])
        record = Record(longest.kind, longest.key, longest.thread_id, version, b"value")
        equal(await store.record(record.kind, record.key), record, "keep it")
        equal(await store.records(record.kind, record.thread_id, (record.kind, odd[:-1]), 10), [record], "and find it")

    async def test_any_text_is_a_name(self, store: Store) -> None:
        """A kind, a key and a thread id may be any text, and none is taken for another or for a command."""
        names = [name for name in HOSTILE if len(name) < 64]
        versions = await store.write([Change(name, name, name, name.encode()) for name in names])
        for name, version in zip(names, versions, strict=True):
            record = Record(name, name, name, version, name.encode())
            equal(await store.record(name, name), record, "keep names as they are")
            equal(await store.records(name, name, None, 100), [record], f"one of the kind {name!r}")
            equal(await store.records(None, name, None, 100), [record], f"one of the thread {name!r}")
        await store.write([Change(name, name, name, None) for name in names])
        equal(await everything(store), [], "each is removed")

    async def test_pages(self, store: Store) -> None:
        """Records come in the order of `(kind, key)` by code points, of a kind, of a thread, of both, behind one."""
        keys = ["a", "a/10", "a/2", "a b", "b", "B", "ab", "~", "é", "\ud7ff", "\uffff", "\U00010000", "\t", "a\x7f"]
        kinds = ["kind", "kind2", "kin", "Kind", "ü"]
        changes = [
            Change(kind, key, ["t1", "t2", ""][(n + m) % 3], f"{kind} {key}".encode())
            for n, kind in enumerate(kinds)
            for m, key in enumerate(keys)
        ]
        versions = await store.write(changes)
        made = [
            Record(change.kind, change.key, change.thread_id, version, change.value or b"")
            for change, version in zip(changes, versions, strict=True)
        ]
        made.sort(key=lambda record: (record.kind, record.key))
        for kind in (None, "absent", *kinds):
            for thread_id in (None, "t", "t1", "t2", ""):
                chosen = [r for r in made if kind in (None, r.kind) and thread_id in (None, r.thread_id)]
                for limit in (1, 7, 1000):
                    found: list[Record] = []
                    after: tuple[str, str] | None = None
                    while page := await store.records(kind, thread_id, after, limit):
                        check(len(page) <= limit, "at most `limit` records a page")
                        found += page
                        after = (page[-1].kind, page[-1].key)
                    equal(found, chosen, f"page on in order, kind {kind!r} and thread {thread_id!r}")
        for after in (("kind", "a/"), ("k", "z"), ("kind", "\U0010ffff"), ("z", "z")):
            behind = [record for record in made if (record.kind, record.key) > after]
            equal(await store.records(None, None, after, 1000), behind, "begin behind a place where there is none")
            of_kind = [record for record in behind if record.kind == "kind"]
            equal(await store.records("kind", None, after, 1000), of_kind, "begin behind a place where there is none")
        equal(await store.records(None, None, None, 0), [], "no more than `limit`")

    async def test_removed_records_leave_the_pages(self, store: Store) -> None:
        """What was removed, or set again, is in no page, or in one place."""
        await store.write([put(f"{n}") for n in range(10)])
        await store.write([removal(f"{n}") for n in range(0, 10, 2)])
        await store.write([put("1", b"again"), put("2", b"again")])
        for kind, thread_id in ((None, None), ("kind", None), (None, "t"), ("kind", "t")):
            found = [record.key for record in await store.records(kind, thread_id, None, 100)]
            equal(found, ["1", "2", "3", "5", "7", "9"], "each record that is there, once")

    async def test_under_a_claim(self, store: Store) -> None:
        """With a claim a write is made while it holds its thread, of any thread's records."""
        writer = await begin(store, "t", "r")
        await store.write([put("a"), put("b", thread_id="other")], writer.claim)
        await store.write([removal("a")], claim=writer.claim)
        equal([record.key for record in await everything(store)], ["b"], "the claim holds its thread")
        await writer.end()

    async def test_a_lost_claim_writes_no_records(self, store: Store) -> None:
        """`LeaseLost`, changing nothing, for a claim that is not the newest of its thread, or was made up."""
        await store.write([put("a", b"kept")])
        before = await everything(store)
        changes = [put("a", b"x"), put("b")]
        old = await begin(store, "t", "r1")
        forged = type(old.claim)("t", "r1", old.claim.token + 1, 1, old.claim.input)
        await refused(LeaseLost, store.write(changes, forged), "it is the token that counts")
        await old.end()
        await refused(LeaseLost, store.write(changes, old.claim), "its run has ended")
        live = await begin(store, "t", "r2")
        await refused(LeaseLost, store.write(changes, old.claim), "another claim has the thread")
        equal(await everything(store), before, "check the fencing token in the same atomic step that writes")
        await refused(LeaseLost, store.write([], old.claim), "also where there is nothing to write")
        await store.write([put("a")])
        await live.end()

    async def test_who_was_taken_over_writes_no_records(self, store: Store) -> None:
        """Once a silent owner's run was recovered its old claim writes no record, though it lives on."""
        if not store.shared:
            return
        async with self.opened(lease_ttl=0.3) as silent:
            zombie = await begin(silent, "t", "r")
            await silent.write([put("a")], zombie.claim)
            (taken,) = await recovered(store, "t")
            await refused(LeaseLost, silent.write([put("a", b"x")], zombie.claim), "another claim has the thread")
            equal([record.value for record in await everything(silent)], [b"value"], "a refused write changes nothing")
            await store.write([put("a", b"y")], taken)

    async def test_records_go_with_their_thread(self, store: Store) -> None:
        """`delete`, `clear` and `prune` remove a thread's records with it, and nobody else's."""
        for thread_id in ("deleted", "pruned", "kept"):
            await store.put(summary(thread_id), kept_runs(f"r-{thread_id}", created_at=1 if thread_id != "kept" else 9))
        await whole(store, "cleared", "r", scope="alice")
        await begin(store, "live", "r-live", scope="alice")
        threads = ["deleted", "pruned", "cleared", "kept", "live", ""]
        await store.write([put(f"{n}-{thread_id}", thread_id=thread_id) for thread_id in threads for n in range(3)])

        async def left() -> set[str]:
            records = await everything(store)
            for thread_id in threads:
                of_thread = [record for record in records if record.thread_id == thread_id]
                equal(await store.records(None, thread_id, None, 100), of_thread, GOES)
                check(len(of_thread) in (0, 3), GOES)
            return {record.thread_id for record in records}

        await store.delete("deleted")
        equal(await left(), {*threads} - {"deleted"}, GOES)
        equal(await store.prune(None, 5, 100), 1, "r-pruned ended before 5")
        equal(await left(), {"cleared", "kept", "live", ""}, GOES)
        await store.clear("alice")
        equal(await left(), {"kept", "live", ""}, "a thread with a live run stays, and so do its records")
        await store.clear(ANY_SCOPE)
        equal(await left(), {"live", ""}, "what is of no thread is nobody's to clear")

    async def test_records_without_a_thread(self, store: Store) -> None:
        """The thread of a record need not be there: what it is for may come first, or leave nothing."""
        await store.write([put("early", thread_id="t"), put("nobody's", thread_id="nobody")])
        writer = await begin(store, "t", "r")
        await store.write([put("during")], writer.claim)
        await writer.end(stored=False)
        await refused(ThreadNotFound, store.thread("t"), "its only run left nothing")
        await refused(ThreadNotFound, store.delete("nobody"), "there is no such thread")
        await store.clear(ANY_SCOPE)
        await store.prune(1, 1 << 60, 100)
        equal([record.key for record in await everything(store)], ["during", "early", "nobody's"], "they are all there")
        await whole(store, "t", "r2")
        await store.delete("t")
        equal([record.key for record in await everything(store)], ["nobody's"], GOES)

    async def test_of_two_that_change_a_record_one_does(self, store: Store) -> None:
        """Of writes at once that expect the same version one is made: the others are told, from any process."""
        await self._race(store, store)

    async def test_of_two_processes_one_changes_a_record(self, store: Store) -> None:
        """The same from two openings of a store."""
        if store.shared:
            async with self.opened() as other:
                await self._race(store, other)

    async def _race(self, *stores: Store) -> None:
        versions = [0, 0]

        async def change(store: Store, name: bytes) -> list[int] | RecordConflict:
            try:
                # In another order each: a store that locks must not wait in a circle.
                order = slice(None, None, 1 if name == b"0" else -1)
                made = await store.write([put("a", name, versions[0]), put("b", name, versions[1])][order])
                return made[order]
            except RecordConflict as error:
                return error

        for _ in range(RACES):
            told = await asyncio.gather(*(change(store, b"%d" % n) for n, store in enumerate(stores)))
            won = [n for n, outcome in enumerate(told) if isinstance(outcome, list)]
            equal(len(won), 1, "one of them is made, the other is told")
            outcome = told[won[0]]
            versions = outcome if isinstance(outcome, list) else []
            kept = [(record.value, record.version) for record in await everything(stores[0])]
            equal(kept, [(b"%d" % won[0], version) for version in versions], "what is there is the winner's, whole")
            if versions[0] % 5 == 0:
                await stores[won[0]].write([removal("b", versions[1]), removal("a", versions[0])])
                versions = [0, 0]

    async def test_records_outlive_the_store(self) -> None:
        """What `write` has returned from is durable, removals too, and versions go on rising."""
        self.needs_durable()
        async with self.opened() as store:
            await store.write([put("gone"), put("kept", b"1"), put("kept too", b"2", thread_id="")])
            await store.write([put("kept", b"3"), removal("gone")])
            before = await everything(store)
        async with self.opened() as again:
            equal(await everything(again), before, "write records down before `write` returns")
            (version,) = await again.write([put("gone")])
            check(version > max(record.version for record in before), "a version is never used twice")
