"""What a test says when a rule is broken: what to do, and what was found. It needs no pytest."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agentrunner._core import Claim


class _Repr(reprlib.Repr):
    def repr_Claim(self, claim: Claim, level: int) -> str:  # noqa: N802 - found by the class's name
        return f"<claim {claim.token} of {claim.thread_id!r} for {claim.run_id!r}>"


_short = _Repr()
_short.maxstring = _short.maxother = 400
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 20


def check(held: object, advice: str) -> None:
    """Fail with the advice unless something holds."""
    __tracebackhide__ = True
    if not held:
        raise AssertionError(advice)


def equal(found: object, expected: object, advice: str) -> None:
    """Fail with the advice, and with both values, unless they are equal."""
    __tracebackhide__ = True
    if found != expected:
        raise AssertionError(f"{advice}\n  found:    {_short.repr(found)}\n  expected: {_short.repr(expected)}")


async def refused(errors: type[Exception] | tuple[type[Exception], ...], verb: Awaitable[Any], advice: str) -> None:
    """Fail with the advice unless the verb raises one of the errors."""
    __tracebackhide__ = True
    names = " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))
    try:
        outcome = await verb
    except errors:
        return
    except Exception as error:
        raise AssertionError(f"{advice}\n  raised:   {error!r}\n  expected: {names}") from error
    raise AssertionError(f"{advice}\n  found:    {_short.repr(outcome)}\n  expected: {names}")
