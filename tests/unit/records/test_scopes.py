"""Records of the threads of one scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import MemoryStore
from agentrunner.records import kinds
from agentrunner.records.scopes import read_in_scope
from agentrunner.testing.writer import store_run
from agentrunner.types import ANY_SCOPE
from support.scopes import ALICE, BOB

if TYPE_CHECKING:
    from agentrunner import ThreadSummary

pytestmark = pytest.mark.fault("C7")


class ReplacesThread(MemoryStore):
    """A store whose thread Bob replaces after a record was read."""

    is_replacing = False

    async def thread(self, thread_id: str, **options: Any) -> ThreadSummary:
        if self.is_replacing:
            self.is_replacing = False
            await self.delete(thread_id)
            await store_run(self, thread_id, "his", scope=BOB)
        return await super().thread(thread_id, **options)


async def test_a_record_is_not_shown_to_the_scope_that_creates_its_thread_again() -> None:
    store = ReplacesThread()
    await store_run(store, "t", "hers", scope=ALICE)
    await store.write([kinds.APPROVAL.change("key", "t", {"secret": "hers"})])
    record = await kinds.APPROVAL.find(store, "key")
    assert record is not None
    for scope, expected in ((ANY_SCOPE, record), (ALICE, record), (BOB, None), (None, None)):
        assert await read_in_scope(store, record, scope) == expected
    store.is_replacing = True
    assert await read_in_scope(store, record, BOB) is None


async def test_a_record_without_a_thread_has_the_scope_that_it_says() -> None:
    store = MemoryStore()
    await store.write([kinds.HARNESS_RUN.change("key", "t", {"scope": ALICE})])
    record = await kinds.HARNESS_RUN.find(store, "key")
    assert record is not None

    def read_scope(each: Any) -> str | None:
        scope: str | None = kinds.HARNESS_RUN.decode(each)["scope"]
        return scope

    assert await read_in_scope(store, record, ALICE, read_scope) == record
    assert await read_in_scope(store, record, BOB, read_scope) is None
    assert await read_in_scope(store, record, ALICE) is None
