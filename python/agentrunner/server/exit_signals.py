"""The signals that tell a server to exit.

A server ends an app's lifespan only after all responses have ended, and a stream ends only when its run does. So the
app watches for the signals itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def watch_exit_signals(on_exit: Callable[[], None]) -> Iterator[None]:
    """Call a function on the event loop at each signal, before the server's own handler.

    A signal without a handler is left alone, and so are all signals outside the main thread.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(on_exit)
        handlers[signal.Signals(number)](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in EXIT_SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # Keep a handler that was set in the meantime.
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
