"""The same compaction in plain Python, with orjson and dicts."""

from __future__ import annotations

import copy
from typing import Any

import orjson

# kind -> (family, 0 for START, 1 for the delta, 2 for END, key of the id)
STREAMS = {
    f"{family}_{part}": (family, place, key)
    for family, middle, key in (
        ("TEXT_MESSAGE", "CONTENT", "messageId"),
        ("TOOL_CALL", "ARGS", "toolCallId"),
        ("REASONING_MESSAGE", "CONTENT", "messageId"),
    )
    for place, part in enumerate(("START", middle, "END"))
}
CHUNKS = {"TEXT_MESSAGE_CHUNK": "messageId", "TOOL_CALL_CHUNK": "toolCallId", "REASONING_MESSAGE_CHUNK": "messageId"}
ENDS = {"RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"}
BARRIERS = ENDS | {"MESSAGES_SNAPSHOT"}


def compact(lines: list[bytes]) -> list[bytes]:
    out: list[Any] = []
    streams: dict[tuple[str, str], list[Any]] = {}
    state: list[dict[str, Any]] = []
    chunk: list[Any] | None = None
    loads, stream_of = orjson.loads, STREAMS.get
    for line in lines:
        event = loads(line)
        kind = event["type"]
        stream = stream_of(kind)
        if stream is not None:
            chunk = None
            family, part, key = stream
            name = (family, event[key])
            slot = streams.get(name)
            if slot is None or (part == 0 and slot[1] is not None):
                # START, the first delta's event, all deltas, END
                slot = streams[name] = [None, None, [], None]
                out.append(slot)
            if part == 1:
                if slot[1] is None:
                    slot[1] = event
                    event.pop("timestamp", None)
                    event.pop("rawEvent", None)
                elif "metadata" in event:
                    slot[1]["metadata"] = {**slot[1].get("metadata", {}), **event["metadata"]}
                slot[2].append(event["delta"])
            elif part == 0:
                slot[0] = event if slot[0] is None else _merge_starts(slot[0], event)
            else:
                slot[3] = event
                del streams[name]
        elif kind in BARRIERS:
            chunk = None
            if state and kind in ENDS:
                out += _state(state)
                state = []
            streams.clear()
            out.append(line)
        elif kind in ("STATE_SNAPSHOT", "STATE_DELTA"):
            state.append(event)
        elif kind in CHUNKS:
            key = CHUNKS[kind]
            if (
                chunk is not None
                and chunk[1]["type"] == kind
                and event.get(key, chunk[1].get(key)) == chunk[1].get(key)
            ):
                chunk[2].append(event.get("delta", ""))
            else:
                chunk = [None, event, [event.get("delta", "")], None]
                out.append(chunk)
        else:
            chunk = None
            out.append(line)
    return _serialize(out + _state(state))


def _serialize(out: list[Any]) -> list[bytes]:
    lines: list[bytes] = []
    dumps = orjson.dumps
    for slot in out:
        if type(slot) is bytes:
            lines.append(slot)
        elif type(slot) is dict:
            lines.append(dumps(slot))
        else:
            start, delta, deltas, end = slot
            if start is not None:
                lines.append(dumps(start))
            if delta is not None:
                delta["delta"] = "".join(deltas)
                lines.append(dumps(delta))
            if end is not None:
                lines.append(dumps(end))
    return lines


def _merge_starts(before: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    merged = {**before, **event}
    if "metadata" in before and "metadata" in event:
        merged["metadata"] = {**before["metadata"], **event["metadata"]}
    return merged


def _state(events: list[dict[str, Any]]) -> list[Any]:
    last = max((index for index, event in enumerate(events) if event["type"] == "STATE_SNAPSHOT"), default=None)
    if last is None:
        return list(events)
    state = events[last]["snapshot"]
    for event in events[last + 1 :]:
        try:
            patched = copy.deepcopy(state)
            for operation in event["delta"]:
                patched = _patch(patched, operation)
        except (LookupError, ValueError, TypeError):
            continue
        state = patched
    metadata: dict[str, Any] = {}
    for event in events:
        metadata.update(event.get("metadata") or {})
    return [{"type": "STATE_SNAPSHOT", "snapshot": state, **({"metadata": metadata} if metadata else {})}]


def _patch(document: Any, operation: dict[str, Any]) -> Any:
    """Apply one operation of RFC 6902."""
    op, path = operation["op"], operation["path"]
    if op in ("move", "copy"):
        value = copy.deepcopy(_at(document, operation["from"]))
        if op == "move":
            document = _patch(document, {"op": "remove", "path": operation["from"]})
        return _patch(document, {"op": "add", "path": path, "value": value})
    if op == "test":
        if _at(document, path) != operation["value"]:
            raise ValueError(path)
        return document
    if not path:
        return operation.get("value")
    parent, _, key = path.rpartition("/")
    holder, key = _at(document, parent), _name(key)
    if isinstance(holder, list):
        index = len(holder) if key == "-" else int(key)
        if op == "add" and index <= len(holder):
            holder.insert(index, operation["value"])
        elif op == "replace":
            holder[index] = operation["value"]
        else:
            del holder[index]
    elif op == "add":
        holder[key] = operation["value"]
    else:
        del holder[key]
        if op == "replace":
            holder[key] = operation["value"]
    return document


def _at(document: Any, path: str) -> Any:
    for key in path.split("/")[1:]:
        document = document[int(key)] if isinstance(document, list) else document[_name(key)]
    return document


def _name(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~")
