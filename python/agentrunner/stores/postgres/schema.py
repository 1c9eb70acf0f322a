"""Create the schema's tables and functions, and bring an older schema up to date."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from agentrunner.errors import StoreError, StoreTooNew

if TYPE_CHECKING:
    from psycopg import AsyncConnection

PLACEHOLDER = '"agentrunner"'
"""Name that stands for the store's schema in every statement."""


def quote_schema(schema: str) -> str:
    """Return a schema's name, quoted for a statement. Raises `ValueError`."""
    if not re.fullmatch(r"(?!pg_)[A-Za-z0-9_-]{1,63}", schema):
        raise ValueError(
            "a schema's name must be 1 to 63 letters, digits, '_' or '-', and not begin with 'pg_'; "
            f"{schema!r} is not such a name"
        )
    return f'"{schema}"'


@cache
def migrations() -> list[str]:
    """Return the migrations' SQL, in order of their numbers.

    A schema's version is the number of migrations applied to it, so a migration that has been released must stay in
    its place and keep its effect.
    """
    files = resources.files(__package__).joinpath("migrations").iterdir()
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name) if file.name.endswith(".sql")]


async def migrate(connection: AsyncConnection, schema: str) -> None:
    """Bring a schema up to date, creating it if it does not exist.

    Raises `StoreTooNew`, and `StoreError` for a database that is not in UTF-8 or has another isolation level than
    `read committed`.
    """
    cursor = await connection.execute("SHOW default_transaction_isolation")
    if (level := await cursor.fetchone()) != ("read committed",):
        # The functions lock a row and then read: they must see what was committed while they waited for the lock.
        raise StoreError(f"default_transaction_isolation is {level and level[0]}; it must be 'read committed'")
    if await _read_version(connection, schema) == len(migrations()):
        return
    async with connection.transaction():
        # Other processes that open the store wait here. Processes that already serve must not have to wait long for
        # this one's locks, so it gives up early and is tried again.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('agentrunner'), hashtext(%s))", [schema])
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        version = await _read_version(connection, schema)
        if version == 0:
            await _create(connection, schema)
        for migration in migrations()[version:]:
            await connection.execute(_render(migration, schema))
        await connection.execute(
            _render('UPDATE "agentrunner".schema_version SET version = %s', schema), [len(migrations())]
        )


async def check_version(connection: AsyncConnection, schema: str) -> None:
    """Raise `StoreError` unless a schema exists and is up to date; change nothing."""
    version = await _read_version(connection, schema)
    if version == 0:
        raise StoreError(f"there is no agentrunner schema '{schema}'")
    if version < len(migrations()):
        raise StoreError(
            f"schema '{schema}' has version {version}, and this version of agentrunner reads version "
            f"{len(migrations())}; open it once with a runner of this version, which brings it up to date"
        )


async def _read_version(connection: AsyncConnection, schema: str) -> int:
    """Return how many migrations the schema has; 0 if it does not exist."""
    # `to_regclass` caches a negative answer, even across the wait for another process that creates the schema.
    cursor = await connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = %s AND relname = 'schema_version'",
        [schema],
    )
    if await cursor.fetchone() is None:
        return 0
    cursor = await connection.execute(_render('SELECT max(version) FROM "agentrunner".schema_version', schema))
    version: int = (await cursor.fetchone() or (0,))[0]
    if version > len(migrations()):
        raise StoreTooNew(
            f"schema '{schema}' has version {version}, but this version of agentrunner knows only versions up to "
            f"{len(migrations())}; update agentrunner"
        )
    return version


async def _create(connection: AsyncConnection, schema: str) -> None:
    cursor = await connection.execute("SHOW server_encoding")
    if (encoding := await cursor.fetchone()) != ("UTF8",):
        raise StoreError(f"the database is in {encoding and encoding[0]}; create one with ENCODING 'UTF8'")
    # IF NOT EXISTS would need the right to create a schema, even where an administrator has created this one for us.
    cursor = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
    if await cursor.fetchone() is None:
        await connection.execute(_render('CREATE SCHEMA "agentrunner"', schema))
    await connection.execute(_render('CREATE TABLE "agentrunner".schema_version (version INTEGER NOT NULL)', schema))
    await connection.execute(_render('INSERT INTO "agentrunner".schema_version VALUES (0)', schema))


def _render(statement: str, schema: str) -> bytes:
    return statement.replace(PLACEHOLDER, quote_schema(schema)).encode()
