"""Random events of all kinds, as dicts, models and JSON, with texts like frames."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from support.events import text_message

BITS = [
    "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "data:", "data: {}", "id:", "id: 7", "event: x", "retry: 1", ":",
    ": keep-alive", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\0", "\ufeff", "\ud800", "\udfff",
    "\udc00\ud800", "é", "🙂", '"', "\\", "\\n", "</script>", " ", "", "a",
]  # fmt: skip


class Dice(Random):
    def text(self) -> str:
        text = "".join(self.choices(BITS, k=self.randrange(8))) * (500 if self.random() < 0.002 else 1)
        # Two surrogate halves that meet become one character.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def name(self) -> str:
        """Return an id or a kind: valid text of bounded length, because anything else is refused."""
        return self.text()[:100].encode("utf-8", "ignore").decode()

    def value(self, depth: int = 0) -> Any:
        kind = self.randrange(8 if depth < 2 else 5)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.randrange(3))]
        if kind > 4:
            return {self.text(): self.value(depth + 1) for _ in range(self.randrange(3))}
        return [None, True, self.randrange(-(10**25), 10**25), self.random(), self.text()][kind]

    def events(self, count: int) -> list[dict[str, Any]]:
        """Return so many valid events for the middle of a run."""
        events: list[dict[str, Any]] = []
        while len(events) < count:
            kind, extra = self.randrange(5), {self.text() + "~": self.value()} if self.random() < 0.2 else {}
            if kind == 0 and count - len(events) > 5:
                message = f"{len(events)}{self.name()}"
                events += text_message(message, *(self.text() + "." for _ in range(3)))
            elif kind == 1:
                events.append({"type": "RAW", "event": self.value(), "source": self.text()} | extra)
            elif kind == 2:
                events.append({"type": "FROM_THE_FUTURE" + self.name(), "what": self.value()} | extra)
            elif kind == 3:
                events.append({"type": "STATE_SNAPSHOT", "snapshot": {self.text(): self.value()}} | extra)
            else:
                events.append({"type": "CUSTOM", "name": self.text() + "n", "value": self.value()} | extra)
        return events

    def encode_event(self, event: dict[str, Any]) -> Any:
        """Return an event as a dict, a model or JSON, as agents do."""
        plain = json.dumps(event, ensure_ascii=True)
        way = self.randrange(4)
        if way == 0:
            # JSON with line breaks between its tokens.
            return json.dumps(event, indent=self.choice(["\n", "\r\n", "\n\n", "\t"])).encode()
        if way == 1:
            return plain
        if way == 2:
            return plain.encode()
        # A dict with a text that is not UTF-8 cannot be encoded.
        return event if "\\ud" not in plain else plain


def parse_frames(body: bytes) -> list[tuple[str, str]]:
    """Parse an event stream as the HTML standard does; return each event's last id and data.

    Each frame must have exactly these two fields.
    """
    lines = body.decode("utf-8", "strict").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines.pop() == ""
    events: list[tuple[str, str]] = []
    last_id, data, fields = "", [], []
    for line in lines:
        if line == "":
            assert fields == ["id", "data"], fields
            events.append((last_id, "\n".join(data)))
            data, fields = [], []
            continue
        assert not line.startswith(":")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields.append(name)
        if name == "id" and "\0" not in value:
            last_id = value
        elif name == "data":
            data.append(value)
    assert not fields
    return events
