"""What the runtime keeps in records: JSON under a format version and a checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner._codec import decode, dump
from agentrunner.errors import RecordDamaged, RecordTooNew

if TYPE_CHECKING:
    from agentrunner.stores import Record

FORMAT = 1
_HEAD = b'{"v":%d,"sum":"' % FORMAT
_MIDDLE = b'","value":'
_SUM = 32
"""Characters of a checksum."""
_START = len(_HEAD) + _SUM + len(_MIDDLE)


def checksum(data: bytes) -> str:
    """Give the checksum of some bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=_SUM // 2).hexdigest()


def seal(value: dict[str, Any]) -> bytes:
    """Give a record's value. Raises `TypeError`, `ValueError` for what JSON has no word for."""
    data = dump(value)
    return _HEAD + checksum(data).encode() + _MIDDLE + data + b"}"


def unseal(record: Record) -> dict[str, Any]:
    """Give back what was sealed. Raises `RecordDamaged`, `RecordTooNew`."""
    data = record.value[_START:-1]
    if record.value == _HEAD + checksum(data).encode() + _MIDDLE + data + b"}":
        value: dict[str, Any] = decode(data)
        return value
    try:
        version = orjson.loads(record.value)["v"]
    except (ValueError, TypeError, KeyError):
        version = None
    if isinstance(version, int) and version > FORMAT:
        raise RecordTooNew(f"the {record.kind} '{record.key}' was written by a newer version of this package")
    raise RecordDamaged(record.kind, record.key)


def chained(before: str, value: bytes) -> str:
    """Give the checksum of a row of records to which this one is added."""
    return checksum(before.encode() + value)


def session_key(session_id: str, last: str) -> str:
    """Give the key of something of a session's: no two sessions' are alike, whatever characters their ids have."""
    return f"{session_id.replace('%', '%25').replace('/', '%2F')}/{last}"


def numbered(session_id: str, number: int) -> str:
    """Give the key of a session's message or checkpoint."""
    return session_key(session_id, f"{number:08d}")
