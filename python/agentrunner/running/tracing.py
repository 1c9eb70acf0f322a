"""A run as an OpenTelemetry span, where `opentelemetry-api` is installed."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from agentrunner.running.current import Run


@cache
def _tracer() -> Any:
    # Asked for with the first run: importing it takes longer than all else here.
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("agentrunner")


def span_of(run: Run) -> AbstractContextManager[Any]:
    """Give the span of a run. While it is entered it is the current one: the agent's own spans are its children."""
    tracer = _tracer()
    if tracer is None:
        return contextlib.nullcontext()
    attributes = {"agentrunner.thread_id": run.thread_id, "agentrunner.run_id": run.run_id}
    span: AbstractContextManager[Any] = tracer.start_as_current_span("agentrunner.run", attributes=attributes)
    return span
