"""Warn of several runtimes without a name on one store."""

from __future__ import annotations

import functools
import logging
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.runtime.tools import Tool
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.runtime")

_tools_by_store: weakref.WeakKeyDictionary[Store, dict[str, Any] | None] = weakref.WeakKeyDictionary()
"""Code of the tools of the first runtime without a name on each store; `None` once there was a warning."""


def warn_of_namesake(store: Store, tools: Mapping[str, Tool]) -> None:
    """Log a warning, once for each store, if runtimes with other tools use it without a name.

    Nothing tells their approvals apart. An app may make the same agent anew for each run, with the same tools.
    """
    code = {name: _find_code(tool.function) for name, tool in tools.items()}
    try:
        if _tools_by_store.setdefault(store, code) in (code, None):
            return
    except TypeError:
        # A user's store may have slots, or no hash.
        return
    _tools_by_store[store] = None
    logger.warning(
        "AgentRuntimes with different tools use one store without an agent_id, so they count as one agent: on a thread "
        "that both use, an approval of one can run a tool of the other; pass a different agent_id to each"
    )


def _find_code(function: Any) -> Any:
    """Return what functions that were made by the same definition have in common."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__code__", type(function))
