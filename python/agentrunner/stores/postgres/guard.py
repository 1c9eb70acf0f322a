"""A guard's condition on a thread, as part of SQL statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.stores.postgres.text import is_storable
from agentrunner.types import AnyScope

if TYPE_CHECKING:
    from agentrunner.stores.types import ThreadGuard

MATCHES_GUARD = """(%(any_scope)s OR t.scope IS NOT DISTINCT FROM %(guard_scope)s::text)
  AND coalesce(t.incarnation = %(incarnation)s::bigint, true)"""
"""Condition on the row `t` of a thread."""

IS_MEANT = f"""(%(any_thread)s OR EXISTS (
  SELECT FROM "agentrunner".known_threads t WHERE t.thread_id = %(thread_id)s::text AND {MATCHES_GUARD}))"""
"""Condition that the thread matches the guard; without a guard, any thread does, even an unknown one."""


def encode_guard(guard: ThreadGuard | None) -> dict[str, Any]:
    """Return the values of the conditions above."""
    if guard is None:
        return {"any_thread": True, "any_scope": True, "guard_scope": None, "incarnation": None}
    any_scope = isinstance(guard.scope, AnyScope)
    scope = None if isinstance(guard.scope, AnyScope) else guard.scope
    if not is_storable(scope or ""):
        # No thread has this scope, nor the incarnation 0.
        return {"any_thread": False, "any_scope": True, "guard_scope": None, "incarnation": 0}
    return {
        "any_thread": any_scope and guard.incarnation is None,
        "any_scope": any_scope,
        "guard_scope": scope,
        "incarnation": guard.incarnation,
    }
