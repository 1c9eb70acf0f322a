"""Invalid events, inputs, cursors, bytes and requests for the campaign `hostile`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote

from support.inputs import make_input
from support.random_events import BITS, Dice

DEEP = 1_000_000
ARRAYS, OBJECTS = b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP
METHODS = ("POST", "POST", "POST", "GET", "PATCH", "DELETE", "PUT", "X" * 100)
TYPES = ("application/json", "text/plain", "application/json; charset=\xff", "", "x" * 1000)
PATHS = (
    "/agent/default/run", "/agent/default/connect", "/", "/threads", "/threads/%00/events", "/agent/%ff/run",
    "/threads/x/messages?limit=%00", "/agent/default/stop/x%0d%0ay", "/threads?cursor=%ff&limit=1e9",
)  # fmt: skip
LAST_IDS = ("1", "9" * 30, "1.2.3", "\xff", "x" * 8000, "0.0")


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Nasty(Dice):
    """Random source of invalid input."""

    def no_event(self) -> Any:
        loop: dict[str, Any] = {"type": "CUSTOM", "name": "x"}
        loop["value"] = loop
        bad: list[Any] = [
            b"", b"{", b"[]", b"null", b"\xff", b'{"type":"CUSTOM","name":"x","value":NaN}', b'{"type":null}', {1: 2},
            7, None, object(), loop, '{"type":"CUSTOM","name":"\ud800","value":1}', {"type": "TEXT_MESSAGE_START"},
            b'{"type":"CUSTOM","name":"x","value":1e999}', b'{"type":"X"}{"type":"X"}', b'{"type":"\\ud800"}',
            b'{"type":"RUN_STARTED"}', {"type": "STEP_FINISHED", "stepName": self.text()}, self.randbytes(100),
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": self.text(), "delta": self.text()},
            {"type": "CUSTOM", "name": "x", "value": float("inf")}, b'{"type":"X","\\u0000":1,"\\u0000":2}',
        ]  # fmt: skip
        return self.choice(bad)

    def large_event(self) -> Any:
        return self.choice(
            [
                b'{"type":"CUSTOM","name":"x","value":' + ARRAYS + b"}",
                b'{"type":"CUSTOM","name":"x","value":' + OBJECTS + b"}",
                b"[" * DEEP,
                {"type": "TEXT_MESSAGE_START", "messageId": "x" * DEEP, "role": "assistant"},
                {"type": "CUSTOM", "name": "x", "value": "y" * (5 * DEEP)},
            ]
        )

    def no_input(self, name: str) -> dict[str, Any]:
        bad_input: dict[str, Any] = make_input(name, name)
        for _ in range(self.randrange(1, 4)):
            bad: list[Any] = [
                None, 7, "", "x" * 2000, "\ud800", self.text(), {}, [], self.value(), float("nan"), object(), b"\xff",
                [None], [{"id": ""}], [{"id": self.text(), "role": self.text(), "content": self.value()}],
            ]  # fmt: skip
            bad_input[self.choice([*bad_input, "parentRunId", "resume"])] = self.choice(bad)
        return bad_input

    def no_cursor(self) -> str:
        digits = str(self.randrange(10 ** self.randrange(1, 40)))
        bad = [
            "", ".", "1.", ".1", "1.2.3", "-1", "+1", " 1", "1e3", "٣", "0x1", "\0", "9" * 10_000, digits,
            f"{digits}.{digits}", self.text(), "\ud800", f"1\n{digits}",
        ]  # fmt: skip
        return self.choice(bad)

    def make_mangled(self) -> bytes:
        """Return an event, frames or a run with a mistake in it."""
        event = json.dumps(self.events(1)[0]).encode()
        frames = b"id: 1\ndata: " + event + b"\n\n"
        data = self.choice([event, b"[" + event + b"]", frames, frames * 2, self.randbytes(60), b"id: 1.0\ndata: "])
        for _ in range(self.randrange(4)):
            at = self.randrange(len(data) + 1)
            bits = [self.randbytes(1), self.choice(BITS).encode("utf-8", "surrogatepass"), b"", b'"', b"{", b"]"]
            data = data[:at] + self.choice(bits) + data[at + self.randrange(3) :]
        return data

    def request(self, name: str) -> Request:
        good_body = json.dumps(make_input(name, name)).encode()
        envelope = {"method": self.text(), "params": self.value(), "body": self.value()}
        bodies = [
            good_body, good_body[: self.randrange(len(good_body))], good_body.replace(b"h", b"\xff"),
            self.make_mangled(), b"", self.randbytes(50), b'{"threadId":"\\u0000","runId":"\\ud800"}',
            json.dumps(envelope).encode(),
        ]  # fmt: skip
        anywhere = "/" + quote(self.text().encode("utf-8", "surrogatepass"))
        headers = {"Content-Type": self.choice(TYPES)}
        if self.random() < 0.3:
            headers["Last-Event-ID"] = self.choice(LAST_IDS)
        return Request(self.choice(METHODS), self.choice([*PATHS, anywhere]), headers, self.choice(bodies))
