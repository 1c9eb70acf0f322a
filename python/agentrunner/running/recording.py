"""The limits that a runner sets for all its recorders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner._checks import check_integer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner._core import Claim, Recorder


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """Limits of one run; `AgentRunner` documents them as options."""

    event_bytes: int
    id_bytes: int
    window_bytes: int
    pending_bytes: int

    def __post_init__(self) -> None:
        check_integer("max_event_bytes", self.event_bytes)
        check_integer("max_id_bytes", self.id_bytes)
        check_integer("live_window_bytes", self.window_bytes, 0)
        check_integer("max_pending_bytes", self.pending_bytes, 0)

    def new_recorder(self, claim: Claim, known_message_ids: Iterable[str] = ()) -> Recorder:
        """Return a recorder for a claimed run.

        It leaves the messages that the thread already has out of the run's input.
        """
        return _core.Recorder(
            claim.thread_id,
            claim.run_id,
            claim.input,
            set(known_message_ids),
            claim.first_seq,
            event_bytes=self.event_bytes,
            id_bytes=self.id_bytes,
            window_bytes=self.window_bytes,
            pending_bytes=self.pending_bytes,
        )
