"""Open the store at a location from the command line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import typer

from agentrunner.cli.terminal import fail, require_file
from agentrunner.errors import StoreError
from agentrunner.stores.backends import find_backend, list_examples
from agentrunner.stores.urls import store_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.stores import Store

LOCATION_FORMS = list_examples()
Location: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOCATION", help=f"Where the threads are: {LOCATION_FORMS}.", show_default=False)
]


def is_file(location: str) -> bool:
    """Return whether a location is a file's path, not a URL."""
    return "://" not in location


def without_secrets(location: str) -> str:
    """Return a location that is safe to print: without its password and the client's options."""
    if is_file(location):
        return location
    scheme, _, rest = location.partition("://")
    try:
        url = urlsplit(location)
    except ValueError:
        return f"{scheme}://…"
    user, _, server = url.netloc.rpartition("@")
    if "@" in rest.removeprefix(url.netloc):
        # The password may hold a `/` or `?` that is not escaped, so that a part of it was parsed as path or query.
        return f"{scheme}://…"
    name = user.partition(":")[0]
    # All other options go to the client library, and may be secret.
    names = _url_options(location)
    query = urlencode([(key, value) for key, value in parse_qsl(url.query) if key in names], safe="{}")
    return f"{scheme}://{name}{'@' if name else ''}{server}{url.path}{'?' if query else ''}{query}"


def _url_options(location: str) -> frozenset[str]:
    try:
        return find_backend(location).url_options
    except ValueError:
        return frozenset()


def store_from_location(location: str, **options: Any) -> Store:
    """Return the store at a location, not opened, or exit."""
    if is_file(location):
        try:
            return store_from_url(location, **options)
        except ValueError as error:
            fail(str(error), 2)
    printable = without_secrets(location)
    try:
        find_backend(location)
    except ValueError as error:
        fail(f"{printable}: {error}", 2)
    if printable.endswith("…"):
        fail(f"{printable}: not a valid URL; in a password, write @ as %40, / as %2F, ? as %3F", 2)
    try:
        return store_from_url(location, **options)
    except ImportError as error:
        fail(str(error), 2)
    except (TypeError, ValueError) as error:
        fail(f"{printable}: not a valid store URL: {error}", 2)


@asynccontextmanager
async def open_or_create(location: str) -> AsyncIterator[Store]:
    """Open a store, creating it if it does not exist; recover and free nothing in it."""
    options = {"free_stuck": False} if is_file(location) else {}
    async with _open(location, store_from_location(location, **options)) as store:
        yield store


@asynccontextmanager
async def open_existing(location: str) -> AsyncIterator[Store]:
    """Open a store that exists, or exit; recover and free nothing in it."""
    if is_file(location):
        # First without a change: an empty file must not get our tables.
        async with open_read_only(location):
            pass
    else:
        await _require_schema(location)
    async with open_or_create(location) as store:
        yield store


@asynccontextmanager
async def open_read_only(location: str) -> AsyncIterator[Store]:
    """Open a store that exists only to read it, or exit."""
    if is_file(location):
        require_file(Path(location))
    async with _open(location, store_from_location(location, read_only=True)) as store:
        yield store


async def _require_schema(location: str) -> None:
    """Exit with an error if opening the store would create its schema."""
    store: Any = store_from_location(location)
    if not find_backend(location).creates_schema:
        return
    try:
        has_schema = await store.has_schema()
    except StoreError as error:
        fail(f"{without_secrets(location)}: {error}")
    if not has_schema:
        fail(f"{without_secrets(location)}: there is no agentrunner schema '{store.schema}'")


@asynccontextmanager
async def _open(location: str, store: Store) -> AsyncIterator[Store]:
    try:
        await store.open()
    except (StoreError, TypeError, ValueError) as error:
        # redis-py checks a URL's options only when it connects: then it raises `TypeError` or `ValueError`.
        fail(str(error) if is_file(location) else f"{without_secrets(location)}: {error}")
    try:
        yield store
    finally:
        await store.aclose()
