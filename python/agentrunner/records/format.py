"""The encoding of all record values: JSON with a format version and a checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from agentrunner._codec import decode, dump
from agentrunner.errors import RecordDamaged, RecordTooNew

if TYPE_CHECKING:
    from agentrunner.stores import Record

VERSION = 2
"""Format version that is written; older versions can be read."""
CHECKSUM_CHARACTERS = 32
_MIDDLE = b'","value":'


def checksum(data: bytes, purpose: bytes = b"") -> str:
    """Return a checksum in hexadecimal; the same data has another one for each purpose."""
    return hashlib.blake2b(data, digest_size=CHECKSUM_CHARACTERS // 2, person=purpose).hexdigest()


def encode_value(value: dict[str, Any]) -> bytes:
    """Return the bytes to store for a value.

    Raises `TypeError` or `ValueError` for a value that JSON cannot express.
    """
    return _seal(VERSION, dump(value))


def decode_value(record: Record, *, plain_v1: bool = False) -> dict[str, Any]:
    """Return the value that a record holds. Raises `RecordDamaged`, `RecordTooNew`.

    `plain_v1` is for kinds whose format 1 had no checksum and had its fields next to the version.
    """
    version = _version(record.value)
    if version is not None and version > VERSION:
        raise RecordTooNew(
            f"the {record.kind} '{record.key}' was written by a newer version of this package (format {version}; "
            f"this one reads up to {VERSION}): upgrade this process"
        )
    value: Any = None
    if version == 1 and plain_v1:
        value = decode(record.value)
        del value["v"]
    elif version is not None:
        data = record.value[len(_head(version)) + CHECKSUM_CHARACTERS + len(_MIDDLE) : -1]
        if record.value == _seal(version, data):
            value = decode(data)
    if not isinstance(value, dict):
        raise RecordDamaged(record.kind, record.key)
    return value


def _version(value: bytes) -> int | None:
    """Return the format version; `None` if the bytes are not a record's value."""
    if value.startswith(_head(VERSION)):
        return VERSION
    try:
        version = decode(value)["v"]
    except (ValueError, TypeError, KeyError):
        return None
    return version if type(version) is int and version > 0 else None


def _head(version: int) -> bytes:
    return b'{"v":%d,"sum":"' % version


def _seal(version: int, data: bytes) -> bytes:
    # The checksum covers the version, so that a damaged version does not select another format. In format 1 it did not.
    purpose = b"" if version == 1 else b"record %d" % version
    return _head(version) + checksum(data, purpose).encode() + _MIDDLE + data + b"}"
