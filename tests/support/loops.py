"""Event loops for tests that run coroutines themselves."""

from __future__ import annotations

import asyncio
from typing import Any

TIMEOUT = 120.0
"""Seconds after which a test counts as hanging: far more than it takes, because the machine may be busy."""


def run_async(coroutine: Any, loop: str = "asyncio") -> Any:
    """Run a coroutine on a new loop: `asyncio`, `eager` (from Python 3.12) or `uvloop`."""
    factory: Any = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        if loop == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return runner.run(coroutine)
