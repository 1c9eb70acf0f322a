"""Every exception of the package. All derive from `AgentRunnerError`."""


class AgentRunnerError(Exception):
    """Base of every error this package raises."""


class InvalidEvent(AgentRunnerError, ValueError):
    """Raised when an event is refused: not JSON, not an object, no `type`, a missing or empty id, over a limit."""


class InvalidEventSequence(AgentRunnerError, ValueError):
    """Raised when each event is fine but not in this order; the message names the rule, the event and the id."""


class InvalidInput(AgentRunnerError, ValueError):
    """Raised when a run's input is refused; nothing was started."""


class ThreadAlreadyRunning(AgentRunnerError, RuntimeError):
    """Raised when the thread has a run already. The message is exactly `Thread already running`."""

    def __init__(self, message: str = "Thread already running") -> None:
        super().__init__(message)


class RunAlreadyExists(AgentRunnerError, ValueError):
    """Raised when a run id was used before, in any thread of the store; nothing was started."""


class ThreadNotFound(AgentRunnerError, LookupError):
    """Raised when a verb names a thread the store does not have."""


class LeaseLost(AgentRunnerError, RuntimeError):
    """Raised when another owner took the thread over; nothing was written."""


class InvalidRecord(AgentRunnerError, ValueError):
    """Raised when a record cannot be kept as it is asked for; nothing was written."""


class RecordConflict(AgentRunnerError, RuntimeError):
    """Raised when a record is not of the version a change expects; nothing was written. `kind` and `key` name it."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"the {kind} '{key}' has been changed meanwhile; nothing was written: read it again")
        self.kind = kind
        self.key = key


class RunRefused(AgentRunnerError):
    """Raised when the harness does not let a run in; nothing was started. `reasons` are the policy's, if it was that.

    Its `code` is that of the `RUN_ERROR` the readers of such a run get, here and below.
    """

    code = "RUN_REFUSED"

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class InterruptsOpen(RunRefused):
    """Raised when a run does not answer every open interrupt of its thread, or those are being acted upon."""

    code = "INTERRUPTS_OPEN"


class AlreadyDecided(RunRefused):
    """Raised when an approval has been decided otherwise, or what was decided has been done."""

    code = "ALREADY_DECIDED"


class ApprovalExpired(RunRefused):
    """Raised when an approval is given after its time; it can only be rejected."""

    code = "APPROVAL_EXPIRED"


class ApprovalNotFound(RunRefused, LookupError):
    """Raised when there is no such approval, or a run answers an interrupt its thread does not have."""

    code = "APPROVAL_NOT_FOUND"


class RunNotFound(AgentRunnerError, LookupError):
    """Raised when the harness knows no run of that id."""


class AgentNotFound(AgentRunnerError, LookupError):
    """Raised when the harness has no agent of that name."""


class CursorError(AgentRunnerError, ValueError):
    """Base of what can be wrong with a cursor."""


class InvalidCursor(CursorError):
    """Raised when a cursor is not `<seq>` or `<seq>.<index>`."""


class CursorExpired(CursorError):
    """Raised when the frames behind a cursor are no longer kept; connect without one. HTTP 410."""


class CursorAhead(CursorError):
    """Raised when a cursor is ahead of all the thread ever had; connect without one. HTTP 409."""


class RunnerClosed(AgentRunnerError, RuntimeError):
    """Raised when a closed runner is used, or one that belongs to another event loop."""


class StoreError(AgentRunnerError):
    """Raised when the store could not be read or written."""


class StoreFull(StoreError):
    """Raised when the disk is full; what was acknowledged before is kept."""


class StoreCorrupt(StoreError):
    """Raised when the file is no SQLite database, or a damaged one."""


class StoreReadOnly(StoreError):
    """Raised when the file may not be written."""


class StoreTooNew(StoreError):
    """Raised when the file was written by a newer version of this package."""


class StoreForked(StoreError):
    """Raised when a store is used in a process forked after it was opened."""


class StoreClosed(StoreError):
    """Raised when a closed store is used."""


class RecordDamaged(StoreError):
    """Raised when a record, or one it stands on, is not what was written. `kind` and `key` name it."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"the {kind} '{key}' is damaged or missing")
        self.kind = kind
        self.key = key


class RecordTooNew(StoreTooNew):
    """Raised when a record was written by a newer version of this package."""


class SessionNotFound(AgentRunnerError, LookupError):
    """Raised when a verb names a session, or a checkpoint of one, that the store does not have."""


class SessionAlreadyExists(AgentRunnerError, ValueError):
    """Raised when a session is made whose id another has; nothing was written."""


class LlmError(AgentRunnerError):
    """Base of what can go wrong with a model's service. The texts name no key, and nothing of what was asked.

    `status` is the service's HTTP status where there was one, `retry_after` the seconds it asked to wait, `detail` its
    own words, which may hold what was asked: for logs, and noted below a traceback.
    """

    retryable: bool = False
    """Whether the same question may be answered later."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.detail = detail
        if detail:
            self.add_note(f"the service said: {detail}")


class LlmRateLimited(LlmError):
    """Raised when the service takes no more questions for now."""

    retryable = True


class LlmQuotaExhausted(LlmError):
    """Raised when the account has used up what it paid for."""


class LlmOverloaded(LlmError):
    """Raised when the service is overloaded or has failed."""

    retryable = True


class LlmUnreachable(LlmError):
    """Raised when the service could not be reached in time, or the connection broke before the answer was whole."""

    retryable = True


class LlmContextTooLong(LlmError):
    """Raised when the messages and tools are more than the model takes."""


class ContextWindowExceeded(LlmContextTooLong):
    """Raised when even what must be kept of a conversation is more than fits; nothing was asked."""


class LlmRefused(LlmError):
    """Raised when the service withheld the answer for what was asked, or for what would have been said."""


class LlmUnauthorized(LlmError):
    """Raised when the service does not take the key, or the key may not use the model."""


class LlmRequestInvalid(LlmError):
    """Raised when the service does not take the question as it is: no such model, settings, a tool's schema."""


class LlmResponseInvalid(LlmError):
    """Raised when what the service said is not of its protocol."""

    retryable = True


class SkillInvalid(AgentRunnerError, ValueError):
    """Raised when a skill has no proper name, description or instructions, or another has its name."""


class ToolNameClash(AgentRunnerError, ValueError):
    """Raised when two tools have one name, which is `name`."""

    def __init__(self, name: str, owner: str, other: str) -> None:
        super().__init__(f"two tools are called '{name}': one of {owner}, one of {other}")
        self.name = name
