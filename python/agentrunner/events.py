"""Compact, fold, finalize, verify and expand events.

Every function takes any iterable of `ag_ui` models, dicts, JSON as `bytes` or `str`, or `Event`s.
"""

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
    """The messages and the state that a client holds after replaying events."""

    messages: list[dict[str, Any]]
    """AG-UI messages in the order in which the client shows them, as dicts with the wire's field names."""
    state: Any
    """The shared state, any JSON value; `{}` if no event set one."""


def compact(events: Iterable[EventLike]) -> list[Event]:
    """Return a shorter stream that replays to the same messages and state.

    The deltas of a message or tool call become one delta at the place where it started, and state events become one
    snapshot. Compacting the result again changes nothing. Events of unknown kinds pass through unchanged.

    Args:
        events: The events of one or more runs.

    Returns:
        The compacted events.

    Raises:
        InvalidEvent: An event is not valid.

    Example::

        stored = compact(events)

    """
    return _core.compact(events)


def fold(events: Iterable[EventLike]) -> Folded:
    """Return the messages and the state that a client holds after replaying the events.

    The result is the same as in `@ag-ui/client` 1.0.0. Chunks are expanded first.

    Args:
        events: The events of one or more runs.

    Returns:
        Messages and state.

    Raises:
        InvalidEvent: An event is not valid.
        InvalidEventSequence: A chunk cannot be expanded.

    Example::

        print(fold(events).messages)

    """
    messages, state = _core.fold(events)
    return Folded(decode(messages), decode(state))


def finalize(
    events: Iterable[EventLike], *, stop_requested: bool = False, interruption_message: str | None = None
) -> list[Event]:
    """Return the events that end a run that was cut short.

    They end everything that the run left open. The last one is `RUN_FINISHED` if a stop was requested, otherwise
    `RUN_ERROR` (code `INCOMPLETE_STREAM`).

    Args:
        events: The events of the run so far.
        stop_requested: Whether the run was stopped on request.
        interruption_message: The text of the `RUN_ERROR`, and of the results for tool calls that have no result.

    Returns:
        The events to append; none if the run has a terminal event already.

    Raises:
        InvalidEvent: An event is not valid.

    Example::

        events += finalize(events, stop_requested=True)

    """
    return _core.finalize(events, stop_requested, interruption_message)


def verify(events: Iterable[EventLike]) -> None:
    """Check the order of events by the rules of AG-UI's `verifyEvents` (1.0.0).

    Args:
        events: The events of one or more runs.

    Raises:
        InvalidEvent: An event is not valid.
        InvalidEventSequence: An event is not allowed at its place; the message names the rule, the event and the id.

    Example::

        verify(events)

    """
    _core.verify(events)


def expand(events: Iterable[EventLike]) -> list[Event]:
    """Return the events with each `*_CHUNK` replaced by START, CONTENT or ARGS, and END.

    Args:
        events: The events of one or more runs.

    Returns:
        The expanded events.

    Raises:
        InvalidEvent: An event is not valid.
        InvalidEventSequence: A chunk does not name the message or tool call that it belongs to.

    Example::

        for event in expand(events):
            print(event.type)

    """
    return _core.expand(events)
