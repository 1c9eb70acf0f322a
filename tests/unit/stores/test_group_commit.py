"""Group commit: one commit at a time, all waiting items in the next, one outcome each."""

import asyncio
from itertools import chain

import pytest

from agentrunner.stores._group_commit import BATCH_ITEMS, GroupCommit


class Disk:
    """Keeps the groups it is given; a commit ends when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()
        self.begun = asyncio.Event()
        self.under_way = 0

    async def commit(self, items: list[int]) -> list[Exception | None]:
        self.under_way += 1
        assert self.under_way == 1
        self.groups.append(items)
        self.begun.set()
        await self.open.wait()
        self.under_way -= 1
        if -1 in items:
            raise OSError("the disk is gone")
        return [ValueError(item) if item < 0 else None for item in items]

    async def first(self, group: GroupCommit[int], item: int = 0) -> asyncio.Task[None]:
        """Begin a commit that does not end yet."""
        self.begun.clear()
        task = asyncio.create_task(group.add(item))
        await self.begun.wait()
        return task


async def test_waiting_items_share_a_commit():
    disk = Disk()
    group = GroupCommit(disk.commit)
    first = await disk.first(group)
    others = [asyncio.create_task(group.add(n)) for n in range(1, 6)]
    await asyncio.sleep(0)
    disk.open.set()
    await asyncio.gather(first, *others)
    assert disk.groups == [[0], [1, 2, 3, 4, 5]]
    await group.add(6)
    assert disk.groups[2:] == [[6]]


async def test_each_item_gets_its_own_outcome():
    disk = Disk()
    disk.open.set()
    group = GroupCommit(disk.commit)
    outcomes = await asyncio.gather(*(group.add(n) for n in (1, -2, 3, -4)), return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["None", "ValueError(-2)", "None", "ValueError(-4)"]


async def test_a_commit_that_raises_fails_only_its_own_batch():
    disk = Disk()
    group = GroupCommit(disk.commit)
    first = await disk.first(group, -1)
    second = asyncio.create_task(group.add(2))
    await asyncio.sleep(0)
    disk.open.set()
    with pytest.raises(OSError, match="the disk is gone"):
        await first
    await second
    assert disk.groups == [[-1], [2]]


async def test_a_cancelled_item_does_not_affect_the_others():
    disk = Disk()
    group = GroupCommit(disk.commit)
    first = await disk.first(group)
    waits, stays = asyncio.create_task(group.add(1)), asyncio.create_task(group.add(2))
    await asyncio.sleep(0)
    first.cancel()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    disk.open.set()
    await stays
    assert disk.groups == [[0], [2]]
    assert waits.cancelled()


async def test_a_batch_has_a_greatest_size():
    disk = Disk()
    disk.open.set()
    group = GroupCommit(disk.commit)
    await asyncio.gather(*(group.add(n) for n in range(BATCH_ITEMS + 1)))
    assert sorted(chain(*disk.groups)) == list(range(BATCH_ITEMS + 1))
    assert max(map(len, disk.groups)) <= BATCH_ITEMS


async def test_wait_until_idle_waits_for_all_items():
    disk = Disk()
    group = GroupCommit(disk.commit)
    await group.wait_until_idle()
    first = await disk.first(group)
    second = asyncio.create_task(group.add(1))
    settled = asyncio.create_task(group.wait_until_idle())
    await asyncio.sleep(0)
    assert not settled.done()
    disk.open.set()
    await settled
    assert (first.done(), disk.groups) == (True, [[0], [1]])
    await second


async def test_a_commit_that_never_suspends():
    groups = []

    async def commit(items: list[int]) -> list[Exception | None]:
        groups.append(items)
        return [None] * len(items)

    group = GroupCommit(commit)
    for n in range(3):
        await group.add(n)
    await asyncio.gather(group.add(3), group.add(4))
    assert list(chain(*groups)) == [0, 1, 2, 3, 4]
