"""Speech to text: the interface that an application implements to offer `/transcribe`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

TranscriptionCode: TypeAlias = Literal[
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

DEFAULT_MESSAGES: dict[TranscriptionCode, str] = {
    "service_not_configured": "Transcription service is not configured",
    "invalid_audio_format": "Unsupported audio format",
    "audio_too_long": "Audio file is too long",
    "audio_too_short": "Audio is too short to transcribe",
    "rate_limited": "Rate limited. Please try again later.",
    "auth_failed": "Authentication failed with transcription provider",
    "provider_error": "The transcription provider failed",
    "network_error": "Network error during transcription",
    "invalid_request": "Invalid request",
}
"""Message of each code, for an error that has none of its own."""


class TranscriptionError(Exception):
    """The failure of a transcription service, with a code that clients know.

    Args:
        code: Kind of failure; it decides the HTTP status, and whether the response tells the client to retry.
        message: Text for the user; by default a sentence about the code.

    Example:
        raise TranscriptionError("rate_limited")

    """

    def __init__(self, code: TranscriptionCode, message: str | None = None) -> None:
        super().__init__(message or DEFAULT_MESSAGES[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording to transcribe.

    Args:
        data: Content of the audio file.
        mime_type: Type of the file, such as `audio/webm`.
        filename: Name of the file; `recording.webm` if the client sent none.

    """

    data: bytes
    mime_type: str
    filename: str


class Transcriber(Protocol):
    """A transcription service: any object with this method.

    Example:
        class Whisper:
            async def transcribe(self, audio: Audio) -> str:
                file = (audio.filename, audio.data, audio.mime_type)
                return (await openai.audio.transcriptions.create(model="whisper-1", file=file)).text

        create_app(runner, agents, transcriber=Whisper())

    """

    async def transcribe(self, audio: Audio, /) -> str:
        """Return the spoken text of a recording.

        Args:
            audio: The recording.

        Returns:
            The text.

        Raises:
            TranscriptionError: The service failed in a way that clients know; any other exception is reported as
                `provider_error`, and its text is only logged.

        """
        ...
