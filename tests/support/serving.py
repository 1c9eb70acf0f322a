"""A real server around an app, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from agentrunner.server.uvicorn_server import AbortableProtocol, UvicornServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an app with uvicorn in a thread; yield its URL without a final slash.

    An app of `create_app`, or a wrapper with its `context`, is served as `agentrunner serve` does it, any other ASGI
    app by uvicorn alone. `options` are uvicorn's. Leaving ends the app's lifespan, and raises what the server's thread
    raised.
    """
    ready = threading.Event()
    failure: list[BaseException] = []
    config = uvicorn.Config(
        app,
        **{
            "http": AbortableProtocol, "ws": "none", "lifespan": "on", "log_config": None, "access_log": False,
            "timeout_graceful_shutdown": 5,
        } | options,
    )  # fmt: skip
    server = UvicornServer(config, app) if hasattr(app, "context") else uvicorn.Server(config)
    startup = server.startup

    async def starting(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = starting  # type: ignore[method-assign]

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:  # noqa: BLE001 - it is raised where the test waits
            failure.append(error)
        finally:
            ready.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, name="server")
        thread.start()
        try:
            ready.wait()
            if not server.started:
                raise failure[0] if failure else RuntimeError("the server did not start")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
    if failure:
        raise failure[0]
