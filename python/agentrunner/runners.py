"""The runner on each store: in memory, on one SQLite file, on PostgreSQL, on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentrunner.runner import AgentRunner
from agentrunner.stores.memory import MIB, MemoryStore
from agentrunner.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    import os

    from agentrunner.stores import Store
    from agentrunner.types import OnConcurrentRun, Retention


class SqliteAgentRunner(AgentRunner):
    """An `AgentRunner` on one SQLite file; the options are those of `SqliteStore` and `AgentRunner`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["balanced", "strict"] = "balanced",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        on_concurrent_run: OnConcurrentRun = "reject",
        retention: Retention | None = None,
        **limits: int,
    ) -> None:
        store = SqliteStore(path, durability=durability, lease_ttl=lease_ttl, resume_window=resume_window)
        super().__init__(store, on_concurrent_run=on_concurrent_run, retention=retention, **limits)
        self.path = store.path

    def __repr__(self) -> str:
        return f"SqliteAgentRunner({self.path!r})"


class InMemoryAgentRunner(AgentRunner):
    """An `AgentRunner` that keeps threads in memory; the options are those of `MemoryStore` and `AgentRunner`."""

    def __init__(
        self,
        *,
        max_threads: int = 1000,
        max_runs_per_thread: int = 100,
        max_bytes: int = 512 * MIB,
        resume_window: float = 300.0,
        on_concurrent_run: OnConcurrentRun = "reject",
        retention: Retention | None = None,
        **limits: int,
    ) -> None:
        store = MemoryStore(
            max_threads=max_threads,
            max_runs_per_thread=max_runs_per_thread,
            max_bytes=max_bytes,
            resume_window=resume_window,
        )
        super().__init__(store, on_concurrent_run=on_concurrent_run, retention=retention, **limits)


class PostgresAgentRunner(AgentRunner):
    """An `AgentRunner` on PostgreSQL; the options are those of `PostgresStore` and `AgentRunner`.

    Raises `ImportError`, saying how to install it, where psycopg is missing.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "agentrunner",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        pool_size: int = 8,
        on_concurrent_run: OnConcurrentRun = "reject",
        retention: Retention | None = None,
        **limits: int,
    ) -> None:
        from agentrunner.stores.postgres import PostgresStore

        store = PostgresStore(
            dsn, schema=schema, lease_ttl=lease_ttl, resume_window=resume_window, pool_size=pool_size
        )  # fmt: skip
        super().__init__(store, on_concurrent_run=on_concurrent_run, retention=retention, **limits)
        self.schema = schema

    def __repr__(self) -> str:
        # Not the address: it may hold a password.
        return f"PostgresAgentRunner(schema={self.schema!r})"


class RedisAgentRunner(AgentRunner):
    """An `AgentRunner` on Redis; the options are those of `RedisStore` and `AgentRunner`.

    Raises `ImportError`, saying how to install it, where redis-py is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{agentrunner}",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        history: Store | None = None,
        on_concurrent_run: OnConcurrentRun = "reject",
        retention: Retention | None = None,
        **limits: int,
    ) -> None:
        from agentrunner.stores.redis import RedisStore

        store = RedisStore(
            url, prefix=prefix, lease_ttl=lease_ttl, resume_window=resume_window, history=history
        )  # fmt: skip
        super().__init__(store, on_concurrent_run=on_concurrent_run, retention=retention, **limits)
        self.prefix = prefix

    def __repr__(self) -> str:
        # Not the address: it may hold a password.
        return f"RedisAgentRunner(prefix={self.prefix!r})"
