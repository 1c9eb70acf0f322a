"""The second process of a test: `programs/peer.py`, driven by lines on its stdin."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.paths import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def peer(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a peer, and kill it when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.programs.peer", *map(str, arguments)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str], *words: object) -> None:
    assert process.stdin is not None
    process.stdin.write(" ".join(map(str, words)) + "\n")


def answer(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def request(process: subprocess.Popen[str], *words: object) -> list[str]:
    """Send a line and return the answer."""
    ask(process, *words)
    return answer(process)
