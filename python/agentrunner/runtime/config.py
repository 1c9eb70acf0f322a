"""Options of an agent runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Limits, settings and waiting times of a runtime.

    Raises:
        ValueError: If `max_turns` or `max_empty_answers` is less than 1.

    Example:
        agent = AgentRuntime(llm, config=RuntimeConfig(system_prompt="Answer in one sentence.", max_turns=10))
    """

    system_prompt: str = ""
    """Text at the beginning of the system message of every model request."""
    max_turns: int = 50
    """Largest number of model requests in one user's turn; the turn fails when the model wants another."""
    max_empty_answers: int = 3
    """Number of consecutive model responses without text and tool calls after which the turn fails.

    Until then the runtime sends another request.
    """
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of every model request, such as `temperature`."""
    take_history: bool = True
    """Whether the session takes over new messages from the client that are not the user's.

    These are responses of other agents in the thread, and incomplete responses, as the thread has them. Messages that
    only the client claims exist are left out. If false, the session takes over only user messages. It never takes over
    a client's system and developer messages.
    """
    approval_expires: float | None = None
    """Seconds that an interrupt can be approved; `None` sets no limit."""
    approval_ttl: float = 3600.0
    """Seconds that a remembered approval applies to the same action in the same session."""

    def __post_init__(self) -> None:
        if self.max_turns < 1 or self.max_empty_answers < 1:
            raise ValueError(
                f"max_turns and max_empty_answers must be at least 1, not {self.max_turns} and {self.max_empty_answers}"
            )


@dataclass(frozen=True, slots=True)
class ToolErrorRecovery:
    """The reaction of a turn to a failed tool.

    Example:
        agent = AgentRuntime(llm, tools=[charge], error_recovery=ToolErrorRecovery(action="stop"))
    """

    action: Literal["retry", "stop"] = "retry"
    """`retry` tells the model about the error; `stop` fails the turn at once.

    Invalid arguments are the model's mistake, not the tool's: the model is told about them in both cases.
    """
    max_retries: int = 3
    """Largest number of consecutive model responses in which a tool may fail."""
    advice: str = "Try it again in a simpler way, or answer without this tool."
    """Advice to the model, added below the error text."""
