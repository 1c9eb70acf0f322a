"""Make a store from its location: a SQLite file's path, or the URL of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from agentrunner.stores.backends import find_backend

if TYPE_CHECKING:
    from typing import Unpack

    from agentrunner.stores.backends import StoreOptions
    from agentrunner.stores.protocol import Store

MEMORY_LOCATION = "memory:"


def store_from_url(location: str, **options: Unpack[StoreOptions]) -> Store:
    """Return the store at a location; it is not opened yet.

    Args:
        location: The path of a SQLite file or `sqlite:///path`; `redis://…`, `rediss://…`, `postgresql://…`,
            `postgres://…`; or `memory:`. `?prefix=` (Redis) and `?schema=` (PostgreSQL) set the options of these names
            and override `options`; the client library gets all other parameters of the query.
        **options: Options of the store's class, such as `lease_ttl` and `resume_window`, both in seconds.

    Returns:
        A `SqliteStore`, `RedisStore`, `PostgresStore` or `MemoryStore`.

    Raises:
        ImportError: The backend's client library is not installed; the text has the command that installs it.
        TypeError: The store has no such option.
        ValueError: The scheme is unknown, or the store refuses the location or an option.

    Example::

        runner = AgentRunner(store_from_url("postgresql://app@db/app?schema=agents", lease_ttl=20))

    """
    store_options: dict[str, Any] = {**options}
    if location == MEMORY_LOCATION:
        from agentrunner.stores.memory import MemoryStore

        return MemoryStore(**store_options)
    location = location.removeprefix("sqlite:///")
    backend = find_backend(location)
    if backend.schemes:
        url = urlsplit(location)
        query = parse_qsl(url.query, keep_blank_values=True)
        store_options |= {key: value for key, value in query if key in backend.url_options}
        client_query = [pair for pair in query if pair[0] not in backend.url_options]
        # Quote a space as `%20`: libpq would read a `+` as a plus sign.
        location = urlunsplit(url._replace(query=urlencode(client_query, quote_via=quote)))
    return backend.load()(location, **store_options)
