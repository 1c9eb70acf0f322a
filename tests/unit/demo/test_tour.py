"""The tour keeps its promises, wherever its output goes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

for package in ("typer", "rich", "pydantic_ai"):
    pytest.importorskip(package)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_tour(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "tour.db"
    done = subprocess.run(
        [sys.executable, "-m", "agentrunner", "demo", "--db", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert all(len(line) <= columns for line in lines)
    assert sum(line.startswith("   ✓ ") for line in lines) == 16
    assert "✗" not in done.stdout
    assert [line.split()[0] for line in lines[-5:]] == ["run-1", "run-2", "run-3", "run-4", "run-5"]
    assert path.exists()


def test_the_tour_without_its_packages() -> None:
    code = "import sys; sys.modules['pydantic_ai'] = None; sys.argv = ['agentrunner', 'demo']; "
    done = subprocess.run(
        [sys.executable, "-c", code + "from agentrunner.__main__ import main; main()"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == 'agentrunner: the tour needs more packages: pip install "agentrunner[demo]"\n'


pytestmark = pytest.mark.processes
