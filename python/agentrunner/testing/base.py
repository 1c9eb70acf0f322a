"""What every chapter stands on: the store under test, and tests that run their coroutine themselves."""

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

SECONDS = 60.0
"""How long a test may take before a verb of it is held to hang."""


class Chapter:
    """Tests of one part of the protocol. A test's docstring is the rule it holds the store to.

    A test is an `async def` that asks for an opened store, or opens its own; for pytest it is a plain method.
    """

    durable = True
    """Whether a store made again in the same test has what the one before it kept."""

    def make_store(self, **options: Any) -> Store:
        """Give a store, not opened yet, on the backing of this one test; see `agentrunner.testing`."""
        raise NotImplementedError("a conformance test needs `make_store`, which gives the store to be tested")

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Store]:
        """Open a store for a while: beside one that is open it stands for another process."""
        store = self.make_store(**options)
        await store.open()
        try:
            yield store
        finally:
            await store.aclose()

    def runner(self, **options: Any) -> AgentRunner:
        """Give a runner over a store of its own."""
        return AgentRunner(self.make_store(), **options)

    def needs_durable(self) -> None:
        """Leave the test where nothing is kept once a store is closed."""
        if not self.durable:
            raise SkipTest("binds stores that keep threads after they are closed")

    def __init_subclass__(cls) -> None:
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _plain(test))


def needs_shared(store: Store) -> None:
    """Leave the test where no other process can be."""
    if not store.shared:
        raise SkipTest("binds stores that processes share")


def _plain(test: Test) -> Callable[[Chapter], None]:
    """Give a method that needs no plugin: it runs the test on a loop of its own."""
    asks_for_store = "store" in inspect.signature(test).parameters

    async def run(self: Chapter) -> None:
        async with asyncio.timeout(SECONDS):
            if asks_for_store:
                async with self.opened() as store:
                    await test(self, store)
            else:
                await test(self)

    @functools.wraps(test)
    def method(self: Chapter) -> None:
        try:
            asyncio.run(run(self))
        except SkipTest:
            raise
        except TimeoutError as error:
            error.add_note(f"A verb has not returned for {SECONDS:g} s.")
            error.add_note(f"The rule: {test.__doc__}")
            raise
        except Exception as error:
            error.add_note(f"The rule: {test.__doc__}")
            raise

    # Else pytest would take the store for a fixture.
    method.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)])  # type: ignore[attr-defined]
    return method
