"""The published conformance suite, on the four stores of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import MemoryStore
from agentrunner.stores.urls import store_from_url
from agentrunner.testing import StoreConformance
from support import backends

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentrunner import Store


class TestMemory(StoreConformance):
    durable = False

    def make_store(self, **options: Any) -> Store:
        return MemoryStore(**options)


class TestShared(StoreConformance):
    """Stores that several processes can open by one location."""

    @pytest.fixture(autouse=True, params=backends.SHARED)
    def _place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
        with backends.place(request.param, tmp_path) as self.location:
            yield

    def make_store(self, **options: Any) -> Store:
        return store_from_url(self.location, **options)
