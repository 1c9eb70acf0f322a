"""Texts of a model provider's errors: without API keys, and with advice."""

from __future__ import annotations

import re

from agentrunner.errors import (
    LlmContextTooLong,
    LlmError,
    LlmOverloaded,
    LlmQuotaExhausted,
    LlmRateLimited,
    LlmUnauthorized,
    LlmUnreachable,
)

_KEY = re.compile(r"\bBearer\s+\S+|\b(sk|pk|rk|key|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{6,}", re.IGNORECASE)
_MAX_CHARACTERS = 500
_ADVICE: dict[type[LlmError], str] = {
    LlmUnauthorized: "check the key and its access to the model",
    LlmQuotaExhausted: "add credit, then try again",
    LlmRateLimited: "try again later",
    LlmOverloaded: "try again later",
    LlmUnreachable: "try again later",
    LlmContextTooLong: "pass a context_manager to the runtime, or start a new thread",
}


def mask_keys(text: str) -> str:
    """Return the first 500 characters of a text, with everything that looks like a key masked."""
    return _KEY.sub("***", text)[:_MAX_CHARACTERS]


def add_advice(error_class: type[LlmError], text: str) -> str:
    """Return an error's text followed by what to do about errors of this class."""
    return f"{text}; {_ADVICE[error_class]}" if error_class in _ADVICE else text
