"""Make a store from its location: a SQLite file's path, or the URL of a server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from agentrunner.stores.backends import SQLITE, find_backend

if TYPE_CHECKING:
    from typing import Unpack

    from agentrunner.stores.backends import StoreOptions
    from agentrunner.stores.protocol import Store

MEMORY_LOCATION = "memory:"
SQLITE_PREFIX = "sqlite:///"


def store_from_url(location: str | os.PathLike[str], **options: Unpack[StoreOptions]) -> Store:
    """Return the store at a location; it is not opened yet.

    Args:
        location: The path of a SQLite file (`str` or `Path`) or `sqlite:///path`; `redis://…`, `rediss://…`, `postgresql://…`,
            `postgres://…`; or `memory:`. `?prefix=` (Redis) and `?schema=` (PostgreSQL) set the options of these names
            and override `options`; the client library gets all other parameters of the query.
        **options: Options of the store's class, such as `lease_ttl` and `resume_window`, both in seconds.

    Returns:
        A `SqliteStore`, `RedisStore`, `PostgresStore` or `MemoryStore`.

    Raises:
        ImportError: The backend's client library is not installed; the text has the command that installs it.
        TypeError: The store has no such option, or the location is neither a `str` nor a path.
        ValueError: The scheme is unknown or written wrongly, or the store refuses the location or an option.

    Example::

        runner = AgentRunner(store_from_url("postgresql://app@db/app?schema=agents", lease_ttl=20))

    """
    store_options: dict[str, Any] = {**options}
    if isinstance(location, os.PathLike):
        return SQLITE.load()(location, **store_options)
    if not isinstance(location, str):
        raise TypeError(f"the location of a store must be a str or a Path, not {type(location).__name__}")
    if location == MEMORY_LOCATION:
        from agentrunner.stores.memory import MemoryStore

        return MemoryStore(**store_options)
    if location.startswith(SQLITE_PREFIX):
        return SQLITE.load()(_read_sqlite_url(location), **store_options)
    backend = find_backend(location)
    if backend.schemes:
        location, url_options = _split_options(location, backend.url_options)
        store_options |= url_options
    return backend.load()(location, **store_options)


def _read_sqlite_url(url: str) -> str:
    """Return the path in a `sqlite:///path`. Raises `ValueError` for one with options."""
    path, mark, _ = url.removeprefix(SQLITE_PREFIX).partition("?")
    if mark:
        raise ValueError("a sqlite:/// URL has no options after `?`; write them as keywords, such as durability=…")
    return path


def _split_options(url: str, names: frozenset[str]) -> tuple[str, dict[str, str]]:
    """Return a URL without the options of these names in its query, and those options."""
    # Only the query is written again: libpq's URLs may lack a host, which `urlunsplit` would not write.
    rest, hash_mark, fragment = url.partition("#")
    address, question_mark, query_text = rest.partition("?")
    if not question_mark:
        return url, {}
    query = parse_qsl(query_text, keep_blank_values=True)
    # Quote a space as `%20`: libpq would read a `+` as a plus sign.
    client_query = urlencode([pair for pair in query if pair[0] not in names], quote_via=quote)
    url_options = {key: value for key, value in query if key in names}
    return f"{address}{'?' if client_query else ''}{client_query}{hash_mark}{fragment}", url_options
