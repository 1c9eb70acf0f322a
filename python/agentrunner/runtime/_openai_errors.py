"""Translation of the `openai` package's exceptions into this package's."""

from __future__ import annotations

import math
import re
from typing import Any

import openai

from agentrunner.errors import (
    LlmContextTooLong,
    LlmError,
    LlmOverloaded,
    LlmQuotaExhausted,
    LlmRateLimited,
    LlmRefused,
    LlmRequestInvalid,
    LlmUnauthorized,
    LlmUnreachable,
)
from agentrunner.runtime._provider_errors import add_advice, mask_keys

try:
    from httpx import TimeoutException, TransportError
except ImportError:
    # From its version 3 on, the package has another HTTP client.
    TimeoutException, TransportError = openai.APITimeoutError, openai.APIConnectionError  # type: ignore[misc, assignment]

_TIMEOUTS = (openai.APITimeoutError, TimeoutException)
CONNECTION_ERRORS = (openai.APIConnectionError, TransportError)
"""Errors of a connection: the package, before its version 3, does not wrap those in the middle of a response."""

# Providers report the reason in a code of their own or only in the text, so both are searched.
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum.{0,20}(prompt|input) length|(prompt|input|request).{0,20} too (long|large)"
    r"|too many (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"content.?(filter|policy|management)|ResponsibleAI|moderation|flagged", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient.?(quota|balance|funds|credit)|quota.?exceeded|billing|payment", re.IGNORECASE)


def translate_error(error: openai.OpenAIError | TransportError, model: str) -> LlmError:
    """Return the package's exception as an `LlmError` whose text may be shown to users.

    The provider's own text is its `detail`, with keys masked: it may contain parts of the request.
    """
    if isinstance(error, _TIMEOUTS):
        text = f"the provider of the model '{model}' did not respond in time"
        return LlmUnreachable(add_advice(LlmUnreachable, text))
    if isinstance(error, CONNECTION_ERRORS):
        text = f"the provider of the model '{model}' cannot be reached or closed the connection"
        return LlmUnreachable(add_advice(LlmUnreachable, text))
    if not isinstance(error, openai.APIError):
        return LlmRequestInvalid(f"the request to the model '{model}' cannot be sent", detail=mask_keys(str(error)))
    codes = " ".join(str(code) for code in (error.code, error.type) if code)
    status = error.status_code if isinstance(error, openai.APIStatusError) else _find_status(error.code, error.type)
    retry_after = _read_retry_after(error)
    error_class, words = _classify(status, codes, f"{codes} {error.message}", has_retry_after=retry_after is not None)
    about = ", ".join(str(detail) for detail in (status, error.code or error.type, error.param) if detail)
    text = add_advice(error_class, mask_keys(words.format(model=model) + (f" ({about})" if about else "")))
    return error_class(text, status=status, retry_after=retry_after, detail=mask_keys(error.message))


def _classify(status: int | None, codes: str, text: str, *, has_retry_after: bool) -> tuple[type[LlmError], str]:
    """Return the error's class and text for a status and the provider's codes and text."""
    is_too_long, is_refused = _TOO_LONG.search(text), _REFUSED.search(text)
    if status in (401, 403) and not is_refused:
        return LlmUnauthorized, "the provider of the model '{model}' does not accept the API key"
    if status == 402 or _QUOTA.search(codes) or (status == 429 and not has_retry_after and _QUOTA.search(text)):
        return LlmQuotaExhausted, "the account with the provider of the model '{model}' has no credit left"
    if status == 429 or "rate_limit" in codes:
        return LlmRateLimited, "the provider of the model '{model}' accepts no more requests for now"
    # An error in the middle of a stream has no status; without any other sign it is the provider's failure.
    is_unexplained = status is None and not (is_too_long or is_refused or "invalid_request" in codes)
    if is_unexplained or status in (408, 409) or (status or 0) >= 500:
        return LlmOverloaded, "the provider of the model '{model}' is overloaded or has failed"
    if status == 413 or is_too_long:
        return LlmContextTooLong, "the conversation is too long for the model '{model}'"
    if is_refused:
        return LlmRefused, "the provider of the model '{model}' withheld the response"
    return LlmRequestInvalid, "the provider of the model '{model}' rejected the request"


def _find_status(*codes: object) -> int | None:
    """Return the HTTP status that an error in the middle of a stream has as its code."""
    for code in codes:
        if str(code).isdigit() and 400 <= int(str(code)) <= 599:
            return int(str(code))
    return None


def _read_retry_after(error: openai.APIError) -> float | None:
    """Return the seconds the provider asks to wait, `None` if it names none."""
    headers: Any = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    for header, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[header]) / divisor
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
