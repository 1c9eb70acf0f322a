"""Run AG-UI agents: every event durable before it is delivered, replayed to late readers, compacted, crash-safe."""

from agentrunner._core import Event, __version__
from agentrunner.errors import *  # noqa: F403 - the whole exception tree
from agentrunner.events import Folded, compact, expand, finalize, fold, verify
from agentrunner.live import current as _current
from agentrunner.runner import AgentRunner, InMemoryAgentRunner, SqliteAgentRunner
from agentrunner.stores import Store
from agentrunner.stores.memory import MemoryStore
from agentrunner.stores.sqlite import SqliteStore
from agentrunner.stream import EventStream
from agentrunner.threads import Threads
from agentrunner.types import Run, ThreadSummary


def current_run() -> Run:
    """Give the run the calling code belongs to. Raises `LookupError` outside a run."""
    return _current.get()
