"""The context of a campaign: an empty location for threads, a folder, seeded randomness."""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns import Context
from support import backends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from campaigns import Backend, Campaign


@contextmanager
def context(
    campaign: Campaign,
    backend: Backend,
    rounds: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
    mutation: str | None = None,
    patience: float = 1.0,
) -> Iterator[Context]:
    """Yield a campaign's context, and remove what the campaign left behind."""
    # A separate random source: one campaign's draws do not affect the next campaign.
    chance = random.Random(f"{seed}/{campaign.name}/{backend}")  # noqa: S311 - the same each time
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with backends.place(backend, folder) as location:
            yield Context(backend, location, rounds, chance, folder, tick, mutation, patience)
