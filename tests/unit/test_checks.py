"""Options of runners and stores that are not valid raise an error when the object is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore, Retention, SqliteAgentRunner, SqliteStore
from support.agents import agent_with
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from pathlib import Path

RUNNER_OPTIONS: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name in ("max_event_bytes", "max_id_bytes")
        for value in (0, -1, "x", 1.5, True, None, 1 << 70)
    ),
    *((name, value) for name in ("live_window_bytes", "max_pending_bytes") for value in (-5, "x", 1.5, None, 1 << 70)),
    ("retention", 5),
    ("retention", {"max_runs": 1}),
    ("on_concurrent_run", "queue"),
    ("on_concurrent_run", ["reject"]),
]
BAD_SECONDS: list[Any] = [-1, "5", None, True, math.inf, math.nan, 1e300]


@pytest.mark.parametrize(("name", "value"), RUNNER_OPTIONS)
def test_an_option_of_the_runner_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        InMemoryAgentRunner(**options)
    with pytest.raises(ValueError, match=f"{name} must be"):
        SqliteAgentRunner(tmp_path / "threads.db", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", BAD_SECONDS)
def test_a_duration_of_a_store_is_refused(tmp_path: Path, seconds: Any) -> None:
    for name, value in (("lease_ttl", seconds), ("lease_ttl", 0), ("resume_window", seconds)):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} must be a number of seconds"):
            SqliteStore(tmp_path / "threads.db", **options)
    with pytest.raises(ValueError, match="resume_window must be a number of seconds"):
        MemoryStore(resume_window=seconds)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", BAD_SECONDS)
def test_a_duration_of_a_store_on_a_server_is_refused(seconds: Any) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    for url in ("redis://host", "postgresql://host/db"):
        for name, value in (("lease_ttl", seconds), ("lease_ttl", 0), ("resume_window", seconds)):
            options: dict[str, Any] = {name: value}
            with pytest.raises(ValueError, match=f"{name} must be a number of seconds"):
                AgentRunner.from_url(url, **options)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://host", {"prefix": 5}), ("redis://host", {"prefix": ""}), ("redis://host", {"history": 5}),
        ("postgresql://host/db", {"schema": 5}), ("postgresql://host/db", {"pool_size": 1}),
        ("postgresql://host/db", {"pool_size": "8"}), ("threads.db", {"free_stuck": "no"}),
        ("threads.db", {"durability": "safe"}), ("memory:", {"max_threads": 0}), ("memory:", {"max_bytes": "x"}),
    ],
)  # fmt: skip
def test_another_option_of_a_store_is_refused(url: str, options: Any) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        AgentRunner.from_url(url, **options)


@pytest.mark.parametrize("options", [*({"max_age": value} for value in BAD_SECONDS if value is not None),
                                     *({"max_runs": value} for value in (0, -1, "x", 1.5, True))])  # fmt: skip
def test_a_retention_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        Retention(**options)


async def test_the_smallest_valid_options_work(tmp_path: Path) -> None:
    options: dict[str, Any] = {"live_window_bytes": 0, "max_pending_bytes": 0, "retention": Retention(0, 1)}
    store = SqliteStore(tmp_path / "threads.db", lease_ttl=1, resume_window=0)
    for runner in (AgentRunner(store, **options), InMemoryAgentRunner(resume_window=0, **options)):
        async with runner:
            assert len(await collect(await runner.run(agent_with(), make_input()))) == 2


@pytest.mark.parametrize("store", ["threads.db", None, 5])
def test_a_store_that_is_none_is_a_type_error(store: Any) -> None:
    with pytest.raises(TypeError, match=r"is not a Store; AgentRunner\.from_url makes one"):
        AgentRunner(store)


def test_a_path_that_is_none_is_a_type_error() -> None:
    for path in (5, None, b"threads.db"):
        with pytest.raises(TypeError, match="path"):
            SqliteAgentRunner(path)  # type: ignore[arg-type]
