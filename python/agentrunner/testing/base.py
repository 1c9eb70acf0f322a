"""The base of all conformance tests: the store under test, and how a test runs."""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from agentrunner.runner import AgentRunner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from agentrunner.stores import Store

    Test = Callable[..., Coroutine[Any, Any, None]]

TEST_SECONDS = 60.0
"""Seconds that a test may take; a longer one has called a method that hangs."""


class ConformanceTests:
    """Tests of one part of the protocol; the docstring of a test is the rule that it checks.

    A test is an `async def` that takes an opened store, or opens its own. For pytest it becomes a plain method.
    """

    durable = True
    """Whether a second store of the same test has the threads that the first has stored."""

    def make_store(self, **options: Any) -> Store:
        """Return a store that is not opened yet; all stores of one test share their threads."""
        raise NotImplementedError("a conformance test needs `make_store`, which returns the store to be tested")

    @asynccontextmanager
    async def open_store(self, **options: Any) -> AsyncIterator[Store]:
        """Open a store; beside one that is open, it stands for another process."""
        store = self.make_store(**options)
        await store.open()
        try:
            yield store
        finally:
            await store.aclose()

    def runner(self, **options: Any) -> AgentRunner:
        """Return a runner over a store of its own."""
        return AgentRunner(self.make_store(), **options)

    def needs_durable(self) -> None:
        """Skip the test for a store that keeps nothing after it is closed."""
        if not self.durable:
            raise SkipTest("only for stores that keep threads after they are closed")

    def __init_subclass__(cls) -> None:
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _plain(test))


def needs_shared(store: Store) -> None:
    """Skip the test for a store that no other process can open."""
    if not store.shared:
        raise SkipTest("only for stores that processes share")


def _plain(test: Test) -> Callable[[ConformanceTests], None]:
    """Return a method that runs the test in an event loop of its own, without a plugin."""
    asks_for_store = "store" in inspect.signature(test).parameters

    async def run(self: ConformanceTests) -> None:
        async with asyncio.timeout(TEST_SECONDS):
            if asks_for_store:
                async with self.open_store() as store:
                    await test(self, store)
            else:
                await test(self)

    @functools.wraps(test)
    def method(self: ConformanceTests) -> None:
        try:
            asyncio.run(run(self))
        except SkipTest:
            raise
        except TimeoutError as error:
            error.add_note(f"A method has not returned for {TEST_SECONDS:g} s.")
            error.add_note(f"The rule: {inspect.cleandoc(test.__doc__ or '')}")
            raise
        except Exception as error:
            error.add_note(f"The rule: {inspect.cleandoc(test.__doc__ or '')}")
            raise

    # Without this signature, pytest would look for a fixture called `store`.
    method.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)])  # type: ignore[attr-defined]
    return method
