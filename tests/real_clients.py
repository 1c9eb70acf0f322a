"""The real npm clients, asked: what this package writes is judged by those that will read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

NODE = Path(__file__).parent / "node"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: nothing was run against the real @ag-ui/client"
)


def ask(script: str, questions: Iterable[bytes]) -> list[Any]:
    """Put JSON questions to a script; give its answers."""
    wanted = json.loads((NODE / "package.json").read_bytes())["dependencies"]
    if not all((NODE / "node_modules" / name).is_dir() for name in wanted):
        subprocess.run(
            ["npm", "install", "--prefix", NODE, "--legacy-peer-deps", "--ignore-scripts", "--no-package-lock"],
            check=True,
        )
    asked = [question + b"\n" for question in questions]
    done = subprocess.run(
        ["node", NODE / script], input=b"".join(asked), stdout=subprocess.PIPE, check=True, timeout=120
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(asked)
    return answers
