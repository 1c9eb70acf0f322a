"""Check options and arguments that users pass; each error names the one that is refused."""

from __future__ import annotations

from agentrunner.errors import InvalidInput

MAX_INTEGER = (1 << 64) - 1
MAX_SECONDS = 1e12
"""Greatest duration in seconds, which every store can add to a time."""


def check_integer(name: str, value: object, least: int = 1) -> None:
    """Raise `ValueError` unless an option is an integer from `least` to 2^64 - 1."""
    if type(value) is bool or not isinstance(value, int) or not least <= value <= MAX_INTEGER:
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {kind}, not {value!r}")


def check_seconds(name: str, value: object, least: float = 0) -> None:
    """Raise `ValueError` unless an option is a number of seconds from `least` to 10^12."""
    if type(value) is bool or not isinstance(value, (int, float)) or not least <= value <= MAX_SECONDS:
        raise ValueError(f"{name} must be a number of seconds from {least} to {MAX_SECONDS:.0e}, not {value!r}")


def check_lease_ttl(value: object) -> None:
    """Raise `ValueError` unless a store can keep its leases for this number of seconds."""
    # Stores count leases in milliseconds.
    check_seconds("lease_ttl", value, 0.001)


def check_option_type(name: str, value: object, *types: type) -> None:
    """Raise `ValueError` unless an option has one of these types."""
    if isinstance(value, types):
        return
    allowed = " or ".join("None" if each is type(None) else each.__name__ for each in types)
    raise ValueError(f"{name} must be {allowed}, not {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise `InvalidInput` unless an argument is text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} must be valid text: {error}") from None


def check_stored_text(name: str, value: object) -> None:
    """Raise `InvalidInput` unless an argument is text that every store can keep."""
    check_text(name, value)
    if "\0" in str(value):
        # PostgreSQL cannot store it in text, and every store must accept the same threads.
        raise InvalidInput(f"{name} cannot contain NUL: {value!r}")


def check_optional_text(name: str, value: object) -> None:
    """Raise `InvalidInput` unless an argument is `None` or text that can be written as UTF-8."""
    if value is not None:
        check_text(name, value)


def check_flag(name: str, value: object) -> None:
    """Raise `InvalidInput` unless an argument is a `bool`."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be True or False, not {value!r}")
