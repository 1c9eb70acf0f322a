"""Locations on PostgreSQL."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from support import backends

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def location(tmp_path: Path) -> Iterator[str]:
    with backends.place("postgres", tmp_path) as location:
        yield location


@pytest.fixture
def fresh() -> Iterator[str]:
    """Return a location without a schema; the schema is dropped at the end."""
    backends.needs("postgres")
    schema = f"agentrunner-fresh-{uuid.uuid4().hex[:12]}"
    yield f"{backends.POSTGRES}?schema={schema}"
    with psycopg.connect(backends.POSTGRES, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
