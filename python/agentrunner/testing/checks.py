"""Assertions whose errors tell the store's author what to do; they need no pytest."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agentrunner._core import Claim


class _Repr(reprlib.Repr):
    def repr_Claim(self, claim: Claim, level: int) -> str:
        return f"<claim {claim.token} of {claim.thread_id!r} for {claim.run_id!r}>"


_short = _Repr()
_short.maxstring = _short.maxother = 400
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 20


def check(held: object, advice: str) -> None:
    """Fail with the advice unless the condition is true."""
    __tracebackhide__ = True
    if not held:
        raise AssertionError(advice)


def check_equal(actual: object, expected: object, advice: str) -> None:
    """Fail with the advice and both values unless they are equal."""
    __tracebackhide__ = True
    if actual != expected:
        raise AssertionError(f"{advice}\n  found:    {_short.repr(actual)}\n  expected: {_short.repr(expected)}")


async def check_raises(
    errors: type[Exception] | tuple[type[Exception], ...], verb: Awaitable[Any], advice: str
) -> None:
    """Fail with the advice unless awaiting the call raises one of the errors."""
    __tracebackhide__ = True
    names = " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))
    try:
        outcome = await verb
    except errors:
        return
    except Exception as error:
        raise AssertionError(f"{advice}\n  raised:   {error!r}\n  expected: {names}") from error
    raise AssertionError(f"{advice}\n  found:    {_short.repr(outcome)}\n  expected: {names}")
