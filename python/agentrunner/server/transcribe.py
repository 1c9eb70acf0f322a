"""`/transcribe`: speech to text by a service of one's own (docs/spec/http.md §4.9)."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from starlette.datastructures import UploadFile
from starlette.requests import Request

from agentrunner.server.envelope import is_json, load
from agentrunner.server.responses import ApiError, ApiResponse

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Message

logger = logging.getLogger("agentrunner.server")

Code: TypeAlias = Literal[
    "service_not_configured",
    "invalid_audio_format",
    "audio_too_long",
    "audio_too_short",
    "rate_limited",
    "auth_failed",
    "provider_error",
    "network_error",
    "invalid_request",
]

_ANSWERS: dict[str, tuple[int, bool, str]] = {
    "service_not_configured": (503, False, "Transcription service is not configured"),
    "invalid_audio_format": (400, False, "Unsupported audio format"),
    "audio_too_long": (400, False, "Audio file is too long"),
    "audio_too_short": (400, False, "Audio is too short to transcribe"),
    "rate_limited": (429, True, "Rate limited. Please try again later."),
    "auth_failed": (401, False, "Authentication failed with transcription provider"),
    "provider_error": (500, True, "The transcription provider failed"),
    "network_error": (502, True, "Network error during transcription"),
    "invalid_request": (400, False, "Invalid request"),
}
"""Of each code the status, whether trying again may help, and the words where none are given."""

_AUDIO = ("mpeg", "mp3", "mp4", "wav", "webm", "ogg", "flac", "aac")
_AUDIO_TYPES = [f"audio/{kind}" for kind in _AUDIO]


class TranscriptionError(Exception):
    """Raised by a transcription service to say what went wrong, by a code clients know."""

    def __init__(self, code: Code, message: str | None = None) -> None:
        super().__init__(message or _ANSWERS[code][2])
        self.code = code


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording."""

    data: bytes
    mime_type: str
    filename: str


class Transcriber(Protocol):
    """A transcription service: any object with this method."""

    async def transcribe(self, audio: Audio, /) -> str:
        """Give the text that is spoken. Raises `TranscriptionError`; anything else is a `provider_error`."""
        ...


async def transcribe(transcriber: Transcriber | None, request: Request, body: bytes, *, bridged: bool) -> Response:
    """Answer a request; `bridged`: it came in an envelope, which carries JSON."""
    if transcriber is None:
        raise _refusal(TranscriptionError("service_not_configured"))
    content_type = request.headers.get("content-type", "")
    try:
        audio = _from_json(body) if bridged or is_json(content_type) else await _from_form(request, body)
        text = await transcriber.transcribe(audio)
    except TranscriptionError as error:
        raise _refusal(error) from None
    except Exception as error:
        logger.exception("the transcription service failed")
        raise _refusal(TranscriptionError("provider_error")) from error
    return ApiResponse({"text": text, "size": len(audio.data), "type": audio.mime_type})


def _refusal(error: TranscriptionError) -> ApiError:
    status, retryable, _ = _ANSWERS[error.code]
    return ApiError(status, {"error": error.code, "message": str(error), "retryable": retryable})


def _checked(mime_type: str) -> str:
    """Give the type as it is passed on: browsers leave it out, and record WebM then."""
    base = mime_type.split(";")[0].strip()
    if base in ("", "application/octet-stream"):
        return "audio/webm"
    if base not in _AUDIO_TYPES:
        raise TranscriptionError(
            "invalid_audio_format", f"Unsupported audio format: {mime_type}. Supported: {', '.join(_AUDIO_TYPES)}"
        )
    return mime_type


def _from_json(body: bytes) -> Audio:
    value = load(body)
    if not isinstance(value, dict):
        raise TranscriptionError("invalid_request", "Request body must be valid JSON")
    audio, mime_type, filename = value.get("audio"), value.get("mimeType"), value.get("filename")
    if not isinstance(audio, str) or not audio:
        raise TranscriptionError("invalid_request", "Request must include 'audio' field with base64-encoded audio data")
    if not isinstance(mime_type, str) or not mime_type:
        raise TranscriptionError("invalid_request", "Request must include 'mimeType' field (e.g., 'audio/webm')")
    mime_type = _checked(mime_type)
    try:
        # A data URL's head may stand before it.
        data = base64.b64decode(audio.partition(",")[2] or audio, validate=True)
    except (binascii.Error, ValueError):
        raise TranscriptionError("invalid_request", "Failed to decode base64 audio data") from None
    return Audio(data, mime_type, filename if isinstance(filename, str) and filename else "recording.webm")


async def _from_form(request: Request, body: bytes) -> Audio:
    if "multipart/form-data" not in request.headers.get("content-type", ""):
        raise TranscriptionError(
            "invalid_request", "Request must be multipart/form-data or application/json with base64 audio"
        )

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, again).form(max_files=4, max_fields=16) as form:
            file = form.get("audio")
            found = (await file.read(), file.content_type, file.filename) if isinstance(file, UploadFile) else None
    except Exception as error:
        # Starlette answers a broken form with an HTTPException of its own words.
        raise TranscriptionError("invalid_request", "The form could not be read") from error
    if found is None:
        raise TranscriptionError(
            "invalid_request", "No audio file found in form data. Please include an 'audio' field."
        )
    data, mime_type, filename = found
    return Audio(data, _checked(mime_type or ""), filename or "recording.webm")
