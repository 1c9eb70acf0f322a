"""Functions over events: any iterable of `ag_ui` models, dicts, JSON `bytes` or `str`, or `Event`s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._codec import decode
from agentrunner._core import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner.types import EventLike


@dataclass(frozen=True, slots=True)
class Folded:
    """What a client holds after replaying events."""

    messages: list[dict[str, Any]]
    """AG-UI messages in the order the client shows them, as dicts of the wire's field names."""
    state: Any
    """The shared state, any JSON value; `{}` where no event set one."""


def compact(events: Iterable[EventLike]) -> list[Event]:
    """Give a shorter stream that replays to the same messages and state.

    The deltas of a message or tool call become one, in the place where it started; state events become one snapshot.
    Faithful, idempotent, and unknown kinds pass unchanged. Raises `InvalidEvent`.
    """
    return _core.compact(events)


def fold(events: Iterable[EventLike]) -> Folded:
    """Give the messages and the state a client holds after replaying the events (`@ag-ui/client` 1.0.0).

    Chunks are expanded first. Raises `InvalidEvent`, and `InvalidEventSequence` for chunks that cannot be expanded.
    """
    messages, state = _core.fold(events)
    return Folded(decode(messages), decode(state))


def finalize(
    events: Iterable[EventLike], *, stop_requested: bool = False, interruption_message: str | None = None
) -> list[Event]:
    """Give the events that end a run cut short: what is open is closed, and a terminal event written.

    `RUN_FINISHED` if a stop was requested, else `RUN_ERROR` (code `INCOMPLETE_STREAM`) with the interruption's message.
    Nothing for a run that has its terminal event. Raises `InvalidEvent`.
    """
    return _core.finalize(events, stop_requested, interruption_message)


def verify(events: Iterable[EventLike]) -> None:
    """Raise `InvalidEventSequence` at the first event AG-UI's `verifyEvents` (1.0.0) would refuse."""
    _core.verify(events)


def expand(events: Iterable[EventLike]) -> list[Event]:
    """Give the events with each `*_CHUNK` written as the START, CONTENT (or ARGS) and END it stands for.

    Raises `InvalidEventSequence` for a chunk that does not say what it belongs to.
    """
    return _core.expand(events)
