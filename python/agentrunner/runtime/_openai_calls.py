"""Tool calls put together from the pieces of a stream of chat completions, also where those are not as documented."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LlmResponseInvalid
from agentrunner.runtime.llm import ToolCallArgs, ToolCallStart

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class _PartialCall:
    id: str
    name: str = ""
    args: list[str] = field(default_factory=list)

    def whole(self) -> bool:
        """Tell whether the arguments so far are all there can be."""
        try:
            return isinstance(json.loads("".join(self.args)), dict)
        except ValueError:
            return False


class ToolCallAssembler:
    """The tool calls of one answer.

    A piece belongs to the call of its `index`. There are services that give no index, or the same one to every call;
    no id, the same id to every call, or a new one to every piece; the name with every piece, or behind the first.
    """

    def __init__(self) -> None:
        self._calls: list[_PartialCall] = []
        self._by_index: dict[int, _PartialCall] = {}
        self._by_id: dict[str, _PartialCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, piece: Any) -> Iterator[ToolCallStart | ToolCallArgs]:
        """Take a piece, and give the events it makes."""
        index, given = getattr(piece, "index", None), getattr(piece, "id", None) or None
        function = getattr(piece, "function", None)
        name, args = getattr(function, "name", None) or "", getattr(function, "arguments", None) or ""
        if not isinstance(args, str):
            args = json.dumps(args)
        call = self._known(index, given, name, args)
        if call is None:
            # An id that another call has is not an id.
            fresh = given if given is not None and given not in self._by_id else f"call-{uuid.uuid4().hex}"
            self._calls.append(call := _PartialCall(fresh))
            self._by_id[given or fresh] = call
            if isinstance(index, int):
                self._by_index[index] = call
        if name and not call.name:
            call.name = name
            yield ToolCallStart(call.id, name)
            # What came before the name.
            if call.args:
                yield ToolCallArgs(call.id, "".join(call.args))
        if args:
            call.args.append(args)
            if call.name:
                yield ToolCallArgs(call.id, args)

    def end(self) -> Iterator[ToolCallArgs]:
        """Give what is missing: arguments are an object, also where there are none. Raises `LlmResponseInvalid`."""
        for call in self._calls:
            if not call.name:
                raise LlmResponseInvalid("the model's service gave a tool call without a name")
            if not "".join(call.args).strip():
                yield ToolCallArgs(call.id, "{}")

    def _known(self, index: Any, given: str | None, name: str, args: str) -> _PartialCall | None:
        if given is not None and given in self._by_id:
            call = self._by_id[given]
        elif isinstance(index, int):
            call_at = self._by_index.get(index)
            if call_at is None or (given is not None and name and call_at.name):
                return None
            call = call_at
        elif not self._calls or given is not None:
            return None
        else:
            call = self._calls[-1]
        # The name again and more arguments than there can be: another call in the place of the first.
        if name and call.name and (name != call.name or (args and call.whole())):
            return None
        return call
