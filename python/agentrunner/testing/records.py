"""Tests for `record`, `records` and `write`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import InvalidRecord, LeaseLost, RecordConflict, ThreadNotFound
from agentrunner.stores import Change, Record
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.limits import HOSTILE
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import begin, fall_silent, store_run, wait_and_recover
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store

ALL_OR_NONE = "check every change before the first is made, or undo: `write` makes all or none"
GOES = "a thread that is removed takes its records along, in the same step"
RACES = 200


def put(key: str, value: bytes = b"value", version: int | None = None, *, thread_id: str = "t") -> Change:
    """Return a change that sets a record."""
    return Change("kind", key, thread_id, value, version)


def removal(key: str, version: int | None = None, *, thread_id: str = "t") -> Change:
    """Return a change that removes a record."""
    return Change("kind", key, thread_id, None, version)


async def everything(store: Store) -> list[Record]:
    """Return all records of the store."""
    return await store.records(None, None, None, 10_000)


class RecordTests(ConformanceTests):
    """`write` makes all its changes or none; `record` and `records` read them."""

    async def test_what_was_written_can_be_read_at_once(self, store: Store) -> None:
        """When `write` returns, its records can be read, with the versions it returned."""
        check_equal(await store.record("kind", "a"), None, "there is none yet")
        check_equal(await everything(store), [], "there is none yet")
        first, second = await store.write([put("b", b"2"), put("a", b"1", thread_id="")])
        check(first > 0 and second > 0, "versions are above 0: that is for a record that is not there")
        check_equal(
            await store.record("kind", "a"), Record("kind", "a", "", second, b"1"), "return the record as it was set"
        )
        check_equal(
            await store.record("kind", "b"), Record("kind", "b", "t", first, b"2"), "return the record as it was set"
        )
        check_equal(await store.record("a", "kind"), None, "a record is found by its kind and its key")
        third, gone = await store.write([put("b", b"3"), removal("a", thread_id="")])
        check_equal((third > first, gone), (True, 0), "a higher version for what was set, 0 for what was removed")
        check_equal(await everything(store), [Record("kind", "b", "t", third, b"3")], "what was removed is gone")
        check_equal(await store.write([removal("a")]), [0], "what is not there can be removed")
        check_equal(await store.write([]), [], "no changes, no versions")

    async def test_a_value_may_be_any_bytes(self, store: Store) -> None:
        """A value may be any bytes: empty, with NUL, all byte values, a MiB."""
        values = [b"", b"\0", bytes(range(256)), "ü\ud7ff".encode(), bytes(range(256)) * 4096]
        versions = await store.write([put(f"{n}", value) for n, value in enumerate(values)])
        kept = [Record("kind", f"{n}", "t", versions[n], value) for n, value in enumerate(values)]
        check_equal(await everything(store) == kept, True, "keep each value byte for byte")
        for record in kept:
            check_equal(await store.record("kind", record.key) == record, True, "keep each value byte for byte")

    async def test_a_change_with_a_version_needs_that_version(self, store: Store) -> None:
        """A change with a version is made only if the record has it; 0 means no record."""
        (version,) = await store.write([put("a", b"1", 0)])
        for stale in {0, version - 1, version + 1}:
            await check_raises(RecordConflict, store.write([put("a", b"x", stale)]), f"it has version {version}")
            await check_raises(RecordConflict, store.write([removal("a", stale)]), f"it has version {version}")
        await check_raises(RecordConflict, store.write([put("b", b"x", version)]), "there is none, of no version")
        await check_raises(RecordConflict, store.write([removal("b", version)]), "there is none, of no version")
        check_equal(
            await store.record("kind", "a"), Record("kind", "a", "t", version, b"1"), "a conflict changes nothing"
        )
        (newer,) = await store.write([put("a", b"2", version)])
        (newest,) = await store.write([put("a", b"3")])
        check(version < newer < newest, "each write makes a higher version")
        check_equal(await store.write([removal("a", newest), removal("b", 0)]), [0, 0], "that was its version")
        check_equal(await everything(store), [], "it was removed")

    async def test_a_version_is_never_used_again(self, store: Store) -> None:
        """A record that is removed and created again has a higher version than before."""
        versions = await store.write([put("a", b"same", 0)])
        for _ in range(20):
            await store.write([removal("a", versions[-1])])
            versions += await store.write([put("a", b"same", 0)])
            check(versions[-1] > versions[-2], "never use a version twice, also not after a removal")
            await check_raises(RecordConflict, store.write([put("a", b"x", versions[-2])]), "it is another record now")

    async def test_one_conflict_undoes_all_changes_of_a_write(self, store: Store) -> None:
        """If one change conflicts, none is made, and the error names its record."""
        (version,) = await store.write([put("m", b"kept")])
        await store.write([put("n", b"kept")])
        before = await everything(store)
        fine = [put("a"), put("m", b"x", version), put("z", b"x", 0), removal("n")]
        for bad in (put("k", b"x", version), removal("k", version), put("o", b"x", version)):
            for n in range(len(fine) + 1):
                try:
                    versions = await store.write([*fine[:n], bad, *fine[n:]])
                except RecordConflict as error:
                    check_equal((error.kind, error.key), (bad.kind, bad.key), "name the record that is not as expected")
                else:
                    check_equal(versions, RecordConflict, "there is no such record")
                check_equal(await everything(store), before, ALL_OR_NONE)
        await store.write(fine)
        check_equal([record.key for record in await everything(store)], ["a", "m", "z"], "without it they are made")

    async def test_a_record_never_changes_its_thread(self, store: Store) -> None:
        """A change that names another thread than the record's is a conflict."""
        (version,) = await store.write([put("a")])
        before = await everything(store)
        for change in (put("a", b"x"), put("a", b"x", version), removal("a"), removal("a", version)):
            await check_raises(
                RecordConflict, store.write([change._replace(thread_id="other")]), "it is another thread's"
            )
            check_equal(await everything(store), before, "a conflict changes nothing")

    async def test_an_invalid_change_raises_InvalidRecord(self, store: Store) -> None:
        """`write` raises `InvalidRecord` for what `stores.validation` refuses.

        It does so whatever the store itself could keep, and changes nothing.
        """
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
            await check_raises(InvalidRecord, store.write([fine, bad]), "call `stores.validation.check_changes` first")
            check_equal(await everything(store), before, "what is refused changes nothing")
        check_equal(await store.record("k\0", "\ud800"), None, "what cannot be kept is not there")
        check_equal(await store.records("k\0", None, None, 10), [], "what cannot be kept is not there")
        check_equal(await store.records(None, "\ud800", None, 10), [], "what cannot be kept is not there")

    async def test_the_longest_kind_key_and_thread_id_are_stored(self, store: Store) -> None:
        """A kind may have 64 bytes, a key 1536 and a thread id 1024, all at once."""
        from agentrunner.stores.validation import KEY_BYTES, KIND_BYTES, THREAD_ID_BYTES

        # As good as nothing can be taken out of it by packing.
        odd = "".join(chr(33 + (n * n * 7919 + n // 3) % 94) for n in range(KEY_BYTES))
        longest = Change(odd[:KIND_BYTES], odd, odd[:THREAD_ID_BYTES], b"value")
        (version,) = await store.write([longest])
        record = Record(longest.kind, longest.key, longest.thread_id, version, b"value")
        check_equal(await store.record(record.kind, record.key), record, "keep it")
        check_equal(
            await store.records(record.kind, record.thread_id, (record.kind, odd[:-1]), 10), [record], "and find it"
        )

    async def test_any_text_is_a_kind_a_key_or_a_thread_id(self, store: Store) -> None:
        """A kind, a key and a thread id may be any text, and none is taken for another."""
        names = [name for name in HOSTILE if len(name) < 64]
        versions = await store.write([Change(name, name, name, name.encode()) for name in names])
        for name, version in zip(names, versions, strict=True):
            record = Record(name, name, name, version, name.encode())
            check_equal(await store.record(name, name), record, "keep names as they are")
            check_equal(await store.records(name, name, None, 100), [record], f"one of the kind {name!r}")
            check_equal(await store.records(None, name, None, 100), [record], f"one of the thread {name!r}")
        await store.write([Change(name, name, name, None) for name in names])
        check_equal(await everything(store), [], "each is removed")

    async def test_records_are_returned_in_order_and_in_pages(self, store: Store) -> None:
        """Records come in the order of `(kind, key)` by code points, in pages.

        They can be filtered by kind, by thread, or by both.
        """
        keys = ["a", "a/10", "a/2", "a b", "b", "B", "ab", "~", "é", "\ud7ff", "\uffff", "\U00010000", "\t", "a\x7f"]
        kinds = ["kind", "kind2", "kin", "Kind", "ü"]
        changes = [
            Change(kind, key, ["t1", "t2", ""][(n + m) % 3], f"{kind} {key}".encode())
            for n, kind in enumerate(kinds)
            for m, key in enumerate(keys)
        ]
        versions = await store.write(changes)
        written = [
            Record(change.kind, change.key, change.thread_id, version, change.value or b"")
            for change, version in zip(changes, versions, strict=True)
        ]
        written.sort(key=lambda record: (record.kind, record.key))
        for kind in (None, "absent", *kinds):
            for thread_id in (None, "t", "t1", "t2", ""):
                chosen = [r for r in written if kind in (None, r.kind) and thread_id in (None, r.thread_id)]
                for limit in (1, 7, 1000):
                    listed: list[Record] = []
                    after: tuple[str, str] | None = None
                    while page := await store.records(kind, thread_id, after, limit):
                        check(len(page) <= limit, "at most `limit` records a page")
                        listed += page
                        after = (page[-1].kind, page[-1].key)
                    check_equal(listed, chosen, f"page on in order, kind {kind!r} and thread {thread_id!r}")
        for after in (("kind", "a/"), ("k", "z"), ("kind", "\U0010ffff"), ("z", "z")):
            expected = [record for record in written if (record.kind, record.key) > after]
            check_equal(
                await store.records(None, None, after, 1000), expected, "begin after a place where there is none"
            )
            of_kind = [record for record in expected if record.kind == "kind"]
            check_equal(
                await store.records("kind", None, after, 1000), of_kind, "begin after a place where there is none"
            )
        check_equal(await store.records(None, None, None, 0), [], "no more than `limit`")

    async def test_removed_records_are_on_no_page(self, store: Store) -> None:
        """A removed record is on no page, and one that was set again is on one."""
        await store.write([put(f"{n}") for n in range(10)])
        await store.write([removal(f"{n}") for n in range(0, 10, 2)])
        await store.write([put("1", b"again"), put("2", b"again")])
        for kind, thread_id in ((None, None), ("kind", None), (None, "t"), ("kind", "t")):
            listed_keys = [record.key for record in await store.records(kind, thread_id, None, 100)]
            check_equal(listed_keys, ["1", "2", "3", "5", "7", "9"], "each record that is there, once")

    async def test_a_write_with_a_claim_needs_the_claim_to_hold(self, store: Store) -> None:
        """A write with a claim is made while the claim holds its thread, for any thread's records."""
        writer = await begin(store, "t", "r")
        await store.write([put("a"), put("b", thread_id="other")], writer.claim)
        await store.write([removal("a")], claim=writer.claim)
        check_equal([record.key for record in await everything(store)], ["b"], "the claim holds its thread")
        await writer.end()

    async def test_a_write_with_a_lost_claim_raises_LeaseLost(self, store: Store) -> None:
        """A write with a claim that is not its thread's newest raises `LeaseLost`.

        It changes nothing.
        """
        await store.write([put("a", b"kept")])
        before = await everything(store)
        changes = [put("a", b"x"), put("b")]
        old = await begin(store, "t", "r1")
        forged = type(old.claim)("t", "r1", old.claim.token + 1, 1, old.claim.input)
        await check_raises(LeaseLost, store.write(changes, forged), "it is the token that counts")
        await old.end()
        await check_raises(LeaseLost, store.write(changes, old.claim), "its run has ended")
        live = await begin(store, "t", "r2")
        await check_raises(LeaseLost, store.write(changes, old.claim), "another claim has the thread")
        check_equal(await everything(store), before, "check the fencing token in the same atomic step that writes")
        await check_raises(LeaseLost, store.write([], old.claim), "also where there is nothing to write")
        await store.write([put("a")])
        await live.end()

    async def test_the_former_owner_of_a_recovered_run_writes_no_records(self, store: Store) -> None:
        """After a silent owner's run was recovered, its old claim writes no record."""
        if not store.shared:
            return
        async with self.open_store(lease_ttl=0.3) as silent:
            zombie = await begin(silent, "t", "r")
            await silent.write([put("a")], zombie.claim)
            await fall_silent(silent, zombie.claim)
            (taken,) = await wait_and_recover(store, "t")
            await check_raises(LeaseLost, silent.write([put("a", b"x")], zombie.claim), "another claim has the thread")
            check_equal(
                [record.value for record in await everything(silent)], [b"value"], "a refused write changes nothing"
            )
            await store.write([put("a", b"y")], taken)

    async def test_records_are_deleted_with_their_thread(self, store: Store) -> None:
        """`delete`, `clear` and `prune` delete a thread's records with it, and no others."""
        for thread_id in ("deleted", "pruned", "kept"):
            await store.put(
                make_summary(thread_id), make_runs(f"r-{thread_id}", created_at=1 if thread_id != "kept" else 9)
            )
        await store_run(store, "cleared", "r", scope="alice")
        await begin(store, "live", "r-live", scope="alice")
        threads = ["deleted", "pruned", "cleared", "kept", "live", ""]
        await store.write([put(f"{n}-{thread_id}", thread_id=thread_id) for thread_id in threads for n in range(3)])

        async def left() -> set[str]:
            records = await everything(store)
            for thread_id in threads:
                of_thread = [record for record in records if record.thread_id == thread_id]
                check_equal(await store.records(None, thread_id, None, 100), of_thread, GOES)
                check(len(of_thread) in (0, 3), GOES)
            return {record.thread_id for record in records}

        await store.delete("deleted")
        check_equal(await left(), {*threads} - {"deleted"}, GOES)
        check_equal(await store.prune(None, 5, 100), 1, "r-pruned ended before 5")
        check_equal(await left(), {"cleared", "kept", "live", ""}, GOES)
        await store.clear("alice")
        check_equal(await left(), {"kept", "live", ""}, "a thread with a live run stays, and so do its records")
        await store.clear(ANY_SCOPE)
        check_equal(await left(), {"live", ""}, "records without a thread stay")

    async def test_a_records_thread_need_not_exist(self, store: Store) -> None:
        """A record's thread need not exist: the record may come first, or the thread may go."""
        await store.write([put("early", thread_id="t"), put("unowned", thread_id="nobody")])
        writer = await begin(store, "t", "r")
        await store.write([put("during")], writer.claim)
        await writer.end(stored=False)
        await check_raises(ThreadNotFound, store.thread("t"), "its only run left nothing")
        await check_raises(ThreadNotFound, store.delete("nobody"), "there is no such thread")
        await store.clear(ANY_SCOPE)
        await store.prune(1, 1 << 60, 100)
        check_equal(
            [record.key for record in await everything(store)],
            ["during", "early", "unowned"],
            "they are all there",
        )
        await store_run(store, "t", "r2")
        await store.delete("t")
        check_equal([record.key for record in await everything(store)], ["unowned"], GOES)

    async def test_of_two_writes_for_one_version_exactly_one_wins(self, store: Store) -> None:
        """Of simultaneous writes that expect the same version, exactly one is made."""
        await self._race(store, store)

    async def test_of_two_processes_that_write_a_record_exactly_one_wins(self, store: Store) -> None:
        """Of writes from two processes that expect the same version, exactly one is made."""
        if store.shared:
            async with self.open_store() as other:
                await self._race(store, other)

    async def _race(self, *stores: Store) -> None:
        versions = [0, 0]

        async def change(store: Store, name: bytes) -> list[int] | RecordConflict:
            try:
                # In another order each: a store that locks must not wait in a circle.
                order = slice(None, None, 1 if name == b"0" else -1)
                new_versions = await store.write([put("a", name, versions[0]), put("b", name, versions[1])][order])
                return new_versions[order]
            except RecordConflict as error:
                return error

        for _ in range(RACES):
            told = await asyncio.gather(*(change(store, b"%d" % n) for n, store in enumerate(stores)))
            won = [n for n, outcome in enumerate(told) if isinstance(outcome, list)]
            check_equal(len(won), 1, "one write is made, and the other raises")
            outcome = told[won[0]]
            versions = outcome if isinstance(outcome, list) else []
            kept = [(record.value, record.version) for record in await everything(stores[0])]
            check_equal(
                kept, [(b"%d" % won[0], version) for version in versions], "what is there is the winner's, whole"
            )
            if versions[0] % 5 == 0:
                await stores[won[0]].write([removal("b", versions[1]), removal("a", versions[0])])
                versions = [0, 0]

    async def test_records_are_there_after_the_store_is_reopened(self) -> None:
        """When `write` returns, changes and removals are durable, and versions go on growing."""
        self.needs_durable()
        async with self.open_store() as store:
            await store.write([put("gone"), put("kept", b"1"), put("kept too", b"2", thread_id="")])
            await store.write([put("kept", b"3"), removal("gone")])
            before = await everything(store)
        async with self.open_store() as again:
            check_equal(await everything(again), before, "write records down before `write` returns")
            (version,) = await again.write([put("gone")])
            check(version > max(record.version for record in before), "a version is never used twice")
