"""The result of a user's turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentrunner.runtime.outcome import Completed, Failed

if TYPE_CHECKING:
    from agentrunner.runtime.outcome import Outcome
    from agentrunner.runtime.session import Session


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The session after a user's turn, the turn's outcome, and its token usage."""

    session: Session
    outcome: Outcome
    usage: list[dict[str, Any]]
    """AG-UI's token usage of all model requests in the turn."""

    @property
    def text(self) -> str:
        """The model's answer or the reason of a failure; empty while the turn waits."""
        match self.outcome:
            case Completed(text):
                return text
            case Failed(error):
                return error
        return ""
