"""The package's loggers, which escape control characters that come from outside."""

from __future__ import annotations

import logging

from agentrunner._text import escape_argument, escape_controls

LOGGER_NAMES = (
    "agentrunner", "agentrunner.access", "agentrunner.harness", "agentrunner.records", "agentrunner.runtime",
    "agentrunner.server",
)  # fmt: skip
"""Every logger of the package; a logger's filter does not apply to the loggers below it."""


class EscapingFilter(logging.Filter):
    """Escapes control characters in a line's arguments and traceback.

    Ids, names and error texts come from users and models. Without this, one with a line break could forge a line of the
    log, and one with escape sequences could take over the terminal that shows it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the record's arguments and traceback; keep every record."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(escape_argument, record.args))
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            # Handlers reuse this text. A traceback has lines, so its line breaks stay.
            traceback = logging.Formatter().formatException(record.exc_info)
            record.exc_text = escape_controls(traceback, is_one_line=False)
        return True


def install_filter() -> None:
    """Make every logger of the package escape what it logs."""
    for name in LOGGER_NAMES:
        logging.getLogger(name).addFilter(EscapingFilter())
