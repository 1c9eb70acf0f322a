"""The schema's tables and functions, and how they are brought up to date."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from agentrunner.errors import StoreError, StoreTooNew

if TYPE_CHECKING:
    from psycopg import AsyncConnection

PLACEHOLDER = '"agentrunner"'
"""What stands for the store's schema in every statement."""


def quoted(schema: str) -> str:
    """Give a schema's name as it stands in a statement. Raises `ValueError` for what is none of ours."""
    if not re.fullmatch(r"(?!pg_)[A-Za-z0-9_-]{1,63}", schema):
        raise ValueError(f"a schema's name is 1 to 63 letters, digits, '_' and '-', without 'pg_', not {schema!r}")
    return f'"{schema}"'


@cache
def migrations() -> list[str]:
    """Give the migrations in order: a schema's version is how many of them it has had."""
    files = resources.files(__package__).joinpath("migrations").iterdir()
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name) if file.name.endswith(".sql")]


async def migrate(connection: AsyncConnection, schema: str) -> None:
    """Bring a schema up to date, making it if it is not there.

    Raises `StoreTooNew`; `StoreError` for a database that is not in UTF-8, or whose transactions look but once.
    """
    cursor = await connection.execute("SHOW default_transaction_isolation")
    if (level := await cursor.fetchone()) != ("read committed",):
        # A verb locks first and looks then: it must see what was done while it waited.
        raise StoreError(f"default_transaction_isolation is {level and level[0]}; it has to be 'read committed'")
    if await _version(connection, schema) == len(migrations()):
        return
    async with connection.transaction():
        # Others that open it now wait here; what serves already is not waited for long, nor made to wait.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('agentrunner'), hashtext(%s))", [schema])
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        version = await _version(connection, schema)
        if version == 0:
            await _make(connection, schema)
        for migration in migrations()[version:]:
            await connection.execute(_of(migration, schema))
        await connection.execute(
            _of('UPDATE "agentrunner".schema_version SET version = %s', schema), [len(migrations())]
        )


async def _version(connection: AsyncConnection, schema: str) -> int:
    """Give how many migrations the schema has had; 0 where there is none."""
    # Not by `to_regclass`: it remembers that there was none, also past the wait for another who has made it since.
    cursor = await connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = %s AND relname = 'schema_version'",
        [schema],
    )
    if await cursor.fetchone() is None:
        return 0
    cursor = await connection.execute(_of('SELECT max(version) FROM "agentrunner".schema_version', schema))
    version: int = (await cursor.fetchone() or (0,))[0]
    if version > len(migrations()):
        raise StoreTooNew(
            f"schema '{schema}' has version {version}, this version knows {len(migrations())}; update agentrunner"
        )
    return version


async def _make(connection: AsyncConnection, schema: str) -> None:
    cursor = await connection.execute("SHOW server_encoding")
    if (encoding := await cursor.fetchone()) != ("UTF8",):
        raise StoreError(f"the database is in {encoding and encoding[0]}; make one with ENCODING 'UTF8'")
    # Not IF NOT EXISTS: in a schema made for us we need not have the right to make one.
    cursor = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
    if await cursor.fetchone() is None:
        await connection.execute(_of('CREATE SCHEMA "agentrunner"', schema))
    await connection.execute(_of('CREATE TABLE "agentrunner".schema_version (version INTEGER NOT NULL)', schema))
    await connection.execute(_of('INSERT INTO "agentrunner".schema_version VALUES (0)', schema))


def _of(statement: str, schema: str) -> bytes:
    return statement.replace(PLACEHOLDER, quoted(schema)).encode()
