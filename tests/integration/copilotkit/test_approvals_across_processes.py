"""Approvals when their server ends, is killed, or there are two of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support.booking_server import (
    EDITED,
    answer,
    args,
    asked_of,
    fresh,
    fresh_or_cut,
    result,
)
from support.bookings import ARGS
from support.copilotkit import Client, fine
from support.nodejs import needs_node
from support.servers import Server

if TYPE_CHECKING:
    pass
pytestmark = needs_node


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(("how", "kind"), [("SIGTERM", "core-auto"), ("SIGKILL", "http-1.0.0")])
async def test_the_server_is_started_again_in_between(location, bookings, tmp_path, node, kind, how, thread):
    log = tmp_path / "log"
    async with Server(location, log, bookings=bookings.path) as server:
        client = Client(node, kind, url_of(server), thread)
        interrupt = await asyncio.to_thread(asked_of, client)
        if how == "SIGTERM":
            assert await server.end() == 0
        else:
            await server.kill()
    async with Server(location, log, bookings=bookings.path) as server:
        back = await asyncio.to_thread(fresh, node, kind, url_of(server), thread)
        assert back.held == client.held
        assert fine(await asyncio.to_thread(back.run, resume=answer(interrupt, "edit")))
        assert result(back) == "3 seats at Ramiro"
        assert args(bookings) == [EDITED]
        assert (await asyncio.to_thread(fresh, node, kind, url_of(server), thread)).held == back.held
        assert await server.end() == 0


async def test_two_servers_and_two_answers(location, bookings, tmp_path, node, thread):
    """Asked by one server, answered at both at once: one is taken, whichever."""
    log = tmp_path / "log"
    async with (
        Server(location, log, bookings=bookings.path) as one,
        Server(location, log, bookings=bookings.path) as other,
    ):
        for number in range(3):
            name = f"{thread} {number}"
            client = Client(node, "http-1.0.0", url_of(one), name)
            interrupt = await asyncio.to_thread(asked_of, client)
            elsewhere = await asyncio.to_thread(fresh, node, "core-auto", url_of(other), name)
            assert elsewhere.held == client.held
            runs = [client.running(resume=answer(interrupt)), elsewhere.running(resume=answer(interrupt, "edit"))]
            seen = [await asyncio.to_thread(run.join) for run in runs]
            assert [fine(each) for each in seen].count(True) == 1
            winner = (client, elsewhere)[fine(seen[1])]
            assert args(bookings)[number:] == [(ARGS, EDITED)[fine(seen[1])]]
            for server in (one, other):
                late = await asyncio.to_thread(fresh, node, "http-1.0.0", url_of(server), name)
                assert late.held == winner.held


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_ended_while_the_tool_runs(location, bookings, tmp_path, node, how, thread):
    """The next server continues the run without being asked.

    The tool call's outcome is unknown, so the tool does not run again.
    """
    log = tmp_path / "log"
    options: dict[str, Any] = {"bookings": bookings.path, "lease_ttl": 1, "shutdown": 0.1}
    async with Server(location, log, **options) as server:
        client = Client(node, "http-1.0.0", url_of(server), thread)
        interrupt = await asyncio.to_thread(asked_of, client)
        bookings.hold.touch()
        run = client.running(resume=answer(interrupt))
        await asyncio.to_thread(bookings.wait)
        if how == "SIGKILL":
            await server.kill()
        else:
            server.child.terminate()
        seen = await asyncio.to_thread(run.join)
        if how == "SIGTERM":
            assert seen["runErrors"][0][1] == "INTERRUPTED"
            # A thread that runs a tool is waited for.
            bookings.hold.unlink()
            assert await server.child.wait() == 0
    async with Server(location, log, **options) as server:
        # It has been approved: it is not asked for again.
        while True:
            back = await asyncio.to_thread(fresh_or_cut, node, "http-1.0.0", url_of(server), thread)
            if back.messages[-1]["content"].startswith("Well: "):
                break
            await asyncio.sleep(0.05)
        assert "unknown" in result(back)
        assert back.view()["pendingInterrupts"] == []
        assert args(bookings) == [ARGS]
        assert fine(await asyncio.to_thread(back.run, "thanks"))
