"""Times in records: milliseconds since 1970, shown to people as UTC datetimes."""

from __future__ import annotations

import datetime
import time


def now_ms() -> int:
    """Return the current time in milliseconds since 1970."""
    return int(time.time() * 1000)


def utc(milliseconds: int) -> datetime.datetime:
    """Return a time in milliseconds since 1970 as a datetime in UTC."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
