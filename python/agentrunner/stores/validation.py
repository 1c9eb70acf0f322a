"""The rules for records, which every store's `write` checks first.

This way all stores refuse the same changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner.stores.types import Change

KIND_BYTES = 64
KEY_BYTES = 1536
THREAD_ID_BYTES = 1024
"""Greatest size of a record's thread id in UTF-8; the two above are those of its kind and key.

All three are in one index entry of PostgreSQL, which can have at most 2704 bytes.
"""

_MAX_BYTES = {"kind": KIND_BYTES, "key": KEY_BYTES, "thread_id": THREAD_ID_BYTES}


def check_changes(changes: Sequence[Change]) -> None:
    """Raise `InvalidRecord` if no store can make these changes.

    A custom store's `write` calls this before it does anything else.

    Args:
        changes: The changes of one `write`.

    Raises:
        InvalidRecord: A kind, key, thread id, value or version is not valid, or two changes are for the same record.
    """
    for change in changes:
        check_names(kind=change.kind, key=change.key, thread_id=change.thread_id)
        if not change.kind or not change.key:
            raise InvalidRecord(f"a record needs a kind and a key, not {change.kind!r} and {change.key!r}")
        if not isinstance(change.value, bytes | None):
            raise InvalidRecord(f"the value of {change.kind} '{change.key}' must be bytes, not {type(change.value)}")
        if change.version is not None and not (type(change.version) is int and 0 <= change.version < 1 << 63):
            raise InvalidRecord(f"a version must be an integer from 0 to 2^63 - 1, not {change.version!r}")
    if len({(change.kind, change.key) for change in changes}) < len(changes):
        raise InvalidRecord("one write can change each record only once")


def check_names(**names: str | None) -> None:
    """Raise `InvalidRecord` if no record can have this `kind`, `key` or `thread_id`."""
    for name, text in names.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidRecord(f"a record's {name} must be a string, not {type(text).__name__}")
        if "\0" in text:
            raise InvalidRecord(f"a record's {name} cannot contain NUL: {text!r}")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidRecord(f"a record's {name} cannot contain lone surrogates: {text!r}") from None
        if size > _MAX_BYTES[name]:
            raise InvalidRecord(f"a record's {name} can have at most {_MAX_BYTES[name]} bytes, not {size}")


def is_valid_name(**names: str | None) -> bool:
    """Return whether a record can have this `kind`, `key` or `thread_id`."""
    try:
        check_names(**names)
    except InvalidRecord:
        return False
    return True
