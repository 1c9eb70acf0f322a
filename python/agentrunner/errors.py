"""All exceptions of the package; every one derives from `AgentRunnerError`."""


class AgentRunnerError(Exception):
    """Base class of every error that this package raises."""


class InvalidEvent(AgentRunnerError, ValueError):
    """Raised when an event is refused: not a JSON object, no `type`, a bad id, over a limit."""


class InvalidEventSequence(AgentRunnerError, ValueError):
    """Raised when events are in a forbidden order.

    The message names the rule, the event and the id.
    """


class InvalidInput(AgentRunnerError, ValueError):
    """Raised when an argument is refused, a run's input for example; nothing was started."""


class ThreadAlreadyRunning(AgentRunnerError, RuntimeError):
    """Raised when the thread already has a run.

    The message is exactly `Thread already running`, as CopilotKit's clients expect.
    """

    def __init__(self, message: str = "Thread already running") -> None:
        super().__init__(message)


class RunAlreadyExists(AgentRunnerError, ValueError):
    """Raised when a run id was used before, in any thread; nothing was started."""


class ThreadNotFound(AgentRunnerError, LookupError):
    """Raised when the store does not have the thread."""


class LeaseLost(AgentRunnerError, RuntimeError):
    """Raised when another owner took the thread over; nothing was written."""


class InvalidRecord(AgentRunnerError, ValueError):
    """Raised when a record is not valid; nothing was written."""


class RecordConflict(AgentRunnerError, RuntimeError):
    """Raised when a record has another version than expected; nothing was written.

    `kind` and `key` name the record.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"the {kind} '{key}' was changed in the meantime; nothing was written, read it again")
        self.kind = kind
        self.key = key


class RunRefused(AgentRunnerError):
    """Raised when the harness does not admit a run; nothing was started.

    `reasons` are those of the policy that refused it. Its `code`, here and in the subclasses, is that of the
    `RUN_ERROR` that readers of such a run get.
    """

    code = "RUN_REFUSED"

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class InterruptsOpen(RunRefused):
    """Raised when a run leaves an open interrupt of its thread unanswered.

    It is also raised while an answer to an interrupt is being acted upon.
    """

    code = "INTERRUPTS_OPEN"


class AlreadyDecided(RunRefused):
    """Raised when an approval was decided otherwise, or the decision was carried out."""

    code = "ALREADY_DECIDED"


class ApprovalExpired(RunRefused):
    """Raised when an approval is granted after its time; it can only be rejected."""

    code = "APPROVAL_EXPIRED"


class ApprovalNotFound(RunRefused, LookupError):
    """Raised when there is no such approval, or no such interrupt in the thread."""

    code = "APPROVAL_NOT_FOUND"


class RunNotFound(AgentRunnerError, LookupError):
    """Raised when the harness has no run with that id."""


class AgentNotFound(AgentRunnerError, LookupError):
    """Raised when the harness has no agent with that name."""


class CursorError(AgentRunnerError, ValueError):
    """Base class of the errors about cursors."""


class InvalidCursor(CursorError):
    """Raised when a cursor is not `<seq>` or `<seq>.<index>`."""


class CursorExpired(CursorError):
    """Raised when the frames after a cursor are no longer kept (HTTP 410).

    Connect again without a cursor.
    """


class CursorAhead(CursorError):
    """Raised when the thread was never as far as the cursor (HTTP 409).

    Connect again without a cursor.
    """


class RunnerClosed(AgentRunnerError, RuntimeError):
    """Raised when a runner is closed, draining, or belongs to another event loop."""


class StoreError(AgentRunnerError):
    """Raised when the store could not be read or written."""


class StoreFull(StoreError):
    """Raised when the disk is full; what was acknowledged before is kept."""


class StoreCorrupt(StoreError):
    """Raised when the file is damaged or is not a SQLite database."""


class StoreReadOnly(StoreError):
    """Raised when the file must not be written."""


class StoreTooNew(StoreError):
    """Raised when a newer version of this package wrote the file."""


class StoreForked(StoreError):
    """Raised when a store is used in a process that was forked after it was opened."""


class StoreClosed(StoreError):
    """Raised when a closed store is used."""


class RecordDamaged(StoreError):
    """Raised when a record, or one that it refers to, is damaged or missing.

    `kind` and `key` name the record.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"the {kind} '{key}' is damaged or missing")
        self.kind = kind
        self.key = key


class RecordTooNew(StoreTooNew):
    """Raised when a newer version of this package wrote the record."""


class SessionNotFound(AgentRunnerError, LookupError):
    """Raised when the store does not have the session or the checkpoint."""


class SessionAlreadyExists(AgentRunnerError, ValueError):
    """Raised when another session has the id; nothing was written."""


class LlmError(AgentRunnerError):
    """Base class of the errors of a model's provider.

    The message contains no key and nothing of the request. `status` is the provider's HTTP status, if there was one,
    `retry_after` the seconds it asked to wait. `detail` is the provider's own text, which may contain the request: it
    is meant for logs, and is added below a traceback.
    """

    retryable: bool = False
    """Whether the same request may succeed later."""

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
            self.add_note(f"the provider said: {detail}")


class LlmRateLimited(LlmError):
    """Raised when the provider accepts no more requests for now."""

    retryable = True


class LlmQuotaExhausted(LlmError):
    """Raised when the account has used up its quota."""


class LlmOverloaded(LlmError):
    """Raised when the provider is overloaded or has failed."""

    retryable = True


class LlmUnreachable(LlmError):
    """Raised when the provider timed out, or the connection broke within the response."""

    retryable = True


class LlmContextTooLong(LlmError):
    """Raised when the messages and tools are longer than the model accepts."""


class ContextWindowExceeded(LlmContextTooLong):
    """Raised when what must be kept of a conversation does not fit; nothing was sent."""


class LlmRefused(LlmError):
    """Raised when the provider withheld a response because of its content."""


class LlmUnauthorized(LlmError):
    """Raised when the key is not valid, or may not use the model."""


class LlmRequestInvalid(LlmError):
    """Raised when the provider rejects the request: its model, settings, or a tool's schema."""


class LlmResponseInvalid(LlmError):
    """Raised when the response does not follow the provider's protocol."""

    retryable = True


class SkillInvalid(AgentRunnerError, ValueError):
    """Raised when a skill has a bad name, description or instructions, or a duplicate name."""


class ToolNameClash(AgentRunnerError, ValueError):
    """Raised when two tools have the same name, which is `name`."""

    def __init__(self, name: str, owner: str, other: str) -> None:
        owners = f"two tools of {owner} are" if owner == other else f"a tool of {owner} and one of {other} are both"
        super().__init__(f"{owners} called '{name}'; rename one of them")
        self.name = name
