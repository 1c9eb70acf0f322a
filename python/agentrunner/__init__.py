"""Run AG-UI agents whose events are stored, replayed and compacted.

Every event is durable before a reader gets it, late readers get a replay, and threads survive a crash.
"""

from typing import TYPE_CHECKING, Any

from agentrunner._core import Event, __version__
from agentrunner._logging import install_filter
from agentrunner.agents import text_agent
from agentrunner.errors import (
    AgentError,
    AgentRunnerError,
    CircularWait,
    ContextWindowExceeded,
    CursorAhead,
    CursorError,
    CursorExpired,
    InvalidCursor,
    InvalidEvent,
    InvalidEventSequence,
    InvalidInput,
    InvalidRecord,
    LeaseLost,
    LlmContextTooLong,
    LlmError,
    LlmOverloaded,
    LlmQuotaExhausted,
    LlmRateLimited,
    LlmRefused,
    LlmRequestInvalid,
    LlmResponseInvalid,
    LlmUnauthorized,
    LlmUnreachable,
    RecordConflict,
    RunAlreadyExists,
    RunnerClosed,
    SkillInvalid,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreForked,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreTooNew,
    ThreadAlreadyRunning,
    ThreadNotFound,
    ToolNameClash,
    TooManyWaiting,
)
from agentrunner.events import Folded, compact, expand, finalize, fold, verify
from agentrunner.reading.stream import EventStream
from agentrunner.runner import AgentRunner
from agentrunner.runners import InMemoryAgentRunner, SqliteAgentRunner
from agentrunner.running.current import Run, current_run
from agentrunner.stores import Store
from agentrunner.stores.memory import MemoryStore
from agentrunner.stores.sqlite import SqliteStore
from agentrunner.threads import Threads
from agentrunner.types import Retention, ThreadSummary

if TYPE_CHECKING:
    from agentrunner.runners import PostgresAgentRunner, RedisAgentRunner

__all__ = [
    "AgentError",
    "AgentRunner",
    "AgentRunnerError",
    "CircularWait",
    "ContextWindowExceeded",
    "CursorAhead",
    "CursorError",
    "CursorExpired",
    "Event",
    "EventStream",
    "Folded",
    "InMemoryAgentRunner",
    "InvalidCursor",
    "InvalidEvent",
    "InvalidEventSequence",
    "InvalidInput",
    "InvalidRecord",
    "LeaseLost",
    "LlmContextTooLong",
    "LlmError",
    "LlmOverloaded",
    "LlmQuotaExhausted",
    "LlmRateLimited",
    "LlmRefused",
    "LlmRequestInvalid",
    "LlmResponseInvalid",
    "LlmUnauthorized",
    "LlmUnreachable",
    "MemoryStore",
    "PostgresAgentRunner",
    "RecordConflict",
    "RedisAgentRunner",
    "Retention",
    "Run",
    "RunAlreadyExists",
    "RunnerClosed",
    "SkillInvalid",
    "SqliteAgentRunner",
    "SqliteStore",
    "Store",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreForked",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "StoreTooNew",
    "ThreadAlreadyRunning",
    "ThreadNotFound",
    "ThreadSummary",
    "Threads",
    "TooManyWaiting",
    "ToolNameClash",
    "__version__",
    "compact",
    "current_run",
    "expand",
    "finalize",
    "fold",
    "text_agent",
    "verify",
]

install_filter()


def __getattr__(name: str) -> Any:
    # They import client libraries that are optional and slow to load, so import them only when they are used.
    if name in ("PostgresAgentRunner", "RedisAgentRunner"):
        from agentrunner import runners

        return getattr(runners, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
