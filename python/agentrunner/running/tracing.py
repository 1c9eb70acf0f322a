"""A run as an OpenTelemetry span, if `opentelemetry-api` is installed."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from agentrunner.running.current import Run


@cache
def _tracer() -> Any:
    # Imported with the first run: it takes longer than importing the rest of the package.
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("agentrunner")


def span_of(run: Run) -> AbstractContextManager[Any]:
    """Return a run's span; the agent's own spans become its children while it is entered."""
    tracer = _tracer()
    if tracer is None:
        return contextlib.nullcontext()
    attributes = {"agentrunner.thread_id": run.thread_id, "agentrunner.run_id": run.run_id}
    span: AbstractContextManager[Any] = tracer.start_as_current_span("agentrunner.run", attributes=attributes)
    return span
