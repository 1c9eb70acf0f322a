"""Approvals as the published clients see and answer them: a runtime's tool under a harness, served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, SqliteAgentRunner
from agentrunner.errors import ApprovalExpired, InvalidInput
from agentrunner.server import create_app
from agentrunner.stores.urls import store_from_url
from support.bookings import ARGS, MAY_I, Bookings, booking_harness
from support.copilotkit import BARE, KINDS, Client, Node, fine
from support.nodejs import needs_node
from support.servers import Server
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentrunner.harness import RunResult

pytestmark = needs_node

each_kind = pytest.mark.parametrize("kind", KINDS)
both_generations = pytest.mark.parametrize("kind", ["http-1.0.0", "core-auto"])

EDITED = {"place": "Ramiro", "seats": 3}
ANSWERS: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    # What is answered, what the tool's result begins with, and the bookings it makes.
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
def served(folder: Path, **options: Any) -> Iterator[Served]:
    bookings, location = Bookings(folder / "bookings"), str(folder / "threads.db")
    runner = SqliteAgentRunner(location)
    app = create_app(runner, booking_harness(runner, bookings, **options), mode="both", shutdown_seconds=0.1)
    with serving(app) as url:
        yield Served(url, bookings, location)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def harness_at(location: str, bookings: Bookings) -> AsyncIterator[Any]:
    """Give a harness of this process's own over the same threads: what Python decides by."""
    async with AgentRunner(store_from_url(location)) as runner, booking_harness(runner, bookings) as harness:
        yield harness


_threads = itertools.count()


@pytest.fixture
def thread() -> str:
    return f"thread/ü {next(_threads)}%"


def asked_of(client: Client, message: str = "please book") -> dict[str, Any]:
    """Have a client's run ask; give the interrupt."""
    seen = client.run(message)
    assert fine(seen)
    assert seen["outcomes"] == ["interrupt"]
    [interrupt] = client.view()["pendingInterrupts"]
    return interrupt


def answer(interrupt: dict[str, Any], said: str | dict[str, Any] = "approve") -> list[dict[str, Any]]:
    return [{"interruptId": interrupt["id"]} | (ANSWERS[said][0] if isinstance(said, str) else said)]


def args(bookings: Bookings) -> list[dict[str, Any]]:
    return [{"place": made["place"], "seats": made["seats"]} for made in bookings.made]


def result(client: Client) -> str:
    """Give what the tool said, as the client holds it."""
    [found] = [message["content"] for message in client.messages if message["role"] == "tool"]
    return found


def fresh(node: Node, kind: str, url: str, thread: str) -> Client:
    """Give a client that has just connected."""
    client = Client(node, kind, url, thread)
    assert fine(client.connect())
    return client


def fresh_or_cut(node: Node, kind: str, url: str, thread: str) -> Client:
    """Give a client that has connected, also to what has failed."""
    client = Client(node, kind, url, thread)
    assert "refused" not in client.connect()
    return client


@pytest.mark.parametrize("said", ANSWERS)
@each_kind
def test_an_approval_is_shown_and_answered(here, node, kind, said, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    assert interrupt.pop("responseSchema")["properties"].keys() >= {"approved", "editedArgs", "reason"}
    assert interrupt.pop("metadata") | {"checkpoint": ""} == {"tool": "book", "input": ARGS, "checkpoint": ""}
    [call] = client.messages[-1]["toolCalls"]
    assert interrupt == {"id": f"int-{call['id']}", "reason": "tool_call", "message": MAY_I, "toolCallId": call["id"]}
    assert here.bookings.made == []

    reloaded = fresh(node, kind, here.url, thread)
    assert reloaded.held == client.held
    assert fine(seen := reloaded.run(resume=answer(interrupt, said)))
    assert seen["outcomes"] == [None]
    assert reloaded.view()["pendingInterrupts"] == []
    _, begins, bookings = ANSWERS[said]
    assert result(reloaded).startswith(begins)
    assert reloaded.messages[-1]["content"].startswith("Well: ")
    assert args(here.bookings) == bookings

    for other in {kind, *BARE}:
        assert fresh(node, other, here.url, thread).held == reloaded.held
    assert fine(reloaded.run("thanks"))
    assert reloaded.messages[-1]["content"] == "Hello"
    assert len(here.bookings.made) == len(bookings)


@pytest.mark.parametrize("kind", ["core-rest", "core-single"])
def test_an_answer_under_the_id_of_the_run_that_asked(here, node, kind, thread):
    """So the stock `useInterrupt` sends it."""
    client = Client(node, kind, here.url, thread)
    assert fine(client.run("please book", runId=f"{thread} run"))
    [interrupt] = client.view()["pendingInterrupts"]
    assert fine(client.run(resume=answer(interrupt), runId=f"{thread} run"))
    assert result(client) == "2 seats at Tasca"
    assert fresh(node, kind, here.url, thread).held == client.held


def test_each_generation_sees_what_the_other_is_asked(here, node, thread):
    """Of `@ag-ui/client` 0.0.59 outcomes are strict: what is shown to 1.0.0 is in them as well."""
    old = Client(node, "http-0.0.59", here.url, thread)
    interrupt = asked_of(old)
    new = fresh(node, "http-1.0.0", here.url, thread)
    assert new.view()["pendingInterrupts"] == [interrupt]
    assert fine(new.run(resume=answer(interrupt)))
    newer = Client(node, "http-1.0.0", here.url, f"{thread} 2")
    interrupt = asked_of(newer)
    old = fresh(node, "http-0.0.59", here.url, f"{thread} 2")
    assert old.view()["pendingInterrupts"] == [interrupt]
    assert fine(old.run(resume=answer(interrupt, "edit")))
    assert args(here.bookings) == [ARGS, EDITED]


# What is refused


@each_kind
def test_a_run_that_does_not_answer_leaves_nothing(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    before = fresh(node, kind, here.url, thread).held
    # One that was never told of the interrupt: the others refuse by themselves.
    stranger = Client(node, kind, here.url, thread)
    seen = stranger.run("and something else")
    assert seen["types"] == ["RUN_ERROR"]
    [[message, code]] = seen["runErrors"]
    assert code == "INTERRUPTS_OPEN"
    assert interrupt["id"] in message
    assert "pending interrupt" in str(client.run("and something else"))
    assert fresh(node, kind, here.url, thread).held == before
    assert fine(fresh(node, kind, here.url, thread).run(resume=answer(interrupt)))
    assert args(here.bookings) == [ARGS]


@each_kind
def test_the_second_answer_is_refused(here, node, kind, thread):
    first = Client(node, kind, here.url, thread)
    interrupt = asked_of(first)
    second = fresh(node, kind, here.url, thread)
    here.bookings.hold.touch()
    run = first.running(resume=answer(interrupt))
    here.bookings.wait()
    # While the first is acted upon the thread is busy.
    assert "Thread already running" in json.dumps(second.run(resume=answer(interrupt, "reject")))
    here.bookings.hold.unlink()
    assert fine(run.join())
    seen = second.run(resume=answer(interrupt, "reject"))
    assert seen["types"][0] == "RUN_ERROR"
    assert seen["runErrors"][0][1] == "ALREADY_DECIDED"
    assert fresh(node, kind, here.url, thread).held == first.held
    assert args(here.bookings) == [ARGS]


@both_generations
def test_an_answer_that_is_no_use_leaves_it_open(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    unknown = [{"interruptId": "int-other", "status": "resolved", "payload": {"approved": True}}]
    for resume, code in (
        ([*answer(interrupt), *unknown], "APPROVAL_NOT_FOUND"),
        (unknown, "APPROVAL_NOT_FOUND"),
    ):
        seen = Client(node, kind, here.url, thread).run(resume=resume)
        assert seen["runErrors"][0][1] == code
    assert fresh(node, kind, here.url, thread).held == client.held
    assert fine(client.run(resume=answer(interrupt)))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"approved": True, "editedArgs": {"place": "Ramiro", "seats": "many"}}, "seats"),
        ({"approved": True, "editedArgs": {"seats": 3}}, "place"),
        ({"approved": True, "editedArgs": [1]}, "editedArgs is an object"),
        ("yes", '{"approved": true}'),
        (None, '{"approved": true}'),
    ],
)
@both_generations
def test_an_answer_that_cannot_be_acted_upon_leaves_it_open(here, node, kind, payload, words, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    seen = client.run(resume=answer(interrupt, {"status": "resolved", "payload": payload}))
    [[message, code]] = seen["runErrors"]
    assert code == "RUN_REFUSED"
    assert words in message
    assert client.view()["pendingInterrupts"] == [interrupt]
    assert fresh(node, kind, here.url, thread).held == client.held

    async def decide() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            with pytest.raises(InvalidInput, match="seats"):
                await harness.resume(thread_id=thread, decision="edit", edited_input={"place": "Ramiro", "seats": ""})
            assert len(await harness.approvals(thread)) == 1

    asyncio.run(decide())
    assert fine(client.run(resume=answer(interrupt, "edit")))
    assert args(here.bookings) == [EDITED]


def test_what_has_expired_is_rejected_by_python(tmp_path, node, thread):
    with served(tmp_path, expires=0.001) as here:
        asked_of(Client(node, "http-1.0.0", here.url, thread))

        async def decide() -> str:
            async with harness_at(here.location, here.bookings) as harness:
                with pytest.raises(ApprovalExpired):
                    await harness.resume(thread_id=thread, decision="approve")
                return (await harness.resume(thread_id=thread, decision="reject", reason="too late")).content

        assert asyncio.run(decide()) == "Well: The user has rejected this call: too late"
        assert fresh(node, "http-0.0.59", here.url, thread).view()["pendingInterrupts"] == []


def test_what_was_approved_in_time_is_done_later(tmp_path, node, thread):
    """Here because its run waits for a slot; after a crash it may be later as well."""
    with served(tmp_path, expires=4, max_concurrent_runs=1) as here:
        client, other = (Client(node, "http-1.0.0", here.url, name) for name in (thread, f"{thread} other"))
        interrupt = asked_of(client)
        here.bookings.hold.touch()
        holding = other.running(resume=answer(asked_of(other)))
        here.bookings.wait()
        late = client.running(resume=answer(interrupt))
        until = datetime.fromisoformat(interrupt["expiresAt"])
        while datetime.now(UTC) <= until:
            time.sleep(0.05)
        here.bookings.hold.unlink()
        assert fine(holding.join(), late.join())
        assert len(here.bookings.made) == 2


@both_generations
def test_what_has_expired_can_only_be_cancelled(tmp_path, node, kind, thread):
    with served(tmp_path, expires=0.001) as here:
        client = Client(node, kind, here.url, thread)
        interrupt = asked_of(client)
        assert interrupt["expiresAt"].endswith("Z")
        assert "expired" in json.dumps(client.run(resume=answer(interrupt)))
        back = fresh(node, kind, here.url, thread)
        assert back.view()["pendingInterrupts"] == [interrupt]
        if kind != "http-1.0.0":
            # 0.0.59 refuses that by itself, too: a newer client has to, or Python.
            assert "expired" in json.dumps(back.run(resume=answer(interrupt, "cancel")))
            back = fresh(node, "http-1.0.0", here.url, thread)
        assert fine(back.run(resume=answer(interrupt, "cancel")))
        again = fresh(node, kind, here.url, thread)
        assert again.view()["pendingInterrupts"] == []
        assert fine(again.run("thanks"))
        assert here.bookings.made == []


@each_kind
def test_when_the_run_fails_behind_the_answer_one_can_go_on(here, node, kind, thread):
    """The approval is used up; to a client it would be open until a run finishes, and it would begin no other."""
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client, "please book and fail")
    seen = client.run(resume=answer(interrupt))
    assert seen["runErrors"] == [["the model does not answer", None]]
    assert "refused" not in seen
    assert client.view()["pendingInterrupts"] == []
    late = fresh_or_cut(node, kind, here.url, thread)
    assert late.held == client.held
    assert fine(client.run("thanks"))
    assert client.messages[-1]["content"] == "Hello"
    assert fine(late.run("thanks again"))
    assert args(here.bookings) == [ARGS]


@each_kind
def test_who_was_refused_can_go_on(here, node, kind, thread):
    first = Client(node, kind, here.url, thread)
    interrupt = asked_of(first)
    second = fresh(node, kind, here.url, thread)
    assert fine(first.run(resume=answer(interrupt)))
    assert second.run(resume=answer(interrupt, "reject"))["runErrors"][0][1] == "ALREADY_DECIDED"
    assert second.view()["pendingInterrupts"] == []
    assert "refused" not in second.connect()
    assert second.held == first.held


def test_of_two_questions_the_one_python_has_answered_is_not_asked(here, node, thread):
    client = Client(node, "http-1.0.0", here.url, thread)
    assert client.run("please book both")["outcomes"] == ["interrupt"]
    tasca, solar = client.view()["pendingInterrupts"]

    async def decide() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            [approval] = [one for one in await harness.approvals(thread) if one.interrupt_id == tasca["id"]]
            assert (await harness.resume(approval_id=approval.approval_id, decision="approve")).approvals

    asyncio.run(decide())
    late = fresh(node, "http-1.0.0", here.url, thread)
    assert late.view()["pendingInterrupts"] == [solar]
    assert fine(late.run(resume=answer(solar, "reject")))
    assert args(here.bookings) == [ARGS]
    # The other has both open still, and says the same of the first.
    assert "refused" not in client.run(resume=[*answer(tasca), *answer(solar, "reject")])
    assert client.view()["pendingInterrupts"] == []


# Decided elsewhere


@pytest.mark.parametrize("decision", ["approve", "reject", "edit"])
@both_generations
def test_what_python_decides_is_seen_by_clients(here, node, kind, decision, thread):
    client = Client(node, kind, here.url, thread)
    asked_of(client)
    here.bookings.hold.touch()

    async def decide() -> RunResult:
        async with harness_at(here.location, here.bookings) as harness:
            [approval] = await harness.approvals(thread)
            edited = EDITED if decision == "edit" else None
            deciding = asyncio.ensure_future(
                harness.resume(approval_id=approval.approval_id, decision=decision, edited_input=edited, by="Ana")
            )
            watching = asyncio.to_thread(watch)
            result, _ = await asyncio.gather(deciding, watching)
            return result

    def watch() -> None:
        if decision != "reject":
            here.bookings.wait()
            reader = Client(node, kind, here.url, thread)
            connect = reader.connecting()
            reader.until("I look.")
            # It is acted upon: nobody is asked any more.
            assert reader.view()["pendingInterrupts"] == []
            here.bookings.hold.unlink()
            assert fine(connect.join())
            readers.append(reader)

    readers: list[Client] = []
    done = asyncio.run(decide())
    assert done.state == "completed"
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    assert late.messages[-1]["content"] == done.content
    assert args(here.bookings) == ANSWERS[decision][2]
    for reader in readers:
        assert reader.held == late.held


@each_kind
def test_a_run_that_waits_is_cancelled_by_python(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)

    async def cancel() -> None:
        async with harness_at(here.location, here.bookings) as harness:
            [run] = await harness.runs(thread)
            assert await harness.cancel(run.run_id)

    asyncio.run(cancel())
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    # Who knows nothing of that is refused, and can go on.
    assert client.run(resume=answer(interrupt))["runErrors"][0][1] == "ALREADY_DECIDED"
    assert client.view()["pendingInterrupts"] == []
    assert fine(late.run("thanks"))
    assert late.messages[-1]["content"] == "Hello"
    assert fine(client.connect())
    assert client.held == late.held
    assert here.bookings.made == []


@pytest.mark.parametrize("kind", ["proxied-rest", "core-single"])
def test_an_approved_run_is_stopped(here, node, kind, thread):
    client = Client(node, kind, here.url, thread)
    interrupt = asked_of(client)
    here.bookings.hold.touch()
    run = client.running(resume=answer(interrupt))
    here.bookings.wait()
    client.stop()
    assert fine(run.join())
    here.bookings.hold.unlink()
    late = fresh(node, kind, here.url, thread)
    assert late.view()["pendingInterrupts"] == []
    assert fine(late.run("thanks"))
    assert late.messages[-1]["content"] == "Hello"
    assert args(here.bookings) == [ARGS]


# Processes


@pytest.fixture
def bookings(tmp_path: Path) -> Bookings:
    return Bookings(tmp_path / "bookings")


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
    """Its outcome is not known, and the tool is not run again; the next server goes on with that by itself."""
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
