"""Imports point down and never form a circle, not even for annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.imports import Imports
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def imports() -> Imports:
    return Imports(ROOT / "python" / "agentrunner")


def test_no_modules_import_each_other(imports: Imports) -> None:
    assert imports.circles() == []


def test_no_parts_import_each_other(imports: Imports) -> None:
    assert imports.part_circles() == []


def test_no_layer_imports_a_higher_one(imports: Imports) -> None:
    assert imports.upward() == []


def test_circles_and_upward_imports_are_found(tmp_path: Path) -> None:
    package = tmp_path / "agentrunner"
    (package / "stores").mkdir(parents=True)
    (package / "__init__.py").write_text("from agentrunner.runner import Runner")
    (package / "runner.py").write_text("from agentrunner.stores import Store")
    (package / "stores" / "__init__.py").write_text("from agentrunner.stores.protocol import Store")
    (package / "stores" / "protocol.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from agentrunner import Runner\n"
    )
    imports = Imports(package)
    assert imports.circles() == [["agentrunner.runner", "agentrunner.stores.protocol"]]
    assert imports.part_circles() == [["runner", "stores"]]
    assert imports.upward() == ["agentrunner.stores.protocol:3 imports agentrunner.runner"]
