"""A location on Redis, and a client beside the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from support import backends

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def location(tmp_path: Path) -> Iterator[str]:
    with backends.place("redis", tmp_path) as location:
        yield location


@pytest.fixture
def client(location: str) -> redis.asyncio.Redis:
    """A connection of the test's own, that looks at what the store wrote."""
    return redis.asyncio.Redis.from_url(backends.REDIS)
