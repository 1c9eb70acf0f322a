"""The table of backends agrees with the stores' classes and with the package's extras."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.stores.backends import (
    BACKENDS,
    POSTGRES,
    REDIS,
    SQLITE,
    Backend,
    StoreOptions,
    find_backend,
    list_examples,
)
from agentrunner.stores.urls import store_from_url
from support.backends import UNDER_TEST

if TYPE_CHECKING:
    from pathlib import Path

each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


@each_backend
def test_a_row_names_exactly_the_keyword_options_of_its_class(backend: Backend) -> None:
    if backend.client_library is not None:
        pytest.importorskip(backend.client_library.removesuffix("-py"))
    parameters = inspect.signature(backend.load()).parameters.values()
    assert backend.options == {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert backend.url_options <= backend.options <= StoreOptions.__annotations__.keys()


@each_backend
def test_an_extra_of_the_package_installs_the_client_library(backend: Backend) -> None:
    if backend.extra is not None:
        assert backend.extra in (metadata("agentrunner").get_all("Provides-Extra") or [])


def test_the_tests_have_a_row_for_each_backend() -> None:
    assert [backend.name for backend in BACKENDS] == list(UNDER_TEST)


@pytest.mark.parametrize(
    "backend", [backend for backend in BACKENDS if backend.client_library], ids=lambda backend: backend.name
)
def test_a_missing_client_library_raises_ImportError_with_the_command_to_run(backend: Backend) -> None:
    module = (backend.client_library or "").removesuffix("-py")
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from agentrunner.stores.urls import store_from_url\nstore_from_url('{backend.schemes[0]}://host')"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last_line = child.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert f"pip install 'agentrunner[{backend.extra}]'" in last_line


@pytest.mark.parametrize(
    ("location", "backend"),
    [
        ("threads.db", SQLITE), ("/var/lib/app/threads.db", SQLITE), ("redis://host/0", REDIS),
        ("rediss://host/0", REDIS), ("postgres://host/db", POSTGRES), ("postgresql://host/db", POSTGRES),
    ],
)  # fmt: skip
def test_a_location_names_its_backend(location: str, backend: Backend) -> None:
    assert find_backend(location) is backend


@pytest.mark.parametrize("location", ["mysql://me:s3cret@host/db", "REDIS://host", "://host"])
def test_an_unknown_scheme_raises_ValueError_naming_the_known_ones(location: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"a location is {list_examples()}")) as error:
        store_from_url(location)
    assert "s3cret" not in str(error.value)


def test_a_url_sets_the_stores_own_options_and_overrides_keywords() -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    postgres: Any = store_from_url("postgresql://host/db?schema=mine&application_name=a%20b", schema="other")
    assert postgres.schema == "mine"
    redis: Any = store_from_url("redis://host/0?prefix={mine}", lease_ttl=5.0)
    assert (redis.prefix, redis.lease_ttl) == ("{mine}", 5.0)


def test_an_option_that_the_store_does_not_have_raises_TypeError(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="prefix"):
        store_from_url(str(tmp_path / "threads.db"), prefix="x")
