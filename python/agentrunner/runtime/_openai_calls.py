"""Assembly of tool calls from chat completion chunks, in all forms that providers send."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LlmResponseInvalid
from agentrunner.runtime.llm import ToolCallArgs, ToolCallSealed, ToolCallStart

if TYPE_CHECKING:
    from collections.abc import Iterator


EXTRAS = "chatCompletions"
"""Field of a call's `encryptedValue` with the additional fields that a provider sent with the call."""


def read_extras(call: dict[str, Any]) -> dict[str, Any]:
    """Return the fields to send back with a call; none if another client has sealed it."""
    try:
        extras = json.loads(call.get("encryptedValue") or "{}")[EXTRAS]
    except (ValueError, TypeError, KeyError):
        return {}
    return extras if isinstance(extras, dict) else {}


def _read_extras(delta: Any, function: Any) -> dict[str, Any]:
    """Return a delta's fields that are not part of the protocol, such as `extra_content`."""
    extras = {name: value for name, value in (getattr(delta, "model_extra", None) or {}).items() if value is not None}
    in_function = getattr(function, "model_extra", None) or {}
    if in_function := {name: value for name, value in in_function.items() if value is not None}:
        extras["function"] = in_function
    return extras


def _merge(extras: dict[str, Any], more: dict[str, Any]) -> None:
    """Add fields to others; a later value replaces an earlier one, and objects are merged."""
    for name, value in more.items():
        earlier = extras.get(name)
        if isinstance(earlier, dict) and isinstance(value, dict):
            _merge(earlier, value)
        else:
            extras[name] = value


@dataclass(slots=True)
class _PartialCall:
    id: str
    name: str = ""
    args: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    """Additional fields that the provider wants back with the call."""

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete JSON object, which nothing can follow."""
        try:
            return isinstance(json.loads("".join(self.args)), dict)
        except ValueError:
            return False


class ToolCallAssembler:
    """The tool calls of one response.

    A delta belongs to the call of its `index`. Some providers send no index, or the same one for every call. Some send
    no id, the same id for every call, or a new id with every delta. Some send the name with every delta, or after the
    first delta.
    """

    def __init__(self) -> None:
        self._calls: list[_PartialCall] = []
        self._by_index: dict[int, _PartialCall] = {}
        self._by_id: dict[str, _PartialCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, delta: Any) -> Iterator[ToolCallStart | ToolCallArgs]:
        """Return the events of one delta."""
        index, sent_id = getattr(delta, "index", None), getattr(delta, "id", None) or None
        function = getattr(delta, "function", None)
        name, args = getattr(function, "name", None) or "", getattr(function, "arguments", None) or ""
        if not isinstance(args, str):
            args = json.dumps(args)
        call = self._find_call(index, sent_id, name, args)
        if call is None:
            # An id that another call already has cannot identify this one.
            is_new_id = sent_id is not None and sent_id not in self._by_id
            call = _PartialCall(sent_id if sent_id is not None and is_new_id else f"call-{uuid.uuid4().hex}")
            self._calls.append(call)
            self._by_id[sent_id or call.id] = call
            if isinstance(index, int):
                self._by_index[index] = call
        if name and not call.name:
            call.name = name
            yield ToolCallStart(call.id, name)
            # Arguments that arrived before the name.
            if call.args:
                yield ToolCallArgs(call.id, "".join(call.args))
        _merge(call.extras, _read_extras(delta, function))
        if args:
            call.args.append(args)
            if call.name:
                yield ToolCallArgs(call.id, args)

    def finish(self) -> Iterator[ToolCallArgs | ToolCallSealed]:
        """Return what each call lacks: an empty object as its arguments, and its unknown fields.

        Raises `LlmResponseInvalid` for a call without a name.
        """
        for call in self._calls:
            if not call.name:
                raise LlmResponseInvalid("the model's provider sent a tool call without a name")
            if not "".join(call.args).strip():
                yield ToolCallArgs(call.id, "{}")
            if call.extras:
                yield ToolCallSealed(call.id, json.dumps({EXTRAS: call.extras}, ensure_ascii=False))

    def _find_call(self, index: Any, sent_id: str | None, name: str, args: str) -> _PartialCall | None:
        """Return the call a delta belongs to, `None` if it starts a new one."""
        if sent_id is not None and sent_id in self._by_id:
            call = self._by_id[sent_id]
        elif isinstance(index, int):
            call_at_index = self._by_index.get(index)
            if call_at_index is None or (sent_id is not None and name and call_at_index.name):
                return None
            call = call_at_index
        elif not self._calls or sent_id is not None:
            return None
        else:
            call = self._calls[-1]
        # Another name, or arguments after a complete object, start another call under the same index or id.
        if name and call.name and (name != call.name or (args and call.is_complete())):
            return None
        return call
