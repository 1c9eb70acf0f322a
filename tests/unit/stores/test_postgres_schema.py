"""The migrations, by whose number a schema's version is known."""

from __future__ import annotations

from importlib import resources

import pytest

pytest.importorskip("psycopg")

from agentrunner.stores.postgres import schema


def test_migration_files_are_numbered_without_gaps() -> None:
    files = resources.files("agentrunner.stores.postgres").joinpath("migrations").iterdir()
    names = sorted(file.name for file in files if file.name.endswith(".sql"))
    assert [name.partition("_")[0] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]


def test_the_migrations_of_0_1_0_keep_their_places() -> None:
    # A schema that 0.1.0 has created has version 2: these two must come first, in this order.
    threads_and_runs, records, *_ = schema.migrations()
    assert 'CREATE TABLE "agentrunner".threads' in threads_and_runs
    assert 'CREATE TABLE "agentrunner".records' in records
