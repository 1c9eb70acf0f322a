"""Text that comes from outside, made safe to print."""

from __future__ import annotations

from typing import Any

BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Code points that reorder the text around them, so that a line appears to say something else."""
LINE_SEPARATORS = (0x2028, 0x2029)
"""Code points besides C0's and C1's at which some programs begin a new line."""
C0_AND_C1 = (*range(0x20), *range(0x7F, 0xA0))

_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*C0_AND_C1, *BIDI_CONTROLS, *LINE_SEPARATORS, *range(0xD800, 0xE000))
}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_LINE_ESCAPES = {code: text for code, text in _ESCAPES.items() if code not in (ord("\n"), ord("\t"))}


def escape_controls(text: str, *, is_one_line: bool = True) -> str:
    r"""Return the text with each control character escaped, as in `\x1b`.

    Line breaks and tabs are escaped too, unless `is_one_line` is false. So are lone surrogates, which no output can
    encode, and characters that reorder text.
    """
    return text.translate(_ESCAPES if is_one_line else _LINE_ESCAPES)


def replace_halves(text: str) -> str:
    """Return the text with each lone surrogate replaced by U+FFFD."""
    if text.isascii():
        return text
    # Through UTF-16, which joins the two halves of a surrogate pair into one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escape_argument(value: Any) -> Any:
    """Return an argument of a log line: a number unchanged, anything else as escaped text."""
    return value if value is None or isinstance(value, (int, float)) else escape_controls(str(value))
