"""The store in one schema of a PostgreSQL database."""

from __future__ import annotations

from agentrunner._checks import check_integer, check_lease_ttl, check_option_type, check_seconds
from agentrunner._core import Owner
from agentrunner.stores._group_commit import GroupCommit
from agentrunner.stores._held_leases import HeldLeases
from agentrunner.stores._read_only import refuse_writes
from agentrunner.stores.postgres.client import PostgresClient
from agentrunner.stores.postgres.inspection import PostgresInspection
from agentrunner.stores.postgres.lease_connection import PostgresLeaseConnection
from agentrunner.stores.postgres.listener import PostgresListener
from agentrunner.stores.postgres.records import PostgresRecords
from agentrunner.stores.postgres.runs import EXTEND_LEASES, PostgresRuns
from agentrunner.stores.postgres.threads import PostgresThreads

POOL_SIZE = 8


class PostgresStore(PostgresRuns, PostgresThreads, PostgresRecords, PostgresInspection):
    """Threads in one schema of a PostgreSQL database, for processes on any number of machines.

    The server must be PostgreSQL 13 or newer, and the database in UTF-8. The store works behind PgBouncer, also with
    transaction pooling; it then polls the runs of other processes every 50 ms, because notifications do not arrive.

    The server's `synchronous_commit` decides how durable a commit is. With `on`, the default, everything that was shown
    survives a power cut; with synchronous standbys, also the loss of the server.

    The address may name several servers of which one is the primary, or a name or proxy that moves with it. A standby
    counts as unreachable until it is promoted, unless the address has `target_session_attrs`.

    PostgreSQL cannot store a NUL or a lone surrogate in a text. An id, name or scope that has one raises `InvalidInput`
    when it is written, and is never found. Message ids may have any character.

    Args:
        dsn: An address (`postgresql://user@host/database`) or libpq's `key=value` pairs. libpq takes what is missing
            from its environment variables.
        schema: The schema's name: letters, digits, `_` and `-`. It is created when the store is first opened.
        lease_ttl: Seconds, by the server's clock, without a sign of life after which an owner loses its threads. If
            the server is unreachable, the store retries for two thirds of this time.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        pool_size: The greatest number of pooled connections, at least 2. There are up to four more: one that listens
            while a run of another process is followed, two for values larger than 1 MiB, and one that extends leases
            while the event loop is blocked.
        read_only: Whether the store only reads a schema that exists and is up to date, in read-only transactions, so
            that a user without other rights and a standby server suffice. Its writing methods raise `StoreReadOnly`.

    Raises:
        ValueError: The address or an option is not valid.

    `open` raises `StoreTooNew`, `StoreReadOnly` or `StoreError`.

    Example::

        runner = AgentRunner(PostgresStore("postgresql://app@db/app", schema="agents"))
    """

    shared = True
    max_run_bytes = 512 << 20
    """Greatest size of a stored run in bytes. A value has less than 1 GiB, and the server copies it."""
    outlives_loop = False
    """Whether `open` works after the event loop has ended without `aclose()`; connections end with their loop."""

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "agentrunner",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        pool_size: int = POOL_SIZE,
        read_only: bool = False,
    ) -> None:
        check_integer("pool_size", pool_size, 2)
        check_lease_ttl(lease_ttl)
        check_seconds("resume_window", resume_window)
        check_option_type("schema", schema, str)
        check_option_type("read_only", read_only, bool)
        self.schema = schema
        self.lease_ttl = lease_ttl
        self._resume_window = resume_window
        self._client = PostgresClient(
            dsn, schema, retry_seconds=lease_ttl * 2 / 3, pool_size=pool_size, read_only=read_only
        )
        self._listener = PostgresListener(self._client)
        self._appends = GroupCommit(self._commit_appends)
        self._owner: Owner | None = None
        self._leases: HeldLeases | None = None
        self.read_only = read_only
        if read_only:
            refuse_writes(self)

    async def open(self) -> None:
        """Connect, creating the schema and bringing it up to date, unless it is only read."""
        await self._client.open()
        if self._owner is None:
            self._owner = Owner()
            self._leases = HeldLeases(self._owner, self.lease_ttl, self._connect_for_leases)

    def _connect_for_leases(self) -> PostgresLeaseConnection:
        return self._client.connect_for_leases(EXTEND_LEASES, self.lease_ttl)

    async def has_schema(self) -> bool:
        """Return whether the schema exists, without creating it.

        The store need not be open.

        Raises:
            StoreError: The server cannot be reached.
        """
        return await self._client.has_schema()

    async def aclose(self) -> None:
        """Commit what is queued, then close the connections."""
        if self._client.is_forked:
            # The connections and the event loop that waits for them are the parent's.
            return
        await self._appends.wait_until_idle()
        await self._listener.aclose()
        await self._client.aclose()
        leases, self._leases = self._leases, None
        if leases is not None:
            await leases.aclose()
        # From now on, other processes see this store's leases as those of an owner that is gone.
        self._owner = None

    async def changed(self, thread_id: str, after: int) -> None:
        await self._listener.wait_for_change(thread_id, after)
