"""Removal of API keys from a model provider's texts before anyone sees them."""

from __future__ import annotations

import re

_KEY = re.compile(r"\bBearer\s+\S+|\b(sk|pk|rk|key|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{6,}", re.IGNORECASE)
_MAX_CHARACTERS = 500


def mask_keys(text: str) -> str:
    """Return the first 500 characters of a text, with everything that looks like a key masked."""
    return _KEY.sub("***", text)[:_MAX_CHARACTERS]
