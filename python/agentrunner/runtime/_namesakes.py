"""Warn of several runtimes without a name on one thread."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agentrunner.runtime.tools import Tool
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.runtime")

MAX_THREADS = 1000
"""Most threads of a store whose tools are remembered."""

_hashes_by_store: weakref.WeakKeyDictionary[Store, dict[str, int] | None] = weakref.WeakKeyDictionary()
"""`hash_tools` of the first runtime without a name on each thread of a store; `None` after a warning."""


def hash_tools(tools: Mapping[str, Tool]) -> int:
    """Return a number that is equal for runtimes that an app makes anew for each run."""
    return hash(tuple((name, *_list_traits(tool.function)) for name, tool in tools.items()))


def warn_of_namesake(store: Store, thread_id: str, tools_hash: int) -> None:
    """Log a warning, once per store, if unnamed runtimes with other tools use a thread.

    Nothing tells their approvals apart.
    """
    try:
        hashes = _hashes_by_store.setdefault(store, {})
    except TypeError:
        # A user's store may have slots, or no hash.
        return
    if hashes is None or hashes.setdefault(thread_id, tools_hash) == tools_hash:
        if hashes is not None and len(hashes) > MAX_THREADS:
            del hashes[next(iter(hashes))]
        return
    _hashes_by_store[store] = None
    logger.warning(
        "thread %s: AgentRuntimes with different tools use it without an agent_id, so they count as one agent, and an "
        "approval of one can run a tool of the other; pass a different agent_id to each",
        thread_id,
    )


def _list_traits(function: Any) -> Iterator[Any]:
    """Yield the code of a function, and the plain values with which a factory made it.

    Other values, such as connections, may be made anew for each run.
    """
    while isinstance(function, functools.partial):
        yield from map(_as_trait, (*function.args, *function.keywords.values()))
        function = function.func
    if inspect.ismethod(function):
        yield from _list_values(function.__self__)
        function = function.__func__
    if not inspect.isfunction(function):
        yield type(function)
        yield from _list_values(function)
        return
    yield function.__code__
    yield from map(_as_trait, function.__defaults__ or ())
    for cell in function.__closure__ or ():
        # A variable that is assigned later leaves its cell empty.
        with contextlib.suppress(ValueError):
            yield _as_trait(cell.cell_contents)


def _list_values(owner: object) -> Iterator[Any]:
    return map(_as_trait, getattr(owner, "__dict__", {}).values())


def _as_trait(value: Any) -> Any:
    return value if isinstance(value, (str, bytes, int, float)) else None
