"""The native core: one file's worth of verbs over bytes, strings, integers and opaque handles."""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, TypeAlias, final

from pydantic import BaseModel

__all__ = [
    "SQLITE_VERSION",
    "Batch",
    "Claim",
    "Event",
    "Frames",
    "Owner",
    "Recorder",
    "SqliteStore",
    "__version__",
    "check_input",
    "compact",
    "expand",
    "finalize",
    "fold",
    "parse_cursor",
    "recompact",
    "run_frames",
    "run_message_ids",
    "snapshot",
    "verify",
]

__version__: str
SQLITE_VERSION: str

_Cursor: TypeAlias = tuple[int, int | None]

@final
class Event:
    """One AG-UI event: its JSON (`bytes(event)`, exactly as recorded) and its place in its thread."""

    @property
    def type(self) -> str:
        """The kind, as the wire names it; any string."""
    @property
    def seq(self) -> int | None:
        """Its number in the thread; of a compacted event the one its form goes up to; `None` outside a thread."""
    @property
    def cursor(self) -> str | None:
        """What `connect(after=)` takes to go on behind this event; `None` outside a thread."""
    def __bytes__(self) -> bytes: ...
    def __hash__(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """Give the event as a dict of the wire's field names."""
    def model(self) -> BaseModel:
        """Give the event as its `ag_ui.core` model. Raises `pydantic.ValidationError` for an unknown kind."""

@final
class Frames:
    """SSE frames, `id: <cursor>`, `data: <event>`; `bytes(frames)` is made once for all readers."""

    def __new__(cls, data: bytes) -> Frames: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def for_legacy_clients(self) -> bytes:
        """Return the frames as `@ag-ui/client` 0.0.59 can read them; computed once.

        This is `bytes(frames)` itself where that client can read every frame.
        """
    def page(self, offset: int, limit: int) -> tuple[Frames, int]:
        """Return about `limit` bytes of frames from `offset` on, and the next page's offset."""
    def events(self) -> list[Event]:
        """Give the frames' events; the same list each time."""

@final
class Batch:
    """Raw frames to be made durable together; `bytes(batch)` are the frames."""

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
        """Give the frames behind a sequence number, about `limit` bytes."""

@final
class Recorder:
    """One run being recorded: expanded, verified, its input filled and stripped, compacted, framed."""

    def __new__(
        cls,
        thread_id: str,
        run_id: str,
        input: str,
        known: set[str],
        first_seq: int,
        *,
        event_bytes: int,
        id_bytes: int,
        window_bytes: int,
        pending_bytes: int,
    ) -> Recorder: ...
    def accept(self, event: bytes) -> int:
        """Take in an event. 0: go on; 1: start a commit if none is under way; 2: wait for it.

        Raises `InvalidEvent`, `InvalidEventSequence`; nothing of the event is then recorded.
        """
    def finalize(self, *, stop_requested: bool = False, message: str | None = None, code: str | None = None) -> None:
        """End the run in order, if it has no end yet."""
    def take(self) -> tuple[Batch, bool] | None:
        """Take what waits to be committed, and whether a barrier is in it; `None` while a commit is under way."""
    def publish(self) -> None:
        """Let readers see the batch taken: it is durable."""
    def replay(self, frames: Frames) -> None:
        """Take in frames that are durable already. Raises `StoreCorrupt` for a gap."""
    def read(self, after: int, limit: int) -> tuple[Frames | None, int | None]:
        """Give published frames behind a sequence number, and the last one's; `(None, None)`: they are in the store."""
    def prefix(self, skip: int) -> tuple[Frames, int]:
        """Give the run so far compacted, from a frame on, and the sequence number it goes up to."""
    def compacted(self) -> bytes:
        """Give the compacted events as a JSON array; other threads run meanwhile."""
    @property
    def message_ids(self) -> list[str]:
        """The message ids the run brought."""
    @property
    def recorded(self) -> int:
        """How many events are recorded."""
    @property
    def last_seq(self) -> int:
        """The sequence number of the last event recorded."""
    @property
    def published(self) -> int:
        """The sequence number of the newest event readers may see."""
    @property
    def ended(self) -> bool:
        """Whether the last event is terminal."""
    @property
    def failed(self) -> bool:
        """Whether it is a `RUN_ERROR`."""

@final
class Claim:
    """The right to write a thread's run, for as long as its fencing token is the thread's."""

    def __new__(
        cls, thread_id: str, run_id: str, token: int, first_seq: int, input: str, agent_id: str | None = None
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

@final
class Owner:
    """Who holds a lease: host, boot, process and one opened store in it (`str(owner)`); alive until let go of."""

    def __new__(cls) -> Owner: ...
    @staticmethod
    def is_gone(owner: str) -> bool:
        """Say whether an owner is known to be gone; false where only its lease's end can tell."""

@final
class SqliteStore:
    """One SQLite file. A verb takes a ticket and returns at once; `completions()` gives what came of it."""

    def __new__(
        cls, path: str | PathLike[str], *, strict: bool, lease_ms: int, resume_ms: int, free_stuck: bool
    ) -> SqliteStore: ...
    def fileno(self) -> int:
        """Give the descriptor that is readable when there are completions."""
    def completions(self) -> list[tuple[int, Any, BaseException | None]]:
        """Give ticket, value and error of each verb that has completed."""
    def close(self) -> None: ...
    def claim(
        self,
        ticket: int,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: Sequence[str],
        scope: str | None,
    ) -> None: ...
    def append(self, ticket: int, claim: Claim, batch: Batch, barrier: bool) -> None: ...
    def renew(self, ticket: int, claims: Sequence[Claim]) -> None: ...
    def finish(self, ticket: int, claim: Claim, recorder: Recorder, stored: bool) -> None: ...
    def request_stop(self, ticket: int, thread_id: str, run_id: str | None) -> None: ...
    def live(self, ticket: int, thread_id: str | None) -> None: ...
    def stops(self, ticket: int) -> None: ...
    def recover(self, ticket: int, thread_id: str | None) -> None: ...
    def journal(self, ticket: int, thread_id: str, after: int, until: int | None, limit: int) -> None: ...
    def history(self, ticket: int, thread_id: str, after: _Cursor, until: int | None, limit: int) -> None: ...
    def locate(self, ticket: int, thread_id: str, after: _Cursor) -> None: ...
    def threads(
        self,
        ticket: int,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        any_scope: bool,
        scope: str | None,
    ) -> None: ...
    def thread(self, ticket: int, thread_id: str) -> None: ...
    def rename(self, ticket: int, thread_id: str, name: str | None) -> None: ...
    def archive(self, ticket: int, thread_id: str, archived: bool) -> None: ...
    def delete(self, ticket: int, thread_id: str) -> None: ...
    def clear(self, ticket: int, any_scope: bool, scope: str | None) -> None: ...
    def runs(self, ticket: int, thread_id: str, after: int, limit: int) -> None: ...
    def put(self, ticket: int, thread: tuple[Any, ...], runs: Sequence[tuple[Any, ...]]) -> None: ...
    def prune(self, ticket: int, max_runs: int | None, before: int | None, limit: int) -> None: ...
    def record(self, ticket: int, kind: str, key: str) -> None: ...
    def records(
        self, ticket: int, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> None: ...
    def write(self, ticket: int, changes: Sequence[tuple[Any, ...]], claim: Claim | None) -> None: ...
    def inspect(self, ticket: int, fix: bool) -> None: ...

def compact(events: Iterable[Any]) -> list[Event]: ...
def expand(events: Iterable[Any]) -> list[Event]: ...
def verify(events: Iterable[Any]) -> None: ...
def finalize(events: Iterable[Any], stop_requested: bool, interruption_message: str | None) -> list[Event]: ...
def fold(events: Iterable[Any]) -> tuple[bytes, bytes]:
    """Give the messages and the state as JSON."""

def check_input(input: bytes, id_bytes: int) -> tuple[str, str, str, list[str]]:
    """Give a run's input minified, its thread id, run id and message ids. Raises `InvalidInput`."""

def parse_cursor(text: str) -> _Cursor:
    """Raise `InvalidCursor` for what is none."""

def recompact(frames: Sequence[Frames], seq: int, skip: int) -> Frames:
    """Give a run's form compacted up to a sequence number, made again from its raw frames."""

def run_frames(events: bytes, seq: int, skip: int) -> Frames:
    """Give a stored run's events as frames. Raises `InvalidEvent` for what cannot be read."""

def run_message_ids(events: bytes) -> list[str]:
    """Give the message ids a stored run's events add to its thread; none for what cannot be read."""

def snapshot(frames: Sequence[Frames]) -> tuple[bytes, list[bytes], bytes, bytes | None, list[bytes]] | None:
    """Give a thread, all its runs in order, as a reader takes it over who may hold some of it; `None`: no events.

    In the order in which it is sent: the last run's RUN_STARTED without its input (a thread without any gets one, with
    the ids of its RUN_FINISHED or empty ones); events, none unless messages were ever moved or dropped, that sweep away
    what is held; the thread's messages, a JSON array, for a MESSAGES_SNAPSHOT; its state for a STATE_SNAPSHOT, `None`
    where no event set or changed it; the run's end as recorded, or what opens again what is open. Behind these the
    rest of a live run goes on as it comes.

    Raises `StoreCorrupt`, `InvalidEvent`, `InvalidEventSequence` for what cannot be read.
    """
