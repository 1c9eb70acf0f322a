"""One runner class for each store: memory, SQLite, PostgreSQL and Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentrunner.runner import AgentRunner
from agentrunner.stores.memory import MemoryStore
from agentrunner.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    import os
    from typing import Unpack

    from agentrunner.stores import Store
    from agentrunner.types import RunnerOptions

MIB = 1 << 20


class SqliteAgentRunner(AgentRunner):
    """An `AgentRunner` on one SQLite file, which the processes of one machine may share.

    Args:
        path: The file; it is created if it does not exist.
        durability: What a power cut may lose. If only the process dies, nothing is lost in either case. `balanced`: the
            last 250 ms of a live run. `strict`: nothing, because every batch waits for the disk.
        lease_ttl: Seconds after which the runs of a silent process are taken over.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        **options: Options of `AgentRunner`, such as `on_concurrent_run` and `retention`.

    Raises:
        ValueError: An option is not valid, or the path is `:memory:`.

    Example::

        async with SqliteAgentRunner("threads.db") as runner:
            print(await runner.threads.list())

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["balanced", "strict"] = "balanced",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        **options: Unpack[RunnerOptions],
    ) -> None:
        store = SqliteStore(path, durability=durability, lease_ttl=lease_ttl, resume_window=resume_window)
        super().__init__(store, **options)
        self.path = store.path

    def __repr__(self) -> str:
        return f"SqliteAgentRunner({self.path!r})"


class InMemoryAgentRunner(AgentRunner):
    """An `AgentRunner` that keeps threads in this process's memory, up to a limit.

    Args:
        max_threads: Greatest number of threads; the least recently used one is dropped first.
        max_runs_per_thread: Greatest number of stored runs in one thread; its oldest run is dropped first.
        max_bytes: Greatest total size of all compacted events in bytes.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        **options: Options of `AgentRunner`, such as `on_concurrent_run` and `retention`.

    Raises:
        ValueError: An option is not valid.

    Example::

        async with InMemoryAgentRunner(max_threads=100) as runner:
            print(await runner.threads.list())

    """

    def __init__(
        self,
        *,
        max_threads: int = 1000,
        max_runs_per_thread: int = 100,
        max_bytes: int = 512 * MIB,
        resume_window: float = 300.0,
        **options: Unpack[RunnerOptions],
    ) -> None:
        store = MemoryStore(
            max_threads=max_threads,
            max_runs_per_thread=max_runs_per_thread,
            max_bytes=max_bytes,
            resume_window=resume_window,
        )
        super().__init__(store, **options)


class PostgresAgentRunner(AgentRunner):
    """An `AgentRunner` on PostgreSQL, which processes on many machines may share.

    Args:
        dsn: The database's address: `postgresql://…`, or libpq's `key=value` pairs.
        schema: The database schema of the tables; it is created if it does not exist.
        lease_ttl: Seconds after which the runs of a silent process are taken over.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        pool_size: Greatest number of pooled connections, at least 2.
        **options: Options of `AgentRunner`, such as `on_concurrent_run` and `retention`.

    Raises:
        ImportError: psycopg is not installed; the message has the command that installs it.
        ValueError: An option is not valid.

    Example::

        async with PostgresAgentRunner("postgresql://app@db/app", schema="agents") as runner:
            print(await runner.threads.list())

    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "agentrunner",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        pool_size: int = 8,
        **options: Unpack[RunnerOptions],
    ) -> None:
        from agentrunner.stores.postgres import PostgresStore

        store = PostgresStore(
            dsn, schema=schema, lease_ttl=lease_ttl, resume_window=resume_window, pool_size=pool_size
        )  # fmt: skip
        super().__init__(store, **options)
        self.schema = schema

    def __repr__(self) -> str:
        # The address is left out, because it may contain a password.
        return f"PostgresAgentRunner(schema={self.schema!r})"


class RedisAgentRunner(AgentRunner):
    """An `AgentRunner` on Redis, which processes on many machines may share.

    Args:
        url: The server's address, `redis://…` or `rediss://…`.
        prefix: The beginning of every key, so that several applications can share one Redis.
        lease_ttl: Seconds after which the runs of a silent process are taken over.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        history: A store for finished runs, PostgreSQL for example; `None` keeps them in Redis too.
        **options: Options of `AgentRunner`, such as `on_concurrent_run` and `retention`.

    Raises:
        ImportError: redis-py is not installed; the message has the command that installs it.
        ValueError: An option is not valid.

    Example::

        async with RedisAgentRunner("redis://localhost:6379/0") as runner:
            print(await runner.threads.list())

    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{agentrunner}",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        history: Store | None = None,
        **options: Unpack[RunnerOptions],
    ) -> None:
        from agentrunner.stores.redis import RedisStore

        store = RedisStore(
            url, prefix=prefix, lease_ttl=lease_ttl, resume_window=resume_window, history=history
        )  # fmt: skip
        super().__init__(store, **options)
        self.prefix = prefix

    def __repr__(self) -> str:
        # The address is left out, because it may contain a password.
        return f"RedisAgentRunner(prefix={self.prefix!r})"
