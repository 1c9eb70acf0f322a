"""Strings as PostgreSQL can have them: its TEXT is UTF-8 without NUL."""

from __future__ import annotations

from agentrunner.errors import InvalidInput


def checked(**values: str | None) -> None:
    """Raise `InvalidInput` for a value that cannot be kept."""
    for name, value in values.items():
        if value is not None and not keepable(value):
            raise InvalidInput(f"`{name}` has a character PostgreSQL cannot keep (NUL, a lone surrogate): {value!r}")


def keepable(value: str) -> bool:
    """Say whether it can be in the store."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def octets(message_id: str) -> bytes:
    """Give a message id, which may have any character, as it is kept."""
    return message_id.encode("utf-8", "surrogatepass")
