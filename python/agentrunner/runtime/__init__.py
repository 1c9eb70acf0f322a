"""The agent runtime: a loop of model turns and tool calls that is an agent."""

from agentrunner.errors import RecordDamaged, RecordTooNew, SessionAlreadyExists, SessionNotFound
from agentrunner.runtime.agent import AgentRuntime
from agentrunner.runtime.approvals import ApprovalRequest, Decision, Deny
from agentrunner.runtime.bus import Missed, RuntimeEvent, Subscription
from agentrunner.runtime.checkpoints import Checkpoint
from agentrunner.runtime.config import RuntimeConfig, ToolErrorRecovery
from agentrunner.runtime.context import ContextWindowManager
from agentrunner.runtime.llm import (
    Finish,
    LlmClient,
    LlmEvent,
    LlmRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    ToolSpec,
    Usage,
)
from agentrunner.runtime.middleware import Middleware, TurnContext
from agentrunner.runtime.model_response import ModelResponse
from agentrunner.runtime.outcome import Completed, Failed, Interrupted, Outcome, WaitingForClient
from agentrunner.runtime.session import Session
from agentrunner.runtime.skills import Skill, SkillPrompter, load_skills
from agentrunner.runtime.tools import Tool, ToolCall, ToolContext, ToolResult, tool
from agentrunner.runtime.turn_result import TurnResult

Answer = ModelResponse
"""The name of `ModelResponse` in version 0.1.0, kept for middleware written for it."""

__all__ = [
    "AgentRuntime",
    "Answer",
    "ApprovalRequest",
    "Checkpoint",
    "Completed",
    "ContextWindowManager",
    "Decision",
    "Deny",
    "Failed",
    "Finish",
    "Interrupted",
    "LlmClient",
    "LlmEvent",
    "LlmRequest",
    "Middleware",
    "Missed",
    "ModelResponse",
    "Outcome",
    "ReasoningDelta",
    "RecordDamaged",
    "RecordTooNew",
    "RuntimeConfig",
    "RuntimeEvent",
    "Session",
    "SessionAlreadyExists",
    "SessionNotFound",
    "Skill",
    "SkillPrompter",
    "Subscription",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolCallArgs",
    "ToolCallStart",
    "ToolContext",
    "ToolErrorRecovery",
    "ToolResult",
    "ToolSpec",
    "TurnContext",
    "TurnResult",
    "Usage",
    "WaitingForClient",
    "load_skills",
    "tool",
]
