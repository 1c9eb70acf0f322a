"""`/transcribe`: recordings in forms and in JSON, and the errors of the service."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Limits, TranscriptionError
from support.agents import agent_with
from support.asgi import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import InMemoryAgentRunner
    from agentrunner.server import Audio
    from support.asgi import Answer, Client

    MemoryFactory = Callable[..., InMemoryAgentRunner]

SUPPORTED = [f"audio/{kind}" for kind in ("mpeg", "mp3", "mp4", "wav", "webm", "ogg", "flac", "aac")]
UNNAMED = ["", "application/octet-stream"]
BOUNDARY = "xYzZY"


class Scribe:
    """A service that keeps the recordings it gets, and raises `error` if that is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[Audio] = []
        self._error = error

    async def transcribe(self, audio: Audio) -> str:
        self.heard.append(audio)
        if self._error is not None:
            raise self._error
        return "hello ü"


@pytest.fixture
def scribe() -> Scribe:
    return Scribe()


@pytest.fixture
def client(memory_factory: MemoryFactory, scribe: Scribe) -> Client:
    return client_of(memory_factory(), {"default": agent_with()}, transcriber=scribe)


def form(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """Return a form of parts, each with its header lines and its content."""
    body = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), head.encode(), data) for head, data in parts)
    return {
        "content": body + b"--%s--\r\n" % BOUNDARY.encode(),
        "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    }


def file(data: bytes, mime_type: str | None = "audio/wav", *, name: str = "audio", filename: str = "a.wav") -> Any:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return (head if mime_type is None else f"{head}\r\nContent-Type: {mime_type}", data)


def spoken(data: bytes = b"sound", mime_type: Any = "audio/wav", **more: Any) -> dict[str, Any]:
    return {"audio": base64.b64encode(data).decode(), "mimeType": mime_type} | more


def read_error(answer: Answer, status: int, error: str, *, retryable: bool = False) -> str:
    """Check an error response and return its message."""
    body = answer.json()
    assert (answer.status, body["error"], body["retryable"]) == (status, error, retryable)
    assert set(body) == {"error", "message", "retryable"}
    assert body["message"]
    message: str = body["message"]
    return message


@pytest.mark.parametrize("options", [{"content": spoken()}, form(file(b"x")), {"content": b"{"}, {"content": None}])
async def test_without_a_service_transcription_is_refused(options: Any, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": agent_with()}).post("/transcribe", **options)
    assert read_error(answer, 503, "service_not_configured") == "Transcription service is not configured"


# Forms


async def test_a_recording_in_a_form(client: Client, scribe: Scribe) -> None:
    answer = await client.post("/transcribe", **form(file(b"\x00sound\r\n\xff")))
    assert (answer.status, answer.json()) == (200, {"text": "hello ü", "size": 9, "type": "audio/wav"})
    (audio,) = scribe.heard
    assert (audio.data, audio.mime_type, audio.filename) == (b"\x00sound\r\n\xff", "audio/wav", "a.wav")


@pytest.mark.parametrize("mime_type", [*SUPPORTED, "audio/webm; codecs=opus", "audio/webm;codecs=opus"])
async def test_a_form_with_each_supported_type(mime_type: str, client: Client) -> None:
    assert (await client.post("/transcribe", **form(file(b"x", mime_type)))).json()["type"] == mime_type


@pytest.mark.parametrize("mime_type", [None, *UNNAMED])
async def test_a_form_without_a_type_is_taken_as_webm(mime_type: str | None, client: Client, scribe: Scribe) -> None:
    answer = await client.post("/transcribe", **form(file(b"x", mime_type)))
    assert answer.json()["type"] == scribe.heard[0].mime_type == "audio/webm"


@pytest.mark.parametrize("mime_type", ["text/plain", "video/mp4", "audio/midi", "audio/", "AUDIO", "application/json"])
async def test_a_form_with_another_type_is_refused(mime_type: str, client: Client, scribe: Scribe) -> None:
    message = read_error(await client.post("/transcribe", **form(file(b"x", mime_type))), 400, "invalid_audio_format")
    assert all(part in message for part in (mime_type, *SUPPORTED))
    assert not scribe.heard


@pytest.mark.parametrize(
    "options",
    [
        form(), form(file(b"x", name="file")), form(('Content-Disposition: form-data; name="audio"', b"text")),
        form(file(b"x", name="Audio")), form(('Content-Disposition: form-data; name="other"', b"1")),
    ],
)  # fmt: skip
async def test_a_form_without_a_recording_is_refused(options: Any, client: Client) -> None:
    message = read_error(await client.post("/transcribe", **options), 400, "invalid_request")
    assert "'audio'" in message


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", f"multipart/form-data; boundary={BOUNDARY}"), (b"x", f"multipart/form-data; boundary={BOUNDARY}"),
        (form(file(b"x"))["content"][:-20], f"multipart/form-data; boundary={BOUNDARY}"),
        (form(file(b"x"))["content"], "multipart/form-data"),
        (form(file(b"x"))["content"], "multipart/form-data; boundary="),
        (form(file(b"x"))["content"], "multipart/form-data; boundary=other"),
        (b"--xYzZY\r\n\xff\xff: \r\n\r\n", f"multipart/form-data; boundary={BOUNDARY}"),
        (form(*[file(b"x", name=f"f{n}") for n in range(100)])["content"], f"multipart/form-data; boundary={BOUNDARY}"),
        (form(*[(f'Content-Disposition: form-data; name="{n}"', b"x") for n in range(2_000)])["content"],
         f"multipart/form-data; boundary={BOUNDARY}"),
    ],
    ids=range(9),
)  # fmt: skip
async def test_a_form_that_cannot_be_read_is_refused(
    content: bytes, content_type: str, client: Client, scribe: Scribe
) -> None:
    answer = await client.post("/transcribe", content, headers={"content-type": content_type})
    read_error(answer, 400, "invalid_request")
    assert not scribe.heard


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a b.webm", "ü.wav", "x" * 500])
async def test_a_file_name_is_passed_on_unchanged(filename: str, client: Client, scribe: Scribe) -> None:
    assert (await client.post("/transcribe", **form(file(b"x", filename=filename)))).status == 200
    assert scribe.heard[0].filename == filename


async def test_a_recording_with_other_fields(client: Client, scribe: Scribe) -> None:
    other = ('Content-Disposition: form-data; name="language"', b"en")
    assert (await client.post("/transcribe", **form(other, file(b"first")))).status == 200
    assert scribe.heard[0].data == b"first"


async def test_an_empty_recording_is_left_to_the_service(client: Client) -> None:
    assert (await client.post("/transcribe", **form(file(b"")))).json()["size"] == 0


async def test_a_large_recording(memory_factory: MemoryFactory, scribe: Scribe) -> None:
    client = client_of(
        memory_factory(), {"default": agent_with()}, transcriber=scribe, limits=Limits(body_bytes=3 << 20)
    )
    assert (await client.post("/transcribe", **form(file(bytes(2 << 20))))).json()["size"] == 2 << 20
    assert (await client.post("/transcribe", **form(file(bytes(3 << 20))))).status == 413


# JSON


async def test_a_recording_as_json(client: Client, scribe: Scribe) -> None:
    answer = await client.post("/transcribe", spoken(b"\x00\xff", filename="b.wav"))
    assert (answer.status, answer.json()) == (200, {"text": "hello ü", "size": 2, "type": "audio/wav"})
    assert (scribe.heard[0].data, scribe.heard[0].filename) == (b"\x00\xff", "b.wav")


@pytest.mark.parametrize("filename", [None, "", 1, [], {}])
async def test_a_recording_without_a_name(filename: Any, client: Client, scribe: Scribe) -> None:
    assert (await client.post("/transcribe", spoken(filename=filename))).status == 200
    assert scribe.heard[0].filename == "recording.webm"


async def test_a_recording_as_a_data_url(client: Client, scribe: Scribe) -> None:
    content = spoken()
    content["audio"] = f"data:audio/webm;codecs=opus;base64,{content['audio']}"
    assert (await client.post("/transcribe", content)).status == 200
    assert scribe.heard[0].data == b"sound"


@pytest.mark.parametrize("mime_type", [*SUPPORTED, "audio/webm; codecs=opus"])
async def test_json_with_each_supported_type(mime_type: str, client: Client) -> None:
    assert (await client.post("/transcribe", spoken(mime_type=mime_type))).json()["type"] == mime_type


async def test_json_with_a_generic_type_is_taken_as_webm(client: Client) -> None:
    answer = await client.post("/transcribe", spoken(mime_type="application/octet-stream"))
    assert answer.json()["type"] == "audio/webm"


@pytest.mark.parametrize("mime_type", ["text/plain", "video/webm", "audio/x-wav", "audio"])
async def test_json_with_another_type_is_refused(mime_type: str, client: Client) -> None:
    read_error(await client.post("/transcribe", spoken(mime_type=mime_type)), 400, "invalid_audio_format")


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff", b"[" * 1_000_000])
async def test_a_request_must_be_an_object(content: bytes, client: Client) -> None:
    assert (
        read_error(await client.post("/transcribe", content), 400, "invalid_request")
        == "Request body must be valid JSON"
    )


@pytest.mark.parametrize("audio", [None, "", 1, True, [], {}, ["c291bmQ="]])
async def test_audio_must_be_a_non_empty_string(audio: Any, client: Client) -> None:
    answer = await client.post("/transcribe", {"audio": audio, "mimeType": "audio/wav"})
    assert "'audio'" in read_error(answer, 400, "invalid_request")


@pytest.mark.parametrize("mime_type", [None, "", 1, True, [], {}])
async def test_a_mime_type_must_be_a_non_empty_string(mime_type: Any, client: Client) -> None:
    assert "'mimeType'" in read_error(
        await client.post("/transcribe", spoken(mime_type=mime_type)), 400, "invalid_request"
    )


@pytest.mark.parametrize("audio", ["!", "a", "c291bmQ", "ab=c", "c2 91", "ü", "data:audio/wav;base64,!", ",!", "\0"])
async def test_invalid_base64_is_refused(audio: str, client: Client, scribe: Scribe) -> None:
    answer = await client.post("/transcribe", {"audio": audio, "mimeType": "audio/wav"})
    assert read_error(answer, 400, "invalid_request") == "Failed to decode base64 audio data"
    assert not scribe.heard


@pytest.mark.parametrize("content_type", ["", "text/plain", "audio/wav", "application/octet-stream"])
async def test_a_body_that_is_neither_a_form_nor_json(content_type: str, client: Client) -> None:
    answer = await client.post("/transcribe", json.dumps(spoken()).encode(), headers={"content-type": content_type})
    assert "multipart/form-data" in read_error(answer, 400, "invalid_request")


# Errors of the service


CODES = {
    "service_not_configured": (503, False),
    "invalid_audio_format": (400, False),
    "audio_too_long": (400, False),
    "audio_too_short": (400, False),
    "rate_limited": (429, True),
    "auth_failed": (401, False),
    "provider_error": (500, True),
    "network_error": (502, True),
    "invalid_request": (400, False),
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("message", [None, "in its own words"])
async def test_each_error_code_has_its_status(code: Any, message: str | None, memory_factory: MemoryFactory) -> None:
    scribe = Scribe(TranscriptionError(code, message))
    client = client_of(memory_factory(), {"default": agent_with()}, transcriber=scribe)
    status, retryable = CODES[code]
    words = read_error(await client.post("/transcribe", spoken()), status, code, retryable=retryable)
    assert message is None or words == message


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), ValueError("429 secret"), TimeoutError(), KeyError("secret")]
)
async def test_any_other_error_is_not_revealed(error: Exception, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": agent_with()}, transcriber=Scribe(error))
    words = read_error(await client.post("/transcribe", spoken()), 500, "provider_error", retryable=True)
    assert "secret" not in words
