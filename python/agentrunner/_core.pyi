"""The native core: operations on bytes, strings, integers and opaque handles.

A store's method takes a ticket and returns at once; `SqliteStore.completions()` returns its result.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from os import PathLike
from typing import Any, Literal, TypeAlias, final

from pydantic import BaseModel

# fmt: off
__all__ = [
    "CLAIMED_ENTRY", "REPLACED_ENTRY", "SQLITE_VERSION", "Batch", "Claim", "Event", "Frames", "Owner", "Recompactor",
    "Recorder", "SqliteStore", "Superseded", "__version__", "agents_call_id", "back_up_sqlite", "check_input",
    "compact", "compare_messages", "conform", "count_values", "entries_of_input", "expand", "finalize", "find_ids",
    "fold", "input_for_agent", "parse_cursor", "recompact", "run_frames", "run_message_ids", "snapshot",
    "vacuum_sqlite", "verify",
]
# fmt: on

__version__: str
SQLITE_VERSION: str
CLAIMED_ENTRY: str
"""The message id by which stores find threads with a message that only a client claims."""
REPLACED_ENTRY: str
"""The message id by which stores find threads whose messages were replaced."""

_Cursor: TypeAlias = tuple[int, int | None]
_Backup: TypeAlias = tuple[int, int, int, int, int | None]
_Guard: TypeAlias = tuple[bool, str | None, int | None] | None

@final
class Event:
    """One AG-UI event: its JSON (`bytes(event)`, exactly as recorded) and its cursor."""

    @property
    def type(self) -> str:
        """The event's type as the wire names it; any string."""
    @property
    def seq(self) -> int | None:
        """The event's number, or the last of its compacted run; `None` outside a thread."""
    @property
    def cursor(self) -> str | None:
        """The cursor that `connect(after=)` resumes after; `None` outside a thread."""
    def __bytes__(self) -> bytes: ...
    def __hash__(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """Return the event as a dict with the wire's field names."""
    def model(self) -> BaseModel:
        """Return the event as its `ag_ui.core` model. Raises `pydantic.ValidationError`."""

@final
class Frames:
    """SSE frames: `id: <cursor>` and `data: <event>`.

    `bytes(frames)` is computed once for all readers.
    """

    def __new__(cls, data: bytes) -> Frames: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def for_legacy_clients(self) -> bytes:
        """Return the frames as `@ag-ui/client` 0.0.59 can read them: `bytes(frames)` itself if it can."""
    @property
    def last_seq(self) -> int | None:
        """The sequence number in the last frame's cursor; `None` if there is none."""
    def offset(self, count: int) -> int:
        """Return the length in bytes of the first `count` frames."""
    def page(self, offset: int, limit: int) -> tuple[Frames, int]:
        """Return at least one frame, about `limit` bytes from `offset` on, and the next page's offset."""
    def events(self) -> list[Event]:
        """Return the frames' events; the same list each time."""

@final
class Batch:
    """Raw frames that one commit makes durable; `bytes(batch)` are the frames."""

    def __new__(cls, data: bytes, first_seq: int, count: int) -> Batch: ...
    @property
    def first_seq(self) -> int:
        """The sequence number of the first frame."""
    @property
    def last_seq(self) -> int:
        """The sequence number of the last frame."""
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    def after(self, seq: int, limit: int) -> bytes:
        """Return the frames after a sequence number, about `limit` bytes."""

@final
class Recompactor:
    """Computes again the compacted frames of a run up to a sequence number, without holding the GIL."""

    def __new__(cls, seq: int) -> Recompactor: ...
    def push(self, frames: Frames) -> None:
        """Push the run's next raw frames; raise `StoreCorrupt` or `InvalidEvent` for damaged ones."""
    def frames(self) -> Frames:
        """Return the compacted frames."""

@final
class Recorder:
    """One run being recorded: its events are expanded, verified, compacted and framed."""

    # fmt: off
    def __new__(
        cls, thread_id: str, run_id: str, input: str, known: set[str], first_seq: int, *, event_bytes: int,
        id_bytes: int, window_bytes: int, pending_bytes: int, state_bytes: int = ..., run_bytes: int = ...,
        looks_up: bool = False, keep_raw_events: bool = False,
    ) -> Recorder: ...
    # fmt: on
    def resume(self, calls: list[str] | None = None) -> None:
        """Note that the run continues an earlier attempt, whose calls without a result its agent may repeat."""
    def accept(self, event: bytes) -> int:
        """Record an event; return 0 to continue, 1 to start a commit, 2 to wait for one.

        3: nothing is recorded yet; look up `wanted`, pass the answer to `learn`, and accept the event again. A commit
        is started only if none is under way. Raises `InvalidEvent` and `InvalidEventSequence`; nothing of the event is
        then recorded. Another thread may call it, and other Python threads run meanwhile.
        """
    def accept_briefly(self, event: bytes) -> int:
        """Record an event as `accept` does, or return 4 if that takes more than a few milliseconds.

        Nothing of the event is then recorded, and `accept` records it.
        """
    @property
    def wanted(self) -> list[str]:
        """Ids and marks that must be looked up in the thread's stored runs before the last event is recorded."""
    def learn(self, known: set[str]) -> None:
        """Take the answer: those of `wanted` that the thread has."""
    def prepare_end(self) -> None:
        """Make `wanted` what `finalize` needs."""
    def newest_call(self, id: str, owner: str | None = None, skip: int = 0) -> str:
        """Return the id that clients see of the call after `skip` others without a result, or else of the newest."""
    def finalize(self, *, stop_requested: bool = False, message: str | None = None, code: str | None = None) -> None:
        """End the run in order, unless it has ended."""
    def drop_content(self, message: str, code: str) -> None:
        """Reduce the compacted events to `RUN_STARTED` and a `RUN_ERROR`; sequence numbers stay."""
    def take(self) -> tuple[Batch, bool] | None:
        """Take the pending frames for a commit, and whether a barrier is among them.

        `None` if nothing is pending or a commit is under way.
        """
    def publish(self) -> None:
        """Show readers the batch that was taken, which is durable now."""
    def replay(self, frames: Frames) -> None:
        """Record frames that are durable already; raise `StoreCorrupt` for a gap or damage."""
    def read(self, after: int, limit: int) -> tuple[Frames | None, int | None]:
        """Return published frames after a sequence number, and the last one's number.

        `(None, after)` if no frame is new, `(None, None)` if the next frame must be read from the store.
        """
    def prefix(self, skip: int) -> tuple[Frames, int]:
        """Return the run so far as compacted frames from `skip` on, and the number they go up to."""
    def compacted(self) -> bytes:
        """Return the compacted events as a JSON array, without holding the GIL."""
    @property
    def message_ids(self) -> list[str]:
        """The entries the run adds to its thread: the ids of its messages, and marks."""
    def continue_from(self, previous: int | None, entries: Sequence[str]) -> None:
        """Continue the thread's messages: the hash of the last one, and entries of earlier ones to add."""
    def start_from(self, events: Sequence[str]) -> None:
        """Record these events behind the run's start: the messages, and the state, that it starts from."""
    @property
    def compacted_bytes(self) -> int:
        """The approximate size of the compacted events in bytes, never too small."""
    @property
    def recorded(self) -> int:
        """The number of events recorded."""
    @property
    def last_seq(self) -> int:
        """The sequence number of the last event recorded."""
    @property
    def published(self) -> int:
        """The sequence number of the newest event readers may see."""
    @property
    def ended(self) -> bool:
        """Whether a terminal event is recorded."""
    @property
    def failed(self) -> bool:
        """Whether the terminal event is a `RUN_ERROR`."""

@final
class Claim:
    """The right to write a thread's run, for as long as its fencing token is the thread's."""

    def __new__(
        cls,
        thread_id: str,
        run_id: str,
        token: int,
        first_seq: int,
        input: str,
        agent_id: str | None = None,
        incarnation: int = 0,
    ) -> Claim: ...
    @property
    def thread_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def token(self) -> int: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def input(self) -> str: ...
    @property
    def agent_id(self) -> str | None: ...
    @property
    def incarnation(self) -> int:
        """The number of this life of the thread; 0 if its store does not number them."""

@final
class Owner:
    """The owner of leases: one open store of a process, host and boot (`str(owner)`).

    It is alive until it is garbage-collected.
    """

    def __new__(cls) -> Owner: ...
    def hold(self, token: int) -> None:
        """Note that the owner uses the lease with this token."""
    def release(self, token: int) -> None:
        """Note that the owner no longer uses the lease with this token."""
    @staticmethod
    def liveness(owner: str) -> Literal["gone", "here", "running", "unknown"]:
        """Return what is known about an owner.

        `here`: it is an open store of this process. `running`: its process runs on this machine. `unknown`: only its
        lease can tell, for example because its process is stopped.
        """
    @staticmethod
    def held_tokens(owner: str) -> list[int]:
        """Return the tokens of the leases that an owner of this process uses."""
    @staticmethod
    def is_gone(owner: str) -> bool:
        """Return whether an owner is known to be gone; false if only its lease can tell."""

@final
class SqliteStore:
    """One SQLite file; a method takes a ticket, and `completions()` returns its result."""

    def __new__(
        cls, path: str | PathLike[str], *, strict: bool, lease_ms: int, resume_ms: int, free_stuck: bool,
        read_only: bool) -> SqliteStore: ...  # fmt: skip
    def fileno(self) -> int:
        """Return the descriptor that is readable when there are completions."""
    def completions(self) -> list[tuple[int, Any, BaseException | None]]:
        """Return the ticket, the value and the error of each call that has completed."""
    @property
    def missing_log(self) -> int | None: ...
    def close(self) -> None:
        """Wait for the queued calls, then close the file."""
    def release(self, token: int) -> None:
        """Stop extending the lease with this token."""
    # fmt: off
    def claim(
        self, ticket: int, thread_id: str, run_id: str, input: str, agent_id: str | None, message_ids: Sequence[str],
        scope: str | None,
    ) -> None: ...
    # fmt: on
    def known_ids(self, ticket: int, thread_id: str, ids: Sequence[str], guard: _Guard) -> None: ...
    def append(self, ticket: int, claim: Claim, batch: Batch, barrier: bool) -> None: ...
    def renew(self, ticket: int, claims: Sequence[Claim]) -> None: ...
    def finish(self, ticket: int, claim: Claim, recorder: Recorder, stored: bool) -> None: ...
    def request_stop(self, ticket: int, thread_id: str, run_id: str | None, guard: _Guard) -> None: ...
    def live(self, ticket: int, thread_id: str | None) -> None: ...
    def stops(self, ticket: int) -> None: ...
    def recover(self, ticket: int, thread_id: str | None) -> None: ...
    def journal(
        self, ticket: int, thread_id: str, after: int, until: int | None, limit: int, guard: _Guard
    ) -> None: ...
    def history(
        self, ticket: int, thread_id: str, after: _Cursor, until: int | None, limit: int, guard: _Guard
    ) -> None: ...
    def locate(self, ticket: int, thread_id: str, after: _Cursor, guard: _Guard) -> None: ...
    # fmt: off
    def threads(
        self, ticket: int, limit: int, before: tuple[int, str] | None, include_archived: bool, agent_id: str | None,
        any_scope: bool, scope: str | None,
    ) -> None: ...
    # fmt: on
    def thread(self, ticket: int, thread_id: str, guard: _Guard) -> None: ...
    def rename(self, ticket: int, thread_id: str, name: str | None, guard: _Guard) -> None: ...
    def archive(self, ticket: int, thread_id: str, archived: bool, guard: _Guard) -> None: ...
    def delete(self, ticket: int, thread_id: str, guard: _Guard) -> None: ...
    def move_thread(self, ticket: int, thread_id: str, scope: str | None, guard: _Guard) -> None: ...
    def clear(self, ticket: int, any_scope: bool, scope: str | None) -> None: ...
    def runs(self, ticket: int, thread_id: str, after: int, limit: int, guard: _Guard) -> None: ...
    def put(self, ticket: int, thread: tuple[Any, ...], runs: Sequence[tuple[Any, ...]]) -> None: ...
    def prune(self, ticket: int, max_runs: int | None, before: int | None, limit: int) -> None: ...
    def record(self, ticket: int, kind: str, key: str) -> None: ...
    def records(
        self, ticket: int, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> None: ...
    def write(self, ticket: int, changes: Sequence[tuple[Any, ...]], claim: Claim | None) -> None: ...
    def inspect(self, ticket: int, fix: bool) -> None: ...

def compact(events: Iterable[Any]) -> list[Event]:
    """Return the compacted events."""

def conform(event: bytes) -> bytes:
    """Return an event as a recorder keeps it: of the schema of AG-UI 1.0, and without line breaks.

    Raises `InvalidEvent` if it does not fit the schema and has no obvious meaning.
    """

def expand(events: Iterable[Any]) -> list[Event]:
    """Return the events with each `*_CHUNK` event expanded."""

def vacuum_sqlite(path: str) -> tuple[int, int]:
    """Rewrite a SQLite file without its free pages; return its size before and after, in bytes."""

def verify(events: Iterable[Any]) -> None:
    """Raise `InvalidEventSequence` for the first event that is not in order."""

def finalize(events: Iterable[Any], stop_requested: bool, interruption_message: str | None) -> list[Event]:
    """Return the events that end the run in order; none if it has ended."""

def fold(events: Iterable[Any]) -> tuple[bytes, bytes]:
    """Return the messages and the state a client ends with, as JSON."""

def agents_call_id(id: str) -> str:
    """Return the id that an agent has given a call, of the id that clients see."""

def input_for_agent(input: str) -> str | None:
    """Return a run's input with the ids that its agent has used; `None` if it has no others."""

@final
class Superseded:
    """The snapshots of a thread's stored runs that a replay leaves out, because later ones replace them."""

    ENTRY: str
    """The entry of a thread with snapshots in its table of message ids."""
    def __new__(cls) -> Superseded: ...
    def push(self, frames: Frames) -> None:
        """Push the next frames of the stored runs."""
    def finish(self) -> bool:
        """Return whether there is anything to leave out; nothing may be pushed after it."""
    def leave_out(self, frames: Frames) -> Frames:
        """Return stored frames without what is superseded."""

def back_up_sqlite(path: str, target: str, *, overwrite: bool, report: Callable[[int, int], bool]) -> _Backup:
    """Copy a SQLite file; `report` gets the bytes written and expected, and returns whether to go on."""

def check_input(input: bytes, id_bytes: int) -> tuple[str, str, str, list[str], list[str]]:
    """Return a run's input minified, its thread id, run id and message ids, and the entries it is compared by.

    Raises `InvalidInput` for an input that is refused.
    """

def entries_of_input(input: str) -> list[str]:
    """Return the entries by which the messages of a run's input are compared later."""

def compare_messages(input: str, known: Mapping[str, int]) -> tuple[Literal["new", "same", "different"], int | None]:
    """Compare the messages of a run's input with its thread's; `known` are the entries that the thread has.

    Returns "new" if the thread has none of them, "same" and a hash of the thread's last message if they are its newest
    ones as they are, else "different". Only "different" may be wrong.
    """

def count_values(json: bytes, max_depth: int) -> int:
    """Return at least as many as a JSON parser builds values from the text, keys included.

    The parser stops at values that are nested deeper than `max_depth`.
    """

def find_ids(frames: Sequence[Frames], ids: Set[str]) -> set[str]:
    """Return those of `ids` that are a string somewhere in the frames."""

def parse_cursor(text: str) -> _Cursor:
    """Return a cursor's two numbers; raise `InvalidCursor` for any other text."""

def recompact(frames: Sequence[Frames], seq: int, skip: int) -> Frames:
    """Compute again the compacted frames of a run up to a sequence number."""

def run_frames(events: bytes, seq: int, skip: int) -> Frames:
    """Return a stored run's events as frames.

    Raises `InvalidEvent` or `StoreCorrupt` for events that cannot be read.
    """

def run_message_ids(events: bytes) -> list[str]:
    """Return the message ids a stored run's events add; none if they cannot be read."""

def snapshot(frames: Sequence[Frames]) -> tuple[bytes, list[bytes], bytes, bytes | None, list[bytes]] | None:
    """Return the snapshot of a thread for a reader who may hold a part of it.

    `frames` are those of all runs in order. The parts are returned in the order in which they are sent:

    - the last run's RUN_STARTED without its input; a thread without one gets one, with the ids of its RUN_FINISHED or
      empty ones;
    - events that sweep away what the reader holds; none unless messages were ever moved or dropped;
    - the thread's messages, a JSON array, for a MESSAGES_SNAPSHOT;
    - its state for a STATE_SNAPSHOT; `None` if no event set or changed it;
    - the run's end as recorded, or the events that open again what is open. After these the rest of a live run follows.

    Returns `None` if there are no events. Raises `StoreCorrupt`, `InvalidEvent` or `InvalidEventSequence` for frames
    that cannot be read.
    """
