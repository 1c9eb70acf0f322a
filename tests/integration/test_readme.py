"""The README's programs run and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.inputs import make_input
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block]
OUTPUTS = [
    ["RUN_STARTED", "Hello"],
    ["waiting_for_approval order {'item': 'a'}", "completed", "a is on its way"],
]


@pytest.mark.parametrize(("program", "texts"), list(zip(PROGRAMS, OUTPUTS, strict=True)))
def test_program_prints_what_it_promises(program: str, texts: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pydantic_ai")
    for _ in range(2):  # A reader who tries a program again runs it in the same folder.
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        for text in texts:
            assert text in done.stdout


def test_fastapi_program_serves_its_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("fastapi.testclient")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(next(block for block in BLOCKS if "FastAPI(" in block), namespace)  # noqa: S102 - it is the README's
    with client.TestClient(namespace["app"]) as http:
        request = make_input(messages=[{"id": "u1", "role": "user", "content": "Hi"}])
        response = http.post("/copilotkit/agent/default/run", json=request)
    assert "You said: Hi" in response.text
