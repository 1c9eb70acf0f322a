"""The Lua scripts, one file each: what is read and written together is one script."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from agentrunner.types import AnyScope


class Script(NamedTuple):
    """A script, and the digest by which the server knows it once it has it."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Give the script of this name, behind what all have in common and what its first line asks for."""
    body = _read(name)
    first, _, _ = body.partition("\n")
    needed = first.removeprefix("--@").split() if first.startswith("--@") else []
    text = "\n".join([*(_read(f"_{part}") for part in ("common", *needed)), body])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text()


def text(value: bytes) -> str:
    """Give an id or a text as it was before it went to the server."""
    return value.decode()


def optional(value: str | None) -> bytes:
    """Give an argument that may be left out, as the scripts take it."""
    return b"" if value is None else b"=" + value.encode()


def maybe(value: bytes | None) -> str | None:
    """Give a field that may be missing."""
    return None if value is None else value.decode()


def whose(scope: str | AnyScope | None) -> bytes:
    """Give an argument for threads of any scope, of none, or of one."""
    return b"" if isinstance(scope, AnyScope) else b"=" + optional(scope)
