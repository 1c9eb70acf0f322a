"""`/transcribe`: passes a recording to the transcription service (docs/spec/http.md §4.9)."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.requests import Request

from agentrunner.server.bodies import is_json, load_json
from agentrunner.server.responses import ApiError, ApiResponse
from agentrunner.server.transcription import Audio, TranscriptionError

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Message

    from agentrunner.server.context import AppContext
    from agentrunner.server.requests import ApiRequest
    from agentrunner.server.transcription import TranscriptionCode

logger = logging.getLogger("agentrunner.server")

_STATUSES: dict[TranscriptionCode, tuple[int, bool]] = {
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
"""HTTP status of each code, and whether the client may retry."""

_AUDIO_TYPES = [f"audio/{kind}" for kind in ("mpeg", "mp3", "mp4", "wav", "webm", "ogg", "flac", "aac")]


async def transcribe_audio(context: AppContext, request: ApiRequest) -> Response:
    """Transcribe the recording in a request."""
    if context.transcriber is None:
        raise _to_api_error(TranscriptionError("service_not_configured"))
    content_type = request.http.headers.get("content-type", "")
    try:
        # The body inside an envelope is JSON, like the envelope.
        if request.is_enveloped or is_json(content_type):
            audio = await _read_json(request.body)
        else:
            audio = await _read_form(request.http, request.body)
        text = await context.transcriber.transcribe(audio)
    except TranscriptionError as error:
        raise _to_api_error(error) from None
    except Exception as error:
        logger.exception("the transcription service failed; the client gets the code provider_error")
        raise _to_api_error(TranscriptionError("provider_error")) from error
    return ApiResponse({"text": text, "size": len(audio.data), "type": audio.mime_type})


def _to_api_error(error: TranscriptionError) -> ApiError:
    status, is_retryable = _STATUSES[error.code]
    return ApiError(status, {"error": error.code, "message": str(error), "retryable": is_retryable})


def _check_mime_type(mime_type: str) -> str:
    """Return the type to pass on. Raises `TranscriptionError` for an unsupported one."""
    base = mime_type.split(";")[0].strip()
    if base in ("", "application/octet-stream"):
        # Browsers that send no type record WebM.
        return "audio/webm"
    if base not in _AUDIO_TYPES:
        raise TranscriptionError(
            "invalid_audio_format", f"Unsupported audio format: {mime_type}. Supported: {', '.join(_AUDIO_TYPES)}"
        )
    return mime_type


async def _read_json(body: bytes) -> Audio:
    value = await load_json(body)
    if not isinstance(value, dict):
        raise TranscriptionError("invalid_request", "Request body must be valid JSON")
    audio, mime_type, filename = value.get("audio"), value.get("mimeType"), value.get("filename")
    if not isinstance(audio, str) or not audio:
        raise TranscriptionError("invalid_request", "Request must include 'audio' field with base64-encoded audio data")
    if not isinstance(mime_type, str) or not mime_type:
        raise TranscriptionError("invalid_request", "Request must include 'mimeType' field (e.g., 'audio/webm')")
    mime_type = _check_mime_type(mime_type)
    try:
        # Clients may send a data URL, whose head ends with a comma.
        data = base64.b64decode(audio.partition(",")[2] or audio, validate=True)
    except (binascii.Error, ValueError):
        raise TranscriptionError("invalid_request", "Failed to decode base64 audio data") from None
    return Audio(data, mime_type, filename if isinstance(filename, str) and filename else "recording.webm")


async def _read_form(http: Request, body: bytes) -> Audio:
    if "multipart/form-data" not in http.headers.get("content-type", ""):
        raise TranscriptionError(
            "invalid_request", "Request must be multipart/form-data or application/json with base64 audio"
        )

    async def receive_body() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    audio = None
    try:
        # The body was read earlier, within the limits.
        async with Request(http.scope, receive_body).form(max_files=4, max_fields=16) as form:
            file = form.get("audio")
            if isinstance(file, UploadFile):
                audio = (await file.read(), file.content_type, file.filename)
    except Exception as error:
        # Starlette would answer a broken form with an HTTPException and a text of its own.
        raise TranscriptionError("invalid_request", "The form could not be read") from error
    if audio is None:
        raise TranscriptionError(
            "invalid_request", "No audio file found in form data. Please include an 'audio' field."
        )
    data, mime_type, filename = audio
    return Audio(data, _check_mime_type(mime_type or ""), filename or "recording.webm")
