"""Checkpoints: a turn's state before each step that costs money or has side effects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentrunner.errors import RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.kinds import numbered_key
from agentrunner.records.times import utc
from agentrunner.runtime.tools import ToolCall

if TYPE_CHECKING:
    import datetime

    from agentrunner.stores import Change, Record

Step: TypeAlias = Literal["after_user_input", "before_llm", "before_tool_calls", "after_tool_calls"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of a session from which a turn can continue."""

    session_id: str
    number: int
    """Number of the checkpoint in its session, from 1."""
    step: Step
    turn: int
    """Number of model requests in this user's turn, the next one included if the step is `before_llm`."""
    messages: int
    """Number of messages the session has."""
    digest: str
    """Digest of those messages."""
    run_id: str
    created_at: int
    """Time of the checkpoint in milliseconds since 1970."""
    calls: tuple[ToolCall, ...] = ()
    """Tool calls of the turn, in the two steps around them."""
    results: tuple[dict[str, Any], ...] = ()
    """Messages with the tools' results, the last of the session, in the step `after_tool_calls`."""
    request: dict[str, Any] = field(default_factory=dict)
    """The request to the model in the step `before_llm`, as `Prompter.pack` returns it."""
    empty: int = 0
    """Number of consecutive model responses without text and tool calls."""
    failures: int = 0
    """Number of consecutive model responses in which a tool failed."""
    agent: str | None = None
    """Id of the agent whose turn it is, empty if it has none; `None` in records of version 0.1.0."""

    @property
    def key(self) -> str:
        """Key of the checkpoint's record."""
        return numbered_key(self.session_id, self.number)

    def is_of(self, agent_id: str) -> bool:
        """Return whether the agent may continue here: agents share a session, but not their tools."""
        return self.agent in (None, agent_id)

    @property
    def created_at_utc(self) -> datetime.datetime:
        """Time of the checkpoint as a datetime in UTC."""
        return utc(self.created_at)

    def to_change(self) -> Change:
        """Return the change that writes the checkpoint, unless its number is already taken."""
        return kinds.CHECKPOINT.change(self.key, self.session_id, asdict(self), 0)


def read_checkpoint(record: Record, session_id: str, number: int) -> Checkpoint:
    """Return the checkpoint in a record.

    Raises `RecordTooNew`, and `RecordDamaged` also if the record belongs to another session or number.
    """
    fields = kinds.CHECKPOINT.decode(record)
    try:
        fields["calls"] = tuple(ToolCall(**call) for call in fields["calls"])
        fields["results"] = tuple(fields["results"])
        checkpoint = Checkpoint(**fields)
    except (TypeError, KeyError) as error:
        raise RecordDamaged(record.kind, record.key) from error
    if (checkpoint.session_id, checkpoint.number) != (session_id, number):
        raise RecordDamaged(record.kind, record.key)
    return checkpoint
