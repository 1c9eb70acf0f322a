"""The package's imports point down, and none of them makes a circle, not even for annotations."""

from __future__ import annotations

import pytest

from support.imports import Imports
from support.paths import ROOT

ALLOWED_CIRCLES, ALLOWED_PART_CIRCLES, ALLOWED_UPWARD = 8, 5, 25


@pytest.fixture(scope="module")
def imports() -> Imports:
    return Imports(ROOT / "python" / "agentrunner")


def test_no_modules_import_each_other(imports: Imports) -> None:
    assert len(imports.circles()) <= ALLOWED_CIRCLES, imports.circles()


def test_no_parts_import_each_other(imports: Imports) -> None:
    assert len(imports.part_circles()) <= ALLOWED_PART_CIRCLES, imports.part_circles()


def test_no_layer_imports_a_higher_one(imports: Imports) -> None:
    assert len(imports.upward()) <= ALLOWED_UPWARD, "\n".join(imports.upward())
