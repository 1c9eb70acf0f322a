"""The limits that a runner sets for all its recorders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner._checks import check_integer, check_option_type
from agentrunner.running.offload import run_by_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner._core import Claim, Recorder
    from agentrunner.stores import Store


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """Limits of one run; `AgentRunner` documents them as options."""

    event_bytes: int
    id_bytes: int
    window_bytes: int
    pending_bytes: int
    state_bytes: int
    run_bytes: int
    keep_raw_events: bool = False

    def __post_init__(self) -> None:
        check_integer("max_event_bytes", self.event_bytes)
        check_integer("max_id_bytes", self.id_bytes)
        check_integer("live_window_bytes", self.window_bytes, 0)
        check_integer("max_pending_bytes", self.pending_bytes, 0)
        check_integer("max_state_bytes", self.state_bytes)
        check_integer("max_run_bytes", self.run_bytes)
        check_option_type("keep_raw_events", self.keep_raw_events, bool)

    def fit(self, store: Store) -> RecordingLimits:
        """Return these limits, with that of a run's size lowered to what a store can keep."""
        store_bytes = getattr(store, "max_run_bytes", None)
        if store_bytes is None:
            return self
        # Leave space for the events that close open items when the limit is reached.
        return replace(self, run_bytes=min(self.run_bytes, max(1, store_bytes - store_bytes // 8)))

    async def new_recorder(
        self,
        claim: Claim,
        known_message_ids: Iterable[str] = (),
        input: str | None = None,
    ) -> Recorder:
        """Return a recorder for a claimed run, by default with the claim's input.

        It removes messages that the thread already has from the run's input, and asks which of the agent's ids the
        thread has used before. A recorder of a large input is made in another thread.
        """
        json = claim.input if input is None else input
        return await run_by_size(len(json), self._make_recorder, claim, json, set(known_message_ids))

    def new_empty_recorder(self, claim: Claim) -> Recorder:
        """Return the recorder of a claimed run that has no events and will not start."""
        return self._make_recorder(claim, "{}", set())

    def _make_recorder(self, claim: Claim, input: str, known_message_ids: set[str]) -> Recorder:
        return _core.Recorder(
            claim.thread_id,
            claim.run_id,
            input,
            known_message_ids,
            claim.first_seq,
            event_bytes=self.event_bytes,
            id_bytes=self.id_bytes,
            window_bytes=self.window_bytes,
            pending_bytes=self.pending_bytes,
            state_bytes=self.state_bytes,
            run_bytes=self.run_bytes,
            # The first run of a thread has nothing to look up.
            looks_up=claim.first_seq > 1,
            keep_raw_events=self.keep_raw_events,
        )
