"""Guards for stores whose methods were written before `guard` was part of the protocol."""

from __future__ import annotations

import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agentrunner._core import Frames
from agentrunner.errors import StoreError, ThreadNotFound
from agentrunner.stores._errors import make_cursor_ahead, make_thread_not_found
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage

if TYPE_CHECKING:
    from agentrunner.stores.protocol import Store
    from agentrunner.stores.types import ThreadGuard

logger = logging.getLogger("agentrunner")

GUARDED_METHODS = (
    "request_stop", "journal", "history", "locate", "thread", "rename", "archive", "delete", "move", "runs",
    "known_ids",
)  # fmt: skip
"""Names of the methods of `Store` that take a guard."""


def with_guards(store: Store) -> Store:
    """Return a store whose methods all take a guard: the store itself, or a wrapper around it."""
    unguarded = {name for name in GUARDED_METHODS if not _takes_guard(getattr(type(store), name, None))}
    if not unguarded:
        return store
    logger.warning(
        "%s: %s take no `guard`, so the scope of a thread is checked before they are called and not in one step; "
        "add the argument as `Store` describes it", type(store).__name__, ", ".join(sorted(unguarded)),
    )  # fmt: skip
    return cast("Store", _CheckingStore(store, unguarded))


async def move_thread(store: Any, thread_id: str, scope: str | None, guard: ThreadGuard | None) -> None:
    """Call `Store.move`. Raises `StoreError` if the store does not have this method."""
    if not hasattr(store, "move"):
        raise StoreError(
            f"thread '{thread_id}' was not moved: {type(store).__name__} cannot move threads; give it the method "
            "`move` as `Store` describes it"
        )
    await store.move(thread_id, scope, guard=guard)


def _takes_guard(method: Any) -> bool:
    # A store may delegate its methods to another one, and then its class does not have them.
    if method is None:
        return True
    parameters = inspect.signature(method).parameters
    return "guard" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


class _CheckingStore:
    """A store that checks a guard with `thread`, and then calls the method without it."""

    def __init__(self, store: Store, unguarded: set[str]) -> None:
        self._store = store
        self._unguarded = unguarded

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._call, name, method) if name in self._unguarded else method

    async def _call(
        self, name: str, method: Any, thread_id: str, *arguments: Any, guard: ThreadGuard | None = None
    ) -> Any:
        if guard is None or await self._matches(name, thread_id, guard):
            return await method(thread_id, *arguments)
        match name:
            case "journal":
                return JournalPage(Frames(b""), None)
            case "history":
                return HistoryPage(Frames(b""), None)
            case "runs":
                return []
            case "known_ids":
                return {}
            case "request_stop":
                return False
            case "locate":
                if arguments[0][0] > 0:
                    raise make_cursor_ahead(thread_id, arguments[0][0])
                return CursorLocation("stored", 0, 0)
        raise make_thread_not_found(thread_id)

    async def _matches(self, name: str, thread_id: str, guard: ThreadGuard) -> bool:
        try:
            thread = await self._store.thread(thread_id)
        except ThreadNotFound:
            # A thread whose only run was not stored may still have raw frames.
            return name in ("journal", "locate")
        return guard.matches(thread.scope, thread.incarnation)
