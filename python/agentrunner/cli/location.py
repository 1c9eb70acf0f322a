"""A store by where it is, as a user says it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import typer

from agentrunner.cli.common import fail, require
from agentrunner.errors import StoreError
from agentrunner.stores.backends import POSTGRES, find_backend, list_examples
from agentrunner.stores.urls import store_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.stores import Store

PLACE = list_examples()
Location: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOCATION", help=f"Where the threads are: {PLACE}.", show_default=False)
]


def is_file(location: str) -> bool:
    """Say whether it is a path, not an address."""
    return "://" not in location


def shown(location: str) -> str:
    """Give a location as it may be printed: without a password."""
    if is_file(location):
        return location
    scheme, _, rest = location.partition("://")
    try:
        address = urlsplit(location)
    except ValueError:
        return f"{scheme}://…"
    user, _, server = address.netloc.rpartition("@")
    if "@" in rest.removeprefix(address.netloc):
        # What stands before it was not read as the password it may be.
        return f"{scheme}://…"
    name = user.partition(":")[0]
    shown_keys = _url_options(location)
    ours = urlencode([(key, value) for key, value in parse_qsl(address.query) if key in shown_keys], safe="{}")
    return f"{scheme}://{name}{'@' if name else ''}{server}{address.path}{'?' if ours else ''}{ours}"


def _url_options(location: str) -> frozenset[str]:
    """Return the names of the store's own options in a URL: all others may be secret."""
    try:
        return find_backend(location).url_options
    except ValueError:
        return frozenset()


def store_of(location: str, **options: Any) -> Store:
    """Give the store at a location, not opened; leave where there can be none. `options` are those of a file."""
    if is_file(location):
        try:
            return store_from_url(location, **options)
        except ValueError as error:
            fail(str(error), 2)
    try:
        find_backend(location)
    except ValueError as error:
        fail(f"{shown(location)}: {error}", 2)
    if shown(location).endswith("…"):
        fail(f"{shown(location)}: that is no address; in a password, %40 stands for @, %2F for / and so on", 2)
    try:
        return store_from_url(location)
    except ImportError as error:
        fail(str(error), 2)
    except (TypeError, ValueError) as error:
        fail(f"{shown(location)}: that is no address of a store: {error}", 2)


@asynccontextmanager
async def opened(location: str) -> AsyncIterator[Store]:
    """Open a store, making it if it is not there. Nothing in it is recovered or freed."""
    store = store_of(location, free_stuck=False)
    try:
        await store.open()
    except (StoreError, TypeError, ValueError) as error:
        # Of what redis-py does not know in an address it speaks when it connects.
        fail(str(error) if is_file(location) else f"{shown(location)}: {error}")
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def looking_at(location: str) -> AsyncIterator[Store]:
    """Open a store that is there. Nothing in it is recovered or freed, a missing file or schema is not made."""
    if is_file(location):
        require(Path(location))
    elif location.partition("://")[0] in POSTGRES.schemes:
        await _require_schema(location)
    async with opened(location) as store:
        yield store


async def _require_schema(location: str) -> None:
    """Leave if the database has no such schema. Redis has nothing that would have to be made."""
    store: Any = store_of(location)
    try:
        has_schema = await store.has_schema()
    except StoreError as error:
        fail(f"{shown(location)}: {error}")
    if not has_schema:
        fail(f"{shown(location)}: there is no schema '{store.schema}' of ours")
