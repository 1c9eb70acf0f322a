"""Where a turn has got to: written before each thing that costs or changes something outside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentrunner.errors import RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.format import encode_value
from agentrunner.records.kinds import numbered_key
from agentrunner.runtime.tools import ToolCall

if TYPE_CHECKING:
    from agentrunner.stores import Record

Step: TypeAlias = Literal["after_user_input", "before_llm", "before_tool_calls", "after_tool_calls"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place in a session from which a turn can go on."""

    session_id: str
    number: int
    """The session's first is 1."""
    step: Step
    turn: int
    """How often the model has been asked in this user's turn, the question at hand included."""
    messages: int
    """How many messages the session has."""
    digest: str
    """What those messages come to."""
    run_id: str
    created_at: int
    """Milliseconds since 1970."""
    calls: tuple[ToolCall, ...] = ()
    """Of the two steps around tool calls: those of the turn."""
    results: tuple[dict[str, Any], ...] = ()
    """Of `after_tool_calls`: the messages with their results, which are the session's last."""
    request: dict[str, Any] = field(default_factory=dict)
    """Of `before_llm`: the question, see `Prompter.pack`."""
    empty: int = 0
    """How often in a row the model has said nothing."""
    failures: int = 0
    """In how many turns in a row a tool failed."""

    @property
    def key(self) -> str:
        """Under which key it is kept, a record of kind `checkpoint`."""
        return numbered_key(self.session_id, self.number)

    def sealed(self) -> bytes:
        """Give it as it is kept."""
        return encode_value(asdict(self))


def read_checkpoint(record: Record, session_id: str, number: int) -> Checkpoint:
    """Give a checkpoint that was kept. Raises `RecordDamaged`, also where it is another's; `RecordTooNew`."""
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
