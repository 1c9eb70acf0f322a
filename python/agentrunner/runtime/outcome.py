"""How a user's turn ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from agentrunner.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Completed:
    """The model has answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn cannot go on. What was said and done before is in the session."""

    error: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Tool calls wait for approval."""

    interrupts: list[dict[str, Any]]
    """AG-UI's interrupts, in the wire's form."""


@dataclass(frozen=True, slots=True)
class WaitingForClient:
    """The model called tools that are the client's: their results come with the next run."""

    tool_call_ids: list[str]


Outcome: TypeAlias = Completed | Failed | Interrupted | WaitingForClient

_KINDS: dict[str, type[Any]] = {
    "completed": Completed, "failed": Failed, "interrupted": Interrupted, "client": WaitingForClient,
}  # fmt: skip


def outcome_to_json(outcome: Outcome | None) -> dict[str, Any] | None:
    """Give an outcome as it is kept."""
    if outcome is None:
        return None
    return {"type": next(name for name, kind in _KINDS.items() if isinstance(outcome, kind)), **asdict(outcome)}


def outcome_from_json(kept: dict[str, Any] | None) -> Outcome | None:
    """Give an outcome that was kept."""
    if kept is None:
        return None
    fields = dict(kept)
    outcome: Outcome = _KINDS[fields.pop("type")](**fields)
    return outcome


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What became of a user's turn."""

    session: Session
    outcome: Outcome
    usage: list[dict[str, Any]]
    """AG-UI's token usage of the models asked."""

    @property
    def text(self) -> str:
        """The answer, or why there is none; empty where something is waited for."""
        match self.outcome:
            case Completed(text):
                return text
            case Failed(error):
                return error
        return ""
