"""The table of backends: a row says which locations name a store, and how to create it.

To add a backend, write its store in a folder beside this file, its new options in `StoreOptions` and a row in
`BACKENDS`; then add its fixture and a row in `tests/support/backends.py`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from agentrunner.types import RunnerOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner.stores.protocol import Store


class StoreOptions(TypedDict, total=False):
    """The keyword options of all stores; `Backend.options` names those of one."""

    lease_ttl: float
    resume_window: float
    durability: Literal["balanced", "strict"]
    free_stuck: bool
    read_only: bool
    prefix: str
    history: Store | None
    schema: str
    pool_size: int
    max_threads: int
    max_runs_per_thread: int
    max_bytes: int


class UrlOptions(RunnerOptions, StoreOptions, total=False):
    """The keyword options of `AgentRunner.from_url`: those of the runner and of the store."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of store that several processes can open by the same location."""

    name: str
    """Short name, also the name of the module or folder in `agentrunner.stores`."""
    title: str
    """Product's name, as error texts write it."""
    example: str
    """Form of its locations, as help and error texts write it."""
    module: str
    class_name: str
    options: frozenset[str]
    """Names of the keyword options that its class takes; their types are in `StoreOptions`."""
    schemes: tuple[str, ...] = ()
    """URL schemes that name it; empty for SQLite, whose location is a file's path."""
    url_options: frozenset[str] = frozenset()
    """Names of the options that a URL's query may set.

    The client library reads all other parameters of the query.
    """
    creates_schema: bool = False
    """Whether opening its store creates a schema, which the store's `has_schema` looks for."""
    extra: str | None = None
    """Extra of the `agentrunner` package that installs its client library."""
    client_library: str | None = None
    """Name of that library in error texts."""

    def load(self) -> Callable[..., Store]:
        """Return the store's class, imported now.

        Raises `ImportError`, with the command that installs it, if its client library is missing.
        """
        store_class: Callable[..., Store] = getattr(importlib.import_module(self.module), self.class_name)
        return store_class

    def missing_client(self) -> ImportError:
        """Return the error for a client library that is not installed."""
        return ImportError(
            f"the {self.title} store needs {self.client_library}: pip install 'agentrunner[{self.extra}]'"
        )


SQLITE = Backend(
    name="sqlite",
    title="SQLite",
    example="a SQLite file",
    module="agentrunner.stores.sqlite",
    class_name="SqliteStore",
    options=frozenset({"durability", "lease_ttl", "resume_window", "free_stuck", "read_only"}),
)
REDIS = Backend(
    name="redis",
    title="Redis",
    example="redis://…",
    module="agentrunner.stores.redis",
    class_name="RedisStore",
    options=frozenset({"prefix", "lease_ttl", "resume_window", "history", "read_only"}),
    schemes=("redis", "rediss"),
    url_options=frozenset({"prefix"}),
    extra="redis",
    client_library="redis-py",
)
POSTGRES = Backend(
    name="postgres",
    title="PostgreSQL",
    example="postgresql://…",
    module="agentrunner.stores.postgres",
    class_name="PostgresStore",
    options=frozenset({"schema", "lease_ttl", "resume_window", "pool_size", "read_only"}),
    schemes=("postgresql", "postgres"),
    url_options=frozenset({"schema"}),
    creates_schema=True,
    extra="postgres",
    client_library="psycopg",
)

BACKENDS = (SQLITE, REDIS, POSTGRES)


SCHEMES = frozenset({"memory", "sqlite", "file", *(scheme for backend in BACKENDS for scheme in backend.schemes)})
"""Schemes that a location can begin with, rightly or by mistake, in lower case."""


def list_examples() -> str:
    """Return the forms a location may have, as one phrase for help and error texts."""
    *first, last = (backend.example for backend in BACKENDS)
    return f"{', '.join(first)} or {last}"


def _list_locations() -> str:
    """Return the forms a location may have, those that only Python takes included."""
    return f"{list_examples()}; in Python also memory: or sqlite:///path"


def find_backend(location: str) -> Backend:
    """Return the backend that a location names. Raises `ValueError` for an unknown scheme."""
    scheme, separator, _ = location.partition("://")
    if not separator:
        scheme, colon, _ = location.partition(":")
        if not colon or scheme.lower() not in SCHEMES:
            return SQLITE
        # Without this, a misspelled URL would silently create a file of that name.
        raise ValueError(
            f"this is not a valid location, although it begins with '{scheme}:'; a location is {_list_locations()}; "
            f"for a file of this name, write ./{scheme}:…"
        )
    for backend in BACKENDS:
        if scheme in backend.schemes:
            return backend
    # The scheme alone: the rest of the location may hold a password.
    raise ValueError(f"no store has the URL scheme '{scheme}'; a location is {_list_locations()}")
