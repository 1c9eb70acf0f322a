"""The store on one schema of a PostgreSQL database."""

from __future__ import annotations

from agentrunner._core import Owner
from agentrunner.stores._group_commit import GroupCommit
from agentrunner.stores.postgres.client import PostgresClient
from agentrunner.stores.postgres.inspection import PostgresInspection
from agentrunner.stores.postgres.listener import PostgresListener
from agentrunner.stores.postgres.records import PostgresRecords
from agentrunner.stores.postgres.runs import PostgresRuns
from agentrunner.stores.postgres.threads import PostgresThreads

POOL_SIZE = 8


class PostgresStore(PostgresRuns, PostgresThreads, PostgresRecords, PostgresInspection):
    """Threads in one schema of a PostgreSQL database (13 or newer, in UTF-8), for processes on any number of machines.

    `dsn`: an address (`postgresql://user@host/database`) or libpq's `key=value` words; what it leaves out libpq takes
    from the environment. `schema`: made when first opened, if it is not there; letters, digits, `_`, `-`. `lease_ttl`:
    seconds, by the server's clock, that a silent owner keeps its threads; a server that is away for up to 2/3 of that
    is waited for. `resume_window`: seconds a finished run's raw events are kept for readers that resume. `pool_size`:
    connections at most, beside one that listens while a run of another process is followed, and two for what is larger
    than 1 MiB.

    How durable a commit is, the server's `synchronous_commit` says: `on`, the default, keeps what was shown through a
    power cut; with synchronous standbys also through the loss of the server. Works behind PgBouncer, also with
    transaction pooling: then a followed run is looked at every 50 ms, where notifications else tell of it.

    Ids, names and scopes with a NUL or a lone surrogate, which PostgreSQL has no text for, raise `InvalidInput` when
    written; no such thread is ever found. Ids of messages may have any character.

    Raises, when made, `ValueError` for what is no address or schema; when opened, `StoreTooNew`, `StoreReadOnly`,
    `StoreError`.
    """

    shared = True

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "agentrunner",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        pool_size: int = POOL_SIZE,
    ) -> None:
        if pool_size < 2:
            raise ValueError(f"pool_size must be at least 2, not {pool_size!r}")
        self.schema = schema
        self.lease_ttl = lease_ttl
        self._resume_window = resume_window
        self._client = PostgresClient(dsn, schema, patience=lease_ttl * 2 / 3, size=pool_size)
        self._listener = PostgresListener(self._client)
        self._appends = GroupCommit(self._append)
        self._owner: Owner | None = None

    async def open(self) -> None:
        """Connect, making the schema if it is not there and bringing it up to date."""
        await self._client.open()
        self._owner = self._owner or Owner()

    async def has_schema(self) -> bool:
        """Return whether the schema exists, without making it. The store need not be open. Raises `StoreError`."""
        return await self._client.has_schema()

    async def aclose(self) -> None:
        """Commit what is queued and let go of the connections."""
        if self._client.forked:
            # They are the parent's, and so is the loop all that waits belongs to.
            return
        await self._appends.wait_until_idle()
        await self._listener.aclose()
        await self._client.aclose()
        # From here on its leases are a dead owner's.
        self._owner = None

    async def changed(self, thread_id: str, after: int) -> None:
        await self._listener.changed(thread_id, after)
