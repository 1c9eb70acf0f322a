"""The execution of turns: start one, run it to its outcome, and publish its events."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.runtime.bus import EventBus, RuntimeEvent
from agentrunner.runtime.run_events import end_events, start_events
from agentrunner.runtime.turn import Turn, TurnResources
from agentrunner.runtime.turn_start import TurnStart, TurnStarter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ag_ui.core import RunAgentInput

    from agentrunner.runtime.llm import Usage
    from agentrunner.runtime.model_response import Events
    from agentrunner.runtime.session import Sessions

    Start: TypeAlias = Callable[[TurnStarter], Awaitable[TurnStart]]


class TurnRunner:
    """Runs the turns of a runtime, at most one per session at a time."""

    def __init__(self, resources: TurnResources, bus: EventBus) -> None:
        self.resources = resources
        self._bus = bus
        self._busy_sessions: set[tuple[int, str]] = set()

    async def run(self, input: RunAgentInput, sessions: Sessions, start: Start, *, must_exist: bool = False) -> Events:
        """Run a turn and iterate over its events, `RUN_STARTED` and `RUN_FINISHED` included.

        `start` chooses how the turn starts, for example `TurnStarter.start_run`. With `must_exist`, a missing session
        raises `SessionNotFound`.
        """
        with self._hold(sessions, input.thread_id):
            if must_exist:
                await sessions.check_exists(input.thread_id)
            turn_start = await start(TurnStarter(self.resources, sessions, input))
            async with aclosing(self._events(input, sessions, turn_start)) as events:
                async for event in events:
                    self._bus.publish(RuntimeEvent(input.thread_id, input.run_id, event))
                    yield event

    @contextmanager
    def _hold(self, sessions: Sessions, session_id: str) -> Iterator[None]:
        """Refuse a second turn of a session while one is running. Raises `ThreadAlreadyRunning`."""
        key = (id(sessions.store), session_id)
        if key in self._busy_sessions:
            raise ThreadAlreadyRunning
        self._busy_sessions.add(key)
        try:
            yield
        finally:
            self._busy_sessions.discard(key)

    async def _events(self, input: RunAgentInput, sessions: Sessions, start: TurnStart) -> Events:
        for event in start_events(input, start):
            yield event
        usage: list[Usage] = []
        if start.checkpoint is not None:
            turn = Turn(self.resources, sessions, start.session, start.checkpoint, input.run_id)
            usage = turn.usage
            async with aclosing(turn.events()) as events:
                async for event in events:
                    yield event
        for event in end_events(input, start.session, usage):
            yield event
