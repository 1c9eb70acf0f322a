"""What may stand in a record: every store's `write` looks here first, so that all refuse the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner.stores.types import Change

KIND_BYTES = 64
KEY_BYTES = 1536
THREAD_BYTES = 1024
"""Together they stand in one entry of an index, which PostgreSQL lets have 2704 bytes."""

_LONGEST = {"kind": KIND_BYTES, "key": KEY_BYTES, "thread_id": THREAD_BYTES}


def check_changes(changes: Sequence[Change]) -> None:
    """Raise `InvalidRecord` for changes that no store can make, or for two of one record."""
    for change in changes:
        check_names(kind=change.kind, key=change.key, thread_id=change.thread_id)
        if not change.kind or not change.key:
            raise InvalidRecord(f"a record has a kind and a key, not {change.kind!r} and {change.key!r}")
        if not isinstance(change.value, bytes | None):
            raise InvalidRecord(f"the value of {change.kind} '{change.key}' is bytes, not {type(change.value)}")
        if change.version is not None and not (type(change.version) is int and 0 <= change.version < 1 << 63):
            raise InvalidRecord(f"a version is an integer from 0 to 2^63 - 1, not {change.version!r}")
    if len({(change.kind, change.key) for change in changes}) < len(changes):
        raise InvalidRecord("one write changes a record at most once")


def check_names(**names: str | None) -> None:
    """Raise `InvalidRecord` for a `kind`, `key` or `thread_id` that no record can have."""
    for name, text in names.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidRecord(f"a record's {name} is a string, not {type(text).__name__}")
        if "\0" in text:
            raise InvalidRecord(f"a record's {name} has no NUL, as {text!r} has")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidRecord(f"a record's {name} has no lone surrogates, as {text!r} has") from None
        if size > _LONGEST[name]:
            raise InvalidRecord(f"a record's {name} has at most {_LONGEST[name]} bytes, not {size}")


def can_be(**names: str | None) -> bool:
    """Say whether a record can have this `kind`, `key` or `thread_id`: one that cannot need not be looked for."""
    try:
        check_names(**names)
    except InvalidRecord:
        return False
    return True
