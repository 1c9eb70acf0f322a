"""The child of `malformed`: run agents with a damaged event, and return what is sent."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrunner import SqliteAgentRunner
from agentrunner._core import Frames
from agentrunner.harness import Harness
from agentrunner.reading.stream import EventStream
from agentrunner.running import agent_reader
from campaigns import children, mutations
from support.asgi import client_of
from support.inputs import make_input
from support.whole_run import whole_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANG_SECONDS = 60.0


@mutations.mutation
def fields_are_not_checked() -> None:
    """Record events under kinds that are not checked, and send them as they were."""
    encode, pages = agent_reader.encode, EventStream.pages
    # The order of these kinds does not matter.
    kinds = ("CUSTOM", "RAW", "MESSAGES_SNAPSHOT", "TOOL_CALL_RESULT", "STATE_DELTA", "ACTIVITY_SNAPSHOT")

    def rename(data: bytes, before: str, after: str) -> bytes:
        for kind in kinds:
            data = data.replace(f'{{"type":"{before}{kind}"'.encode(), f'{{"type":"{after}{kind}"'.encode())
        return data

    async def unchecked_pages(self: EventStream) -> Any:
        async for page in pages(self):
            yield Frames(rename(bytes(page), "UNCHECKED_", ""))

    agent_reader.encode = lambda event: rename(encode(event), "", "UNCHECKED_")
    EventStream.pages = unchecked_pages  # type: ignore[method-assign]


class Script:
    """An agent that yields the events of the current question."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def run(self, input: Any) -> AsyncIterator[Any]:
        for event in self.events:
            yield event


class LoggedErrors(logging.Handler):
    """Collects errors that the package logs: each is an exception that it did not expect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(f"{record.getMessage()}: {error!r}")


async def main(folder: Path) -> None:
    mutations.apply()
    logged = LoggedErrors()
    logging.getLogger("agentrunner").addHandler(logged)
    script = Script()
    async with (
        SqliteAgentRunner(folder / "plain.db", keep_raw_events=True) as plain,
        SqliteAgentRunner(folder / "harness.db", keep_raw_events=True) as supervised,
        Harness(supervised, {"default": script}) as harness,
    ):
        clients = {False: client_of(plain, {"default": script}), True: client_of(supervised, harness)}

        async def answer(number: int, question: children.Question) -> children.Answer:
            thread, run = f"t{number}", f"r{number}"
            script.events = whole_run("t", "r", question["seed"])
            script.events[question["index"]] = question["event"]
            script.events = [with_ids(event, thread, run) for event in script.events]
            logged.texts.clear()
            client = clients[question["harness"]]
            run_input = make_input(thread, run, messages=["u1"])
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    live = await client.post("/agent/default/run", run_input | {"protocolVersion": "1.0"})
                    replays = [
                        await client.post("/agent/default/connect", make_input(thread, run) | version)
                        for version in ({"protocolVersion": "1.0"}, {})
                    ]
            except Exception as error:  # noqa: BLE001 - none may come out
                return {"wrong": [f"{type(error).__name__}: {error}"]}
            statuses = [response.status for response in (live, *replays)]
            if statuses != [200] * 3:
                return {"wrong": [f"statuses {statuses}: {live.body[:200]!r}"]}
            last = live.events()[-1]
            wrong = [f"logged: {text}" for text in logged.texts]
            # The agent's own error may be the damaged event, and then has lost its code.
            codes = ("E", "INVALID_EVENT", "INVALID_EVENT_SEQUENCE")
            if last["type"] == "RUN_ERROR" != question["event"]["type"] and last.get("code") not in codes:
                wrong.append(f"the run ended with {last}")
            return {
                "verdict": verdict(live.events(), last, question["event"]),
                "bodies": {
                    "live": live.body.decode(),
                    "live_legacy": bytes(Frames(live.body).for_legacy_clients()).decode(),
                    "replay": replays[0].body.decode(),
                    "replay_legacy": replays[1].body.decode(),
                },
                "wrong": wrong,
            }

        await children.serve(answer)


def verdict(sent: list[dict[str, Any]], last: dict[str, Any], damaged: dict[str, Any]) -> str:
    """Return what became of the damaged event."""
    if last["type"] == "RUN_ERROR" and last.get("code") != "E":
        return "ended by INVALID_EVENT"
    return "recorded as they are" if damaged in sent else "mended"


def with_ids(event: dict[str, Any], thread: str, run: str) -> dict[str, Any]:
    """Replace the sample's ids of thread and run, where the damage has left them."""
    text = json.dumps(event)
    text = text.replace('"threadId": "t"', f'"threadId": "{thread}"').replace('"runId": "r"', f'"runId": "{run}"')
    replaced: dict[str, Any] = json.loads(text)
    return replaced


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
