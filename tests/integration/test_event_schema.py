"""The verdicts of the core's table of AG-UI 1.0, compared with those of the real schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import InvalidEvent, _core
from support.damage import damaged_events
from support.event_generator import EventGenerator
from support.nodejs import ask, install, needs_node

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_node


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    install()


def verdicts(events: list[bytes]) -> dict[str, list[bool]]:
    """Return which events the schema accepts (`new`), and which the client reads (`client`)."""
    [answer] = ask("schemas.mjs", [b'{"events":[' + b",".join(events) + b"]}"])
    return answer


def conform(event: bytes) -> bytes | None:
    """Return an event as it is recorded; `None` if it is refused."""
    try:
        return _core.conform(event)
    except InvalidEvent as error:
        refusal = str(error)
    assert len(refusal) < 400, "an error's text is bounded"
    assert "`" in refusal, "an error names the field"
    return None


def mend(event: bytes) -> bytes | None:
    """Return a stored event as readers get it; `None` if it is left out."""
    frames = _core.run_frames(b"[" + event + b"]", 1, 0).events()
    return bytes(frames[0]) if frames else None


def samples(seed: int) -> Iterator[bytes]:
    generator = EventGenerator(seed)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(20)]
    values += [generator.broken() for _ in range(3000)]
    for value in values:
        text = generator.render(value).encode(errors="surrogatepass")
        if not isinstance(value.get("type"), str):
            continue
        # A lone surrogate is written escaped or not at all. THINKING_* is translated before its fields are checked.
        if b"\xed" not in text and b"THINKING" not in text:
            yield text
    for kind in sorted(generator.kinds):
        for damaged in damaged_events(generator.event(kind)):
            text = json.dumps(damaged).encode()
            if isinstance(damaged.get("type"), str):
                yield text


@pytest.mark.fault("B1")
@pytest.mark.fault("B2")
@pytest.mark.parametrize("seed", range(2))
def test_events_are_kept_mended_or_refused_as_the_real_schema_says(seed: int) -> None:
    events = list(samples(seed))
    accepted = verdicts(events)["new"]
    recorded = [conform(event) for event in events]
    assert 0.1 < sum(accepted) / len(events) < 0.9
    for event, is_accepted, kept in zip(events, accepted, recorded, strict=True):
        # What the schema accepts is never refused or changed, and so what is refused, the schema refuses as well.
        assert not is_accepted or kept == event, event
    kept_events = [kept for kept in recorded if kept is not None]
    unread = [kept for kept, is_read in zip(kept_events, verdicts(kept_events)["client"], strict=True) if not is_read]
    assert unread == []
    assert len(kept_events) < len(events)
    assert any(kept not in (None, event) for event, kept in zip(events, recorded, strict=True))
    assert [conform(kept) for kept in kept_events] == kept_events


@pytest.mark.fault("B1")
@pytest.mark.fault("B3")
def test_stored_events_can_be_read_whatever_an_older_version_has_kept() -> None:
    events = list(samples(7))
    sent = [mend(event) for event in events]
    for event, is_accepted, mended in zip(events, verdicts(events)["new"], sent, strict=True):
        assert not is_accepted or mended == event, event
        kept = conform(event)
        assert kept is None or mended == kept, event
    mended_events = [mended for mended in sent if mended is not None]
    unread = [
        mended for mended, is_read in zip(mended_events, verdicts(mended_events)["client"], strict=True) if not is_read
    ]
    assert unread == []


def paths(value: Any, path: str) -> Iterator[str]:
    """Yield the path of every field in a value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}"
            yield from paths(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, f"{path}[]")


def test_no_field_of_the_schema_is_left_untried() -> None:
    # A later version of the schema shows up here: extend the generator, and then the table of the core.
    generator = EventGenerator(1)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(400)]
    tried = {path for value in values for path in paths(value, value["type"])}
    [answer] = ask("schema_fields.mjs", [b"{}"])
    assert len(answer["fields"]) > 300
    assert [path for path in answer["fields"] if path not in tried] == []
