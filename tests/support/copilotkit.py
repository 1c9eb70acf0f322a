"""The stock clients in node as Python objects, and the agent they talk to."""

from __future__ import annotations

import asyncio
import collections
import itertools
import threading
from typing import TYPE_CHECKING, Any

from support.events import run_finished, run_started, text_message
from support.nodejs import NODE, Conversation, install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

PROXIED = ("proxied-rest", "proxied-single", "proxied-auto", "core-rest", "core-single", "core-auto")
"""`ProxiedCopilotRuntimeAgent` and `CopilotKitCore` over each transport, on @ag-ui/client 0.0.59."""
BARE = ("http-1.0.0", "http-0.0.59")
"""The bare `HttpAgent`s, which connect by posting to the connect route as if to a run's."""
KINDS = (*BARE, *PROXIED)

_ids = itertools.count()


def fine(*seen: dict[str, Any]) -> bool:
    """Return whether the client and its subscribers saw runs and connects succeed."""
    return all("refused" not in one and not one["reported"] and not one["runErrors"] for one in seen)


class Refused(Exception):
    """Raised when the client rejects."""


class Gate:
    """A place in a script where the agent waits for the test; `reached` is set while it waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.cancelled = threading.Event()
        self._opened = asyncio.Event()

    async def wait_until_open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached.set()
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def wait(self) -> None:
        """Wait until the agent has reached this place."""
        assert self.reached.wait(20)

    def open(self) -> None:
        self.wait()
        self._loop.call_soon_threadsafe(self._opened.set)


class Stage:
    """An agent that plays a test's scripts, one per run: events, `Gate`s, errors to raise.

    It adds RUN_STARTED, and RUN_FINISHED where the script has no end. `inputs`: the inputs of its runs.
    """

    def __init__(self) -> None:
        self._scripts: dict[str, collections.deque[tuple[Any, ...]]] = collections.defaultdict(collections.deque)
        self.inputs: dict[str, list[RunAgentInput]] = collections.defaultdict(list)

    def play(self, thread: str, *script: Any) -> None:
        """Add the script of the thread's next run that has none yet."""
        self._scripts[thread].append(script)

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.inputs[input.thread_id].append(input)
        scripts = self._scripts[input.thread_id]
        script = scripts.popleft() if scripts else text_message(f"{input.run_id}-said", "Hel", "lo")
        yield run_started(input.thread_id, input.run_id)
        ended = False
        for item in script:
            if isinstance(item, Gate):
                await item.wait_until_open()
            elif isinstance(item, Exception):
                raise item
            else:
                ended = item["type"] in ("RUN_FINISHED", "RUN_ERROR")
                ids = {"threadId": input.thread_id, "runId": input.run_id} if item["type"] == "RUN_FINISHED" else {}
                yield ids | item
        if not ended:
            yield run_finished(input.thread_id, input.run_id)


class Node:
    """The two generations of packages, each in a script that starts with its first question."""

    def __init__(self) -> None:
        self._scripts: dict[str, Conversation] = {}

    def ask(self, kind: str, question: dict[str, Any]) -> Any:
        """Send a question to the script with the packages of this kind."""
        newest = kind == "http-1.0.0"
        name = "http_agent.mjs" if newest else "copilotkit/clients.mjs"
        if name not in self._scripts:
            install(NODE if newest else NODE / "copilotkit")
            self._scripts[name] = Conversation(name)
        answer = self._scripts[name].ask(question)
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["value"]

    def close(self) -> None:
        for script in self._scripts.values():
            script.__exit__(None, None, None)


class Client:
    """One stock client."""

    def __init__(self, node: Node, kind: str, url: str, thread: str, agent: str = "default", **options: Any) -> None:
        self.kind = kind
        self._node = node
        self._id = f"client-{next(_ids)}"
        if kind.startswith("core"):
            # The core creates its agents, so their initial values are set afterwards.
            assert not options.keys() - {"tools"}
        node.ask(
            kind,
            {"op": "new", "id": self._id, "kind": kind, "url": url, "threadId": thread, "agentId": agent, **options},
        )

    def ask(self, op: str, **parameters: Any) -> Any:
        return self._node.ask(self.kind, {"op": op, "client": self._id, **parameters})

    def run(self, message: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Run the agent, with a new user message; return what the subscribers saw."""
        return self.ask("run", **self._with(message, parameters))

    def connect(self) -> dict[str, Any]:
        return self.ask("connect")

    def running(self, message: str | None = None, **parameters: Any) -> Task:
        """Begin a run without waiting for its end."""
        return self._begun("run", **self._with(message, parameters))

    def connecting(self) -> Task:
        return self._begun("connect")

    def stop(self) -> None:
        self.ask("stop")

    def keep(self, messages: list[dict[str, Any]]) -> None:
        """Replace the client's messages, as a page does whose user has changed them."""
        self.ask("keep", messages=messages)

    def until(self, part: str) -> None:
        """Wait until the messages or the state contain a text."""
        self.ask("until", text=part)

    def view(self) -> dict[str, Any]:
        """Return the client's messages, state, pendingInterrupts, isRunning and errors."""
        return self.ask("view")

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.view()["messages"]

    @property
    def held(self) -> tuple[Any, Any, Any]:
        """Messages, state and pending interrupts, on which all clients of a thread agree."""
        view = self.view()
        return view["messages"], view["state"], view["pendingInterrupts"]

    def _with(self, message: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
        if message is None:
            return parameters
        return parameters | {"message": {"id": message, "role": "user", "content": message}}

    def _begun(self, op: str, **parameters: Any) -> Task:
        task = f"task-{next(_ids)}"
        self.ask(op, begin=task, **parameters)
        return Task(self._node, self.kind, task)


class Task:
    """A run or connect in progress."""

    def __init__(self, node: Node, kind: str, name: str) -> None:
        self._node, self._kind, self._name = node, kind, name

    def join(self) -> dict[str, Any]:
        return self._node.ask(self._kind, {"op": "join", "task": self._name})


class ThreadList:
    """The thread store of `useThreads`."""

    def __init__(self, node: Node, url: str, transport: str = "auto", **options: Any) -> None:
        self._node = node
        self._id = f"threads-{next(_ids)}"
        self.info = self._ask("threads", url=url, transport=transport, **options)

    def _ask(self, op: str, **parameters: Any) -> Any:
        return self._node.ask("core", {"op": op, "id": self._id, **parameters})

    def view(self) -> dict[str, Any]:
        return self._ask("shown")

    def do(self, verb: str, *arguments: Any) -> dict[str, Any]:
        """Call a verb of the store, and return what it shows afterwards."""
        return self._ask("list", verb=verb, given=arguments)
