"""Texts that PostgreSQL can store: its TEXT type is UTF-8 without NUL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_texts(**texts: str | None) -> None:
    """Raise `InvalidInput` for a text that PostgreSQL cannot store; the keywords name them."""
    for name, text in texts.items():
        if text is not None and not is_storable(text):
            raise InvalidInput(f"PostgreSQL cannot keep `{name}`, which has a NUL or a lone surrogate: {text!r}")


def is_storable(text: str) -> bool:
    """Return whether a text has neither a NUL nor a lone surrogate."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def encode_message_id(message_id: str) -> bytes:
    """Return a message id, which may have any character, as the database keeps it."""
    return message_id.encode("utf-8", "surrogatepass")


def match_known_ids(message_ids: list[str], rows: Iterable[tuple[bytes, int]]) -> dict[str, int]:
    """Return the message ids that are in rows of encoded ids, each with its number."""
    seqs = {bytes(encoded): seq for encoded, seq in rows}
    return {each: seqs[encoded] for each in message_ids if (encoded := encode_message_id(each)) in seqs}
