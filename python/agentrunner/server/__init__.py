"""The HTTP server for the stock CopilotKit and AG-UI clients. Needs `agentrunner[server]`."""

try:
    import starlette  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError('the server needs more packages: pip install "agentrunner[server]"') from error

from agentrunner.server.app import AgentApp, create_app
from agentrunner.server.auth import Principal
from agentrunner.server.cors import Cors
from agentrunner.server.headers import ForwardHeaders
from agentrunner.server.limits import Limits
from agentrunner.server.transcription import Audio, Transcriber, TranscriptionError

__all__ = [
    "AgentApp",
    "Audio",
    "Cors",
    "ForwardHeaders",
    "Limits",
    "Principal",
    "Transcriber",
    "TranscriptionError",
    "create_app",
]
