"""Run the core's longer work in other threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SHORT_TEXT_BYTES = 64 * 1024
"""Size in bytes up to which text is worked on in the event loop, which takes less than a millisecond."""


async def run_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in another thread, and wait until it returns, even if cancelled.

    A thread cannot be cancelled, and nothing else may use its arguments before it has ended.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise


async def run_by_size(size: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function for text of so many bytes, as `run_in_thread` does if the text is long."""
    # Most text is short, and a thread would take longer than the call.
    return await run_in_thread(function, *arguments) if size > SHORT_TEXT_BYTES else function(*arguments)
