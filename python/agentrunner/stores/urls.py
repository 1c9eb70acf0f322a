"""A store by where it is: a file's path or an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from agentrunner.stores.protocol import Store

OURS = frozenset({"prefix", "schema"})
"""What an address may say to us behind its `?`; the rest is its client's."""


def store_from_url(location: str, **options: Any) -> Store:
    """Give the store at `redis://…`, `rediss://…`, `postgresql://…`, `postgres://…`, or else at a SQLite file's path.

    `?prefix=` (Redis) and `?schema=` (PostgreSQL) in an address are the store's options of these names; `options` are
    given to it too. Raises `ImportError`, saying which extra, where the client is not installed.
    """
    scheme, separator, _ = location.partition("://")
    if separator and scheme in ("redis", "rediss", "postgres", "postgresql"):
        address = urlsplit(location)
        query = parse_qsl(address.query, keep_blank_values=True)
        options |= {key: value for key, value in query if key in OURS}
        # Not `+` for a space: libpq takes it as it is.
        theirs = urlencode([pair for pair in query if pair[0] not in OURS], quote_via=quote)
        location = urlunsplit(address._replace(query=theirs))
        if scheme.startswith("redis"):
            from agentrunner.stores.redis import RedisStore

            return RedisStore(location, **options)
        from agentrunner.stores.postgres import PostgresStore

        return PostgresStore(location, **options)
    from agentrunner.stores.sqlite import SqliteStore

    return SqliteStore(location, **options)
