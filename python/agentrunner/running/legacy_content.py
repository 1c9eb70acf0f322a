"""Convert the `binary` parts that clients older than AG-UI 1.0 send to parts of AG-UI 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Payload: TypeAlias = tuple[str, str, str]
"""Type of a part, type of its source, and the source's value; equal for two parts with the same file."""

FIELDS = {"data": "data", "url": "url", "id": "file"}
"""Source types of AG-UI 1.0 by the corresponding field of a `binary` part; the first field counts."""


def upgrade_message(message: Any) -> Any:
    """Return a message with parts of AG-UI 1.0 in place of its `binary` parts.

    Clients send some files twice, as a `binary` part and as a modern one; then only the modern part is kept.
    """
    parts = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(parts, (list, tuple)) or not any(map(_is_binary, parts)):
        return message
    upgraded: list[Any] = []
    modern = {payload: part for part in parts if (payload := _read_payload(part)) is not None}
    names: dict[int, str] = {}
    for part in parts:
        converted = _convert(part) if _is_binary(part) else part
        twin = modern.get(_read_payload(converted) or ("", "", "")) if _is_binary(part) else None
        if twin is None:
            upgraded.append(converted)
            continue
        name, twin_name = (_read_filename(each) for each in (converted, twin))
        if name not in (None, twin_name):
            if twin_name is not None:
                upgraded.append(converted)
            else:
                names[id(twin)] = name
    return {**message, "content": [_add_filename(part, names.get(id(part))) for part in upgraded]}


def _is_binary(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "binary"


def _convert(part: Mapping[str, Any]) -> Any:
    """Return the part of AG-UI 1.0 for a `binary` part; the part itself if it has no file."""
    mime_type = part.get("mimeType", part.get("mime_type"))
    field = next((name for name in FIELDS if part.get(name)), None)
    if not isinstance(mime_type, str) or field is None:
        # The part stays, and the check of the input refuses it.
        return part
    kind = mime_type.partition("/")[0].lower()
    converted: dict[str, Any] = {
        "type": kind if kind in ("image", "audio", "video") else "document",
        "source": {"type": FIELDS[field], "value": part[field], "mimeType": mime_type},
    }
    return _add_filename(converted, part.get("filename") or None)


def _read_payload(part: Any) -> Payload | None:
    """Return what identifies the file of a modern part; `None` for any other part."""
    source = part.get("source") if isinstance(part, Mapping) else None
    if not isinstance(source, Mapping):
        return None
    kind, value = source.get("type"), source.get("value")
    if not isinstance(kind, str) or not isinstance(value, str) or not isinstance(part.get("type"), str):
        return None
    head, comma, data = value.partition(";base64,") if value.startswith("data:") else (value, "", "")
    return (part["type"], "data", data) if head and comma else (part["type"], kind, value)


def _read_filename(part: Mapping[str, Any]) -> str | None:
    metadata = part.get("metadata")
    return metadata.get("filename") if isinstance(metadata, Mapping) else None


def _add_filename(part: Any, filename: str | None) -> Any:
    if filename is None or not isinstance(part.get("metadata"), Mapping | None):
        return part
    return {**part, "metadata": {**(part.get("metadata") or {}), "filename": filename}}
