"""The real npm packages in node, installed when missing and driven line by line."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

from support.paths import NODE

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: nothing was run against the real npm packages"
)


def install(folder: Path = NODE) -> None:
    """Install the packages of a folder's `package.json` if they are missing."""
    package = json.loads((folder / "package.json").read_bytes())
    wanted = {**package.get("dependencies", {}), **package.get("devDependencies", {})}
    # Tests in other processes may install them at the same time.
    with (folder / "package.json").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not all((folder / "node_modules" / name / "package.json").is_file() for name in wanted):
            subprocess.run(
                ["npm", "install", "--prefix", folder, "--legacy-peer-deps", "--ignore-scripts", "--no-package-lock"],
                check=True,
            )


def ask(script: str, questions: Iterable[bytes]) -> list[Any]:
    """Send JSON questions to a script, and return its answers."""
    lines = list(questions)
    done = subprocess.run(
        ["node", NODE / script], input=b"".join(line + b"\n" for line in lines), stdout=subprocess.PIPE, check=True,
        timeout=120,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    return answers


class Conversation:
    """A script that keeps running: each thread that sends a question waits for its answer."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(["node", NODE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._turn = threading.Lock()

    def ask(self, question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"the script ended at {question}"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
