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
    # Imported when the first run starts, because it takes longer to load than the rest of the package.
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("agentrunner")


def span_of(run: Run) -> AbstractContextManager[Any]:
    """Return the span of a run, as a context in which the agent's spans become its children.

    Without `opentelemetry-api`, the context does nothing.
    """
    tracer = _tracer()
    if tracer is None:
        return contextlib.nullcontext()
    attributes = {"agentrunner.thread_id": run.thread_id, "agentrunner.run_id": run.run_id}
    span: AbstractContextManager[Any] = tracer.start_as_current_span("agentrunner.run", attributes=attributes)
    return span
