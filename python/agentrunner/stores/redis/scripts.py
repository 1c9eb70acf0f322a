"""The Lua scripts: one file for everything that must be read and written in one step."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner.types import AnyScope

if TYPE_CHECKING:
    from agentrunner.stores.types import ThreadGuard


class Script(NamedTuple):
    """A script, and the digest that names it on the server."""

    text: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Return a script, after the common part and the parts that its first line (`--@`) names."""
    body = _read(name)
    first_line, _, _ = body.partition("\n")
    parts = first_line.removeprefix("--@").split() if first_line.startswith("--@") else []
    text = "\n".join([*(_read(f"_{part}") for part in ("common", *parts)), body])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text()


def encode_optional(value: str | None) -> bytes:
    """Return an optional argument as the scripts take it: empty, or `=` and the value."""
    return b"" if value is None else b"=" + value.encode()


def encode_optional_number(value: int | None) -> bytes:
    """Return an optional number as the scripts take it: empty, or `=` and the number."""
    return b"" if value is None else b"=%d" % value


def encode_scope(scope: str | AnyScope | None) -> bytes:
    """Return the argument for threads of any scope, without a scope, or of one scope."""
    return b"" if isinstance(scope, AnyScope) else b"=" + encode_optional(scope)


def encode_guard(guard: ThreadGuard | None) -> tuple[bytes, bytes]:
    """Return the two last arguments of scripts that take a guard."""
    if guard is None:
        return b"", b""
    return encode_scope(guard.scope), encode_optional_number(guard.incarnation)


def read_run_id(name: bytes, thread_id: str) -> str:
    """Return the id of a run from the name under which it is kept; see `_run_ids.lua`."""
    return name.removesuffix(b"\0" + thread_id.encode()).decode()


def decode_known_ids(reply: list[Any]) -> dict[str, int]:
    """Return the message ids of a reply with their numbers; see `_known_ids.lua`."""
    return {message_id.decode(): seq for message_id, seq in zip(reply[::2], reply[1::2], strict=True)}


def decode_optional(value: bytes | None) -> str | None:
    """Return a field that may be missing, as a string."""
    return None if value is None else value.decode()
