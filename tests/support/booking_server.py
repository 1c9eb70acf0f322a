"""A server in this process whose tool needs an approval, and the published clients' view."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, SqliteAgentRunner
from agentrunner.server import create_app
from agentrunner.stores.urls import store_from_url
from support.bookings import ARGS, Bookings, booking_harness
from support.copilotkit import KINDS, Client, Node, fine
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


each_kind = pytest.mark.parametrize("kind", KINDS)


both_generations = pytest.mark.parametrize("kind", ["http-1.0.0", "core-auto"])


EDITED = {"place": "Ramiro", "seats": 3}


ANSWERS: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    # The answer, the start of the tool's result, and the bookings that are made.
    "approve": ({"status": "resolved", "payload": {"approved": True}}, "2 seats at Tasca", [ARGS]),
    "reject": ({"status": "resolved", "payload": {"approved": False, "reason": "too far"}}, "", []),
    "cancel": ({"status": "cancelled"}, "", []),
    "edit": (
        {"status": "resolved", "payload": {"approved": True, "editedArgs": EDITED}},
        "3 seats at Ramiro",
        [EDITED],
    ),
}


class Served:
    """A server in this process, whose tool books into a file."""

    def __init__(self, url: str, bookings: Bookings, location: str) -> None:
        self.url, self.bookings, self.location = url, bookings, location


@contextlib.contextmanager
def serve_bookings(folder: Path, **options: Any) -> Iterator[Served]:
    bookings, location = Bookings(folder / "bookings"), str(folder / "threads.db")
    runner = SqliteAgentRunner(location)
    app = create_app(runner, booking_harness(runner, bookings, **options), mode="both", shutdown_seconds=0.1)
    with serving(app) as url:
        yield Served(url, bookings, location)


@contextlib.asynccontextmanager
async def harness_at(location: str, bookings: Bookings) -> AsyncIterator[Any]:
    """Yield a harness of this process over the same threads, for decisions in Python."""
    async with AgentRunner(store_from_url(location)) as runner, booking_harness(runner, bookings) as harness:
        yield harness


def asked_of(client: Client, message: str = "please book") -> dict[str, Any]:
    """Run until the agent asks for an approval, and return the interrupt."""
    seen = client.run(message)
    assert fine(seen)
    assert seen["outcomes"] == ["interrupt"]
    [interrupt] = client.view()["pendingInterrupts"]
    return interrupt


def answer(interrupt: dict[str, Any], decision: str | dict[str, Any] = "approve") -> list[dict[str, Any]]:
    return [{"interruptId": interrupt["id"]} | (ANSWERS[decision][0] if isinstance(decision, str) else decision)]


def args(bookings: Bookings) -> list[dict[str, Any]]:
    return [{"place": booking["place"], "seats": booking["seats"]} for booking in bookings.made]


def result(client: Client) -> str:
    """Return the tool's result as the client holds it."""
    [tool_result] = [message["content"] for message in client.messages if message["role"] == "tool"]
    return tool_result


def fresh(node: Node, kind: str, url: str, thread: str) -> Client:
    """Return a client that has just connected."""
    client = Client(node, kind, url, thread)
    assert fine(client.connect())
    return client


def fresh_or_cut(node: Node, kind: str, url: str, thread: str) -> Client:
    """Return a client that has connected, perhaps to a thread whose run failed."""
    client = Client(node, kind, url, thread)
    assert "refused" not in client.connect()
    return client
