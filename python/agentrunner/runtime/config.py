"""What a runtime can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """How turns go."""

    system_prompt: str = ""
    max_turns: int = 50
    """Questions to the model in one user's turn."""
    max_empty_answers: int = 3
    """How often in a row the model may say nothing and call no tool; it is asked again until then."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The model's: `temperature` and such."""
    take_history: bool = True
    """Whether what a client says others have said, which the session does not know, is believed: answers of other
    agents in the thread or that broke off, system messages. Else only messages of users are taken."""
    approval_expires: float | None = None
    """Seconds an approval may be waited for; `None`: for ever."""
    approval_ttl: float = 3600.0
    """Seconds for which an approval that is to be remembered holds for the same action of the same session."""

    def __post_init__(self) -> None:
        if self.max_turns < 1 or self.max_empty_answers < 1:
            raise ValueError("max_turns and max_empty_answers are at least 1")


@dataclass(frozen=True, slots=True)
class ToolErrorRecovery:
    """What becomes of a turn in which a tool failed."""

    action: Literal["retry", "stop"] = "retry"
    """`retry`: the model is told; `stop`: the turn fails at once. Arguments that do not fit are told in either case."""
    max_retries: int = 3
    """Turns of the model in a row in which a tool may fail."""
    advice: str = "Try it again in a simpler way, or answer without this tool."
    """Said to the model behind the error."""
