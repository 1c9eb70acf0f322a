"""Run agents within slots, with approvals, and through restarts of the process."""

from agentrunner.errors import (
    AgentNotFound,
    AlreadyDecided,
    AmbiguousId,
    ApprovalExpired,
    ApprovalNotFound,
    InterruptsOpen,
    RunNotFound,
    RunRefused,
)
from agentrunner.harness.harness import Harness
from agentrunner.harness.listeners import ListenerSubscription as Subscription
from agentrunner.harness.types import (
    RecordRetention,
    Recovery,
    RecoveryReport,
    Router,
    RunRequest,
    RunResult,
    StreamItem,
)
from agentrunner.records.approvals import Approval
from agentrunner.records.harness_runs import HarnessEvent, RunRecord

__all__ = [
    "AgentNotFound",
    "AlreadyDecided",
    "AmbiguousId",
    "Approval",
    "ApprovalExpired",
    "ApprovalNotFound",
    "Harness",
    "HarnessEvent",
    "InterruptsOpen",
    "RecordRetention",
    "Recovery",
    "RecoveryReport",
    "Router",
    "RunNotFound",
    "RunRecord",
    "RunRefused",
    "RunRequest",
    "RunResult",
    "StreamItem",
    "Subscription",
]
