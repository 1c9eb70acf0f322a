"""Counts in sentences for people."""


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 run` and `2,000 runs`."""
    return f"{number:,} {choose_form(number, noun, noun + 's')}"


def choose_form(number: int, singular: str, plural: str) -> str:
    """Return the form of a word that fits a number."""
    return singular if number == 1 else plural
