"""The package's exceptions, which all derive from `AgentRunnerError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class AgentRunnerError(Exception):
    """Base class of every error that this package raises."""


class InvalidEvent(AgentRunnerError, ValueError):
    """Raised when an event is refused: it is not valid, or exceeds a limit.

    `code` is the code of the `RUN_ERROR` that the run's readers get.
    """

    code = "INVALID_EVENT"


class StateTooLarge(InvalidEvent):
    """Raised when an event would make a run's state larger than `max_state_bytes`."""

    code = "STATE_TOO_LARGE"


class RunTooLarge(InvalidEvent):
    """Raised when a run would be larger than `max_run_bytes`, or than its store can keep."""

    code = "RUN_TOO_LARGE"


class InvalidEventSequence(AgentRunnerError, ValueError):
    """Raised when an event is not allowed at its place in the stream.

    The message names the rule, the event and the id.
    """


class InvalidInput(AgentRunnerError, ValueError):
    """Raised when an argument is refused, such as a run's input; nothing was started.

    `issues` lists at most ten invalid fields of a run's input, each as a dict with `code`, `path` and `message`.
    """

    def __init__(self, message: str, issues: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.issues = issues


class InputTooLarge(InvalidInput):
    """Raised when a list of a run's input has too many items; nothing was started."""


class ThreadAlreadyRunning(AgentRunnerError, RuntimeError):
    """Raised when the thread already has a run.

    The message is exactly `Thread already running`, as CopilotKit's clients expect.
    """

    def __init__(self, message: str = "Thread already running") -> None:
        super().__init__(message)


class CircularWait(ThreadAlreadyRunning):
    """Raised when a run would wait for a run that is waiting for it; nothing was started.

    An agent gets this error if it starts a run on its own thread, or on a thread whose run is waiting for its own.
    """


class TooManyWaiting(AgentRunnerError, RuntimeError):
    """Raised when too many runs wait for their thread, or their inputs are too large.

    Nothing was started. The limits are the options `max_waiting` and `max_waiting_bytes` of `AgentRunner`.
    """


class RunAlreadyExists(AgentRunnerError, ValueError):
    """Raised when the thread has had a run with this id; nothing was started."""


class ThreadNotFound(AgentRunnerError, LookupError):
    """Raised when the store has no such thread, or the thread belongs to another scope."""


class LeaseLost(AgentRunnerError, RuntimeError):
    """Raised when another owner has taken over the thread; nothing was written."""


class InvalidRecord(AgentRunnerError, ValueError):
    """Raised when a record is not valid; nothing was written."""


class RecordConflict(AgentRunnerError, RuntimeError):
    """Raised when a record has another version than expected; nothing was written.

    `kind` and `key` name the record.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"the {kind} '{key}' was changed in the meantime and nothing was written; read it again")
        self.kind = kind
        self.key = key


class AgentError(AgentRunnerError):
    """Raised by an agent to end its run with a message that its readers may see.

    The text of any other exception goes to the log only, because it may contain secrets.

    Args:
        message: The message of the `RUN_ERROR`.
        code: Its code, by default `INCOMPLETE_STREAM`.

    Example::

        async def agent(input):
            if not input.messages:
                raise AgentError("Please write something", code="EMPTY")

    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class RunRefused(AgentRunnerError):
    """Raised when the harness does not admit a run; nothing was started.

    `reasons` come from the policy that refused the run. `code` is the code of the `RUN_ERROR` that the run's readers
    get; each subclass has its own.
    """

    code = "RUN_REFUSED"

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class InterruptsOpen(RunRefused):
    """Raised when a run leaves an open interrupt of its thread unanswered.

    It is also raised for a run without answers if the agent is about to continue with earlier answers.
    """

    code = "INTERRUPTS_OPEN"


class AlreadyDecided(RunRefused):
    """Raised when an approval has a different decision, or its decision was carried out."""

    code = "ALREADY_DECIDED"


class ApprovalExpired(RunRefused):
    """Raised when an approval is granted after it expired; it can only be rejected now."""

    code = "APPROVAL_EXPIRED"


class ApprovalNotFound(RunRefused, LookupError):
    """Raised when there is no such approval, or no such interrupt in the thread."""

    code = "APPROVAL_NOT_FOUND"


class RunNotFound(AgentRunnerError, LookupError):
    """Raised when the harness has no run with that id."""


class AmbiguousId(AgentRunnerError, LookupError):
    """Raised when several threads have a run or an approval with the id; pass `thread_id`."""


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
    """Raised when a cursor is after everything that its thread ever had (HTTP 409).

    Connect again without a cursor.
    """


class RunnerClosed(AgentRunnerError, RuntimeError):
    """Raised when a runner is closed, draining, or belongs to another event loop."""


class StoreError(AgentRunnerError):
    """Raised when the store could not be read or written."""


class StoreFull(StoreError):
    """Raised when the store has no space left; every acknowledged event is kept."""


class StoreValueTooLarge(StoreError):
    """Raised when a run or a value is larger than the store can keep; nothing was written."""


class StoreCorrupt(StoreError):
    """Raised when the stored data is damaged, or the file is not a SQLite database."""


class StoreMissing(StoreError):
    """Raised when the store's file was removed, renamed or replaced.

    Nothing more is written. Everything that was acknowledged is in the file. The store works again once the same file
    is back in its place.
    """


class StoreReadOnly(StoreError):
    """Raised when the store cannot be written, such as a read-only file or a replica."""


class StoreTooNew(StoreError):
    """Raised when a newer version of this package wrote the stored data."""


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

    The message contains neither the API key nor any part of the request. `status` is the provider's HTTP status, if
    there was a response. `retry_after` is the number of seconds that the provider asked the caller to wait. `detail` is
    the provider's own text, which may quote the request: use it only in logs. A traceback shows it as a note.
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
    """Raised when the provider timed out, or the connection broke during the response."""

    retryable = True


class LlmContextTooLong(LlmError):
    """Raised when the messages and tools are longer than the model's context window."""


class ContextWindowExceeded(LlmContextTooLong):
    """Raised when the messages that must be kept do not fit; nothing was sent."""


class LlmRefused(LlmError):
    """Raised when the provider withheld a response because of its content."""


class LlmUnauthorized(LlmError):
    """Raised when the API key is not valid, or is not allowed to use the model."""


class LlmRequestInvalid(LlmError):
    """Raised when the provider rejects the request: its model, settings, or a tool's schema."""


class LlmResponseInvalid(LlmError):
    """Raised when the response does not follow the provider's protocol."""

    retryable = True


class SkillInvalid(AgentRunnerError, ValueError):
    """Raised when a skill has a bad name, description or instructions, or a duplicate name."""


class ToolNameClash(AgentRunnerError, ValueError):
    """Raised when two tools have the same name; the attribute `name` is that name."""

    def __init__(self, name: str, owner: str, other: str) -> None:
        owners = f"two tools of {owner} are" if owner == other else f"a tool of {owner} and one of {other} are both"
        super().__init__(f"{owners} called '{name}'; rename one of them")
        self.name = name
