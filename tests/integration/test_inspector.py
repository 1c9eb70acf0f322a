"""The inspector in a real browser: the scenarios of `browser/scenarios/`."""

import asyncio
import os
import shutil
import subprocess
import threading

import pytest

from support import nodejs

pytest.importorskip("uvicorn", reason="uvicorn is not installed, so the inspector is not tested")

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner import AgentError, SqliteAgentRunner
from agentrunner.server import Principal, create_app
from support.bookings import Bookings, booking_harness
from support.paths import BROWSER

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name, path in (("node", shutil.which("node")), ("chromium", CHROMIUM)) if not path]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{' and '.join(MISSING)} not installed, so the inspector is not tested in a browser"
)


@pytest.fixture(scope="module", autouse=True)
def _packages():
    nodejs.install(BROWSER)


def ends(run):
    ids = {"threadId": run.thread_id, "runId": run.run_id}
    return {"type": "RUN_STARTED", **ids}, {"type": "RUN_FINISHED", **ids}


def text(message_id, *deltas):
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
    for delta in deltas:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
    yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}


async def default(run):
    """Send 22 events, some of each kind."""
    started, finished = ends(run)
    yield started
    think, call = f"think-{run.run_id}", f"call-{run.run_id}"
    yield {"type": "REASONING_START", "messageId": think}
    yield {"type": "REASONING_MESSAGE_START", "messageId": think, "role": "reasoning"}
    for delta in ("Let me ", "think."):
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": think, "delta": delta}
    yield {"type": "REASONING_MESSAGE_END", "messageId": think}
    yield {"type": "REASONING_END", "messageId": think}
    yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "look"}
    for delta in ('{"q"', ":1}"):
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta}
    yield {"type": "TOOL_CALL_END", "toolCallId": call}
    yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-result", "content": "found"}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"count": 1, "name": "x"}}
    yield {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/count", "value": 2}]}
    yield {"type": "CUSTOM", "name": "trace", "value": 7}
    for event in text(f"text-{run.run_id}", "All ", "is ", "well", "."):
        yield event
    yield finished


async def slow(run):
    """Run until it is stopped."""
    yield ends(run)[0]
    message_id = f"text-{run.run_id}"
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
    number = 0
    while True:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": f"tick {number} "}
        number += 1
        await asyncio.sleep(0.05)


async def asks(run):
    """End with a question; with its answer, repeat the answer."""
    started, finished = ends(run)
    yield started
    if run.resume:
        for event in text(f"text-{run.run_id}", f"You said {_json(run.resume[0].payload)}"):
            yield event
        yield finished
    else:
        interrupt = {"id": f"ask-{run.run_id}", "reason": "confirmation", "message": "Shall I?"}
        yield finished | {"outcome": {"type": "interrupt", "interrupts": [interrupt]}}


def _json(value):
    import orjson

    return orjson.dumps(value).decode()


async def fails(run):
    """Fail in the middle of a message."""
    yield ends(run)[0]
    yield {"type": "TEXT_MESSAGE_START", "messageId": f"text-{run.run_id}", "role": "assistant"}
    raise AgentError("it broke")


async def burst(run):
    """Send 10,000 events, which are 302 when compacted."""
    started, finished = ends(run)
    yield started
    for number in range(100):
        deltas = [f"{number}.{word} " for word in range(98 if number < 98 else 97)]
        for event in text(f"text-{run.run_id}-{number}", *deltas):
            yield event
    yield finished


BAD = '<img src=x onerror="window.pwned=1">'


async def hostile(run):
    """Send markup in every field that can hold text."""
    started, _ = ends(run)
    yield started
    message_id, call = f"text-{run.run_id}", f"call-{run.run_id}"
    yield {"type": "STEP_STARTED", "stepName": BAD}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {BAD: BAD, "__proto__": {"polluted": 1}}}
    yield {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/__proto__/polluted", "value": 2}]}
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant", "name": BAD}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": f"<script>window.pwned=1</script>{BAD}"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
    yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": BAD}
    yield {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": f"</pre>{BAD}"}
    yield {"type": "TOOL_CALL_END", "toolCallId": call}
    yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-result", "content": BAD}
    yield {"type": "ACTIVITY_SNAPSHOT", "messageId": f"act-{run.run_id}", "activityType": BAD, "content": {BAD: BAD}}
    yield {"type": "CUSTOM", "name": BAD, "value": {BAD: BAD}}
    yield {"type": "RUN_ERROR", "message": f"the end of {BAD}", "code": BAD}


AGENTS = {"default": default, "slow": slow, "asks": asks, "fails": fails, "burst": burst, "hostile": hostile}


def sesame(request):
    return Principal("me") if request.headers.get("authorization") == "Bearer open sesame" else None


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves an app in a thread and returns its address."""
    running = []

    def start(app):
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


def app_in(path, **options):
    return create_app(SqliteAgentRunner(path / "threads.db"), AGENTS, inspector=True, shutdown_seconds=0, **options)


def browse(scenario, url):
    done = subprocess.run(
        ["node", BROWSER / "inspector.mjs", scenario, url],
        env=os.environ | {"CHROMIUM": CHROMIUM},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "scenario",
    [
        "the_first_run_on_an_empty_page",
        "a_slow_run_is_shown_live_and_stopped",
        "a_reloaded_page_follows_the_run",
        "a_run_is_replayed",
        "raw_and_compacted",
        "a_thread_is_renamed_archived_and_deleted",
        "a_question_is_answered",
        "an_error_is_shown_in_its_place",
        "light_and_dark",
        "by_keyboard_only",
        "hostile_content_stays_text",
        "ten_thousand_events",
        "a_narrow_screen",
        "the_page_folds_events_like_the_client",
        "a_cut_connection_is_resumed",
        "expired_events_are_reported",
    ],
)
def test_inspector(serve, tmp_path, scenario):
    browse(scenario, serve(app_in(tmp_path)))


@pytest.mark.parametrize(
    ("scenario", "expires"),
    [
        ("an_approval_is_given", None),
        ("an_approval_is_edited", None),
        ("an_approval_is_refused", None),
        ("a_remembered_approval_is_not_requested_again", None),
        ("two_approvals_are_answered_together", None),
        ("another_client_answers_an_approval", None),
        ("a_run_fails_after_its_approval", None),
        ("an_approval_expires", 4),
    ],
)
def test_approvals(serve, tmp_path, scenario, expires):
    runner = SqliteAgentRunner(tmp_path / "threads.db")
    harness = booking_harness(runner, Bookings(tmp_path / "bookings"), expires=expires)
    browse(scenario, serve(create_app(runner, harness, inspector=True, shutdown_seconds=0)))


def test_a_token_is_requested(serve, tmp_path):
    browse("a_token_is_requested", serve(app_in(tmp_path, authenticate=sesame)))


def test_under_a_mount(serve, tmp_path):
    app = app_in(tmp_path)
    outer = Starlette(routes=[Mount("/some/where", app)], lifespan=app.lifespan)
    browse("the_first_run_on_an_empty_page", f"{serve(outer)}some/where/")
