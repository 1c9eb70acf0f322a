"""`binary` parts of clients older than AG-UI 1.0, which become parts of AG-UI 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ag_ui import core

from agentrunner import InvalidInput
from agentrunner.server import create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("D1")
PNG = "iVBORw0KGgo="


def binary(mime_type: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"type": "binary", "mimeType": mime_type, **fields}


def modern(kind: str, source: str, value: str, mime_type: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "source": {"type": source, "value": value, "mimeType": mime_type}, **fields}


NAMED = {"metadata": {"filename": "a.png"}}
PICTURE = modern("image", "data", PNG)
CONVERSIONS = [
    (binary(data=PNG), PICTURE),
    (binary(url="https://x.example/a.png"), modern("image", "url", "https://x.example/a.png")),
    (binary(id="file-1"), modern("image", "file", "file-1")),
    (binary(data=PNG, url="https://x.example/a.png", id="file-1"), PICTURE),
    (binary(data="", url=None, id="file-1"), modern("image", "file", "file-1")),
    (binary(data=PNG, filename="a.png"), {**PICTURE, **NAMED}),
    (binary(data=PNG, filename=""), PICTURE),
    (binary("audio/wav", data=PNG), modern("audio", "data", PNG, "audio/wav")),
    (binary("video/mp4", data=PNG), modern("video", "data", PNG, "video/mp4")),
    (binary("application/pdf", data=PNG), modern("document", "data", PNG, "application/pdf")),
    (binary("", data=PNG), modern("document", "data", PNG, "")),
    ({"type": "binary", "mime_type": "image/png", "data": PNG}, PICTURE),
]
TEXT = {"type": "text", "text": "look"}
OTHER = modern("image", "data", "b3RoZXI=")
MIRRORS = [
    ([TEXT, PICTURE, binary(data=PNG)], [TEXT, PICTURE]),
    ([binary(data=PNG), PICTURE], [PICTURE]),
    ([binary(data=PNG, filename="a.png"), {**PICTURE, **NAMED}], [{**PICTURE, **NAMED}]),
    ([PICTURE, binary(data=PNG, filename="a.png")], [{**PICTURE, **NAMED}]),
    ([{**PICTURE, "metadata": {"w": 1}}, binary(data=PNG, filename="a.png")],
     [{**PICTURE, "metadata": {"w": 1, "filename": "a.png"}}]),
    ([{**PICTURE, **NAMED}, binary(data=PNG, filename="b.png")],
     [{**PICTURE, **NAMED}, {**PICTURE, "metadata": {"filename": "b.png"}}]),
    ([PICTURE, binary(url=f"data:image/png;base64,{PNG}")], [PICTURE]),
    ([PICTURE, PICTURE, binary(data=PNG)], [PICTURE, PICTURE]),
    ([binary(data=PNG), binary(data=PNG)], [PICTURE, PICTURE]),
    ([OTHER, binary(data=PNG)], [OTHER, PICTURE]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "expected"), [([old], [new]) for old, new in CONVERSIONS] + MIRRORS)
async def test_an_old_part_becomes_a_modern_one_and_never_a_second_one(
    parts: list[Any], expected: list[Any], memory_factory: Callable[..., AgentRunner]
) -> None:
    if not hasattr(core, "FileSource") and any(part.get("source", {}).get("type") == "file" for part in expected):
        pytest.skip("ag-ui-protocol 0.1 has no part for a file that is named by its id")
    runner = memory_factory()
    message = {"id": "u", "role": "user", "content": parts}
    seen: list[Any] = []

    async def agent(input: Any) -> Any:
        seen.extend(part.model_dump(by_alias=True) for part in input.messages[0].content)
        for event in text_message("m", "a cat"):
            yield event

    stream = await runner.run(agent, make_input(messages=[message]))
    events = [event.to_dict() async for event in stream]
    assert events[0]["input"]["messages"] == [{**message, "content": expected}]
    assert seen == expected
    assert (await runner.threads.messages("t1"))[0]["content"] == expected


@pytest.mark.filterwarnings("ignore:BinaryInputContent is deprecated")
@pytest.mark.parametrize("part", [binary(), binary(data=""), binary(data=5), {"type": "binary", "data": PNG}])
async def test_a_part_without_a_file_is_refused(
    part: dict[str, Any], memory_factory: Callable[..., AgentRunner]
) -> None:
    with pytest.raises(InvalidInput, match=r"messages\.0\.user"):
        await memory_factory().run(agent_with(), make_input(messages=[{"id": "u", "role": "user", "content": [part]}]))


async def test_a_thread_stays_usable_after_an_old_client_sent_a_picture(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    app = create_app(memory_factory(), {"default": agent_with(*text_message("m", "a cat"))})
    messages: list[dict[str, Any]] = [{"id": "u", "role": "user", "content": [TEXT, binary(data=PNG)]}]
    async with client(app) as http:
        for turn in range(2):
            answer = await http.post("/agent/default/run", json=make_input(run=f"r{turn}", messages=messages))
            assert b"RUN_FINISHED" in answer.content
            answer = await http.post("/agent/default/connect", json=make_input(run="c", messages=messages))
            assert b'"binary"' not in answer.content
            messages.append({"id": f"u{turn}", "role": "user", "content": "and now?"})
