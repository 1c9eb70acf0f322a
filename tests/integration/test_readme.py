"""The README's programs run, and say what it says they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

PROGRAMS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if "asyncio.run(" in block
]
SAID = [
    ["RUN_STARTED", "Hello"],
    ["waiting_for_approval order {'item': 'a'}", "completed", "a is on its way"],
]


@pytest.mark.parametrize(("program", "said"), list(zip(PROGRAMS, SAID, strict=True)))
def test_it_runs(program: str, said: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pydantic_ai")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout
