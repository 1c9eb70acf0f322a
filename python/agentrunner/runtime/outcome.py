"""The ways a user's turn can end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Completed:
    """The model has answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn cannot continue.

    The session keeps the messages and tool results from before the failure.
    """

    error: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The turn waits for the approval of tool calls."""

    interrupts: list[dict[str, Any]]
    """The interrupts in AG-UI's wire form."""


@dataclass(frozen=True, slots=True)
class WaitingForClient:
    """The turn waits for results of the client's tools, which come with the next run."""

    tool_call_ids: list[str]


Outcome: TypeAlias = Completed | Failed | Interrupted | WaitingForClient

_CLASSES: dict[str, type[Any]] = {
    "completed": Completed, "failed": Failed, "interrupted": Interrupted, "client": WaitingForClient,
}  # fmt: skip


def outcome_to_json(outcome: Outcome | None) -> dict[str, Any] | None:
    """Return an outcome in the form in which it is stored."""
    if outcome is None:
        return None
    return {"type": next(name for name, kind in _CLASSES.items() if isinstance(outcome, kind)), **asdict(outcome)}


def outcome_from_json(stored: dict[str, Any] | None) -> Outcome | None:
    """Return the outcome that `outcome_to_json` was called with."""
    if stored is None:
        return None
    fields = dict(stored)
    outcome: Outcome = _CLASSES[fields.pop("type")](**fields)
    return outcome
