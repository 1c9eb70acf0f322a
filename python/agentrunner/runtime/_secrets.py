"""Texts of others that are shown, without keys in them."""

from __future__ import annotations

import re

_KEY = re.compile(r"\bBearer\s+\S+|\b(sk|pk|rk|key|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{6,}", re.IGNORECASE)
_SHOWN = 500
"""Characters that are kept."""


def masked(text: str) -> str:
    """Give the beginning of a text, without what looks like a key."""
    return _KEY.sub("***", text)[:_SHOWN]
