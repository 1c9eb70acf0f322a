"""The HTTP server: what the stock CopilotKit and AG-UI clients talk to. Needs `agentrunner[server]`."""

from agentrunner.server.app import create_app
from agentrunner.server.auth import Principal
from agentrunner.server.cors import Cors
from agentrunner.server.headers import ForwardHeaders
from agentrunner.server.limits import Limits
from agentrunner.server.transcribe import Audio, Transcriber, TranscriptionError

__all__ = [
    "Audio",
    "Cors",
    "ForwardHeaders",
    "Limits",
    "Principal",
    "Transcriber",
    "TranscriptionError",
    "create_app",
]
