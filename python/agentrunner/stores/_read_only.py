"""Refuse the writing methods of a store that was opened only to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import StoreReadOnly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentrunner.stores.types import StoreReport

WRITING_METHODS = (
    "claim", "append", "renew", "finish", "request_stop", "recover", "rename", "archive", "delete", "move", "clear",
    "put", "prune", "write",
)  # fmt: skip
"""Names of the methods of `Store` that always write; `inspect` does so with `fix`."""


def refuse_writes(store: Any) -> None:
    """Make all methods of a store raise `StoreReadOnly` instead of writing."""
    for name in WRITING_METHODS:
        setattr(store, name, _refuse)
    store.inspect = _inspect_only(store.inspect)


async def _refuse(*_: object, **__: object) -> Any:
    raise StoreReadOnly("the store was opened with read_only, so nothing is written")


def _inspect_only(
    inspect: Callable[[bool], Awaitable[StoreReport]],
) -> Callable[[bool], Awaitable[StoreReport]]:
    async def inspect_only(fix: bool) -> StoreReport:
        if fix:
            await _refuse()
        return await inspect(fix)

    return inspect_only
