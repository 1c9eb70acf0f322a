"""Fault campaigns: each injects a fault many times and counts broken promises.

A campaign is a module here with a `CAMPAIGN`, or `CAMPAIGNS`, a tuple. `test_campaigns.py` runs each of them with few
rounds, and with each of its mutations, which it must notice. `python -m campaigns.torture` runs them in full.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from support import backends
from support.paths import child_environment

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

Backend: TypeAlias = str
BACKENDS: tuple[Backend, ...] = backends.SHARED

HERE = Path(__file__).parent
MUTATION = "AGENTRUNNER_MUTATION"
"""The environment variable that tells a child which guard to drop."""
NOT_APPLIED = "AGENTRUNNER_MUTATION_NOT_APPLIED"
"""The environment variable that names a file for the reason why a guard could not be dropped."""
NAMED = 20
"""How many failures of a campaign are described; the rest are only counted."""


class NotRun(Exception):
    """Raised by a campaign that cannot run on this machine; the text gives the reason."""


@dataclass
class Context:
    """The inputs of a campaign."""

    backend: Backend
    location: str
    """An empty place for threads, for `store_from_url`; removed when the campaign is over."""
    rounds: int
    random: random.Random
    """The only source of chance: the same seed gives the same campaign."""
    folder: Path
    """Empty, on a disk; removed when the campaign is over."""
    tick: Callable[[], None]
    """Called once a round, to advance the progress bar."""
    mutation: str | None = None
    """Name of the guard that the children drop; `None` for a campaign that must pass."""
    patience: float = 1.0
    """The factor that time limits are multiplied by on a busy machine."""


@dataclass
class Outcome:
    """The result of a campaign."""

    figures: dict[str, int | float | str] = field(default_factory=dict)
    """The counts, by their names in the report."""
    failures: list[str] = field(default_factory=list)
    """The first failures, in words."""
    recovery_seconds: list[float] = field(default_factory=list)
    """Seconds from the end of each fault until work continued."""
    failed: int = 0
    """How many failures there were."""

    def fail(self, what: str) -> None:
        """Note that the promise did not hold."""
        self.failed += 1
        if len(self.failures) < NAMED:
            self.failures.append(what)

    def count(self, what: str, by: float = 1) -> None:
        """Add to a figure."""
        self.figures[what] = self.figures.get(what, 0) + by  # type: ignore[operator]


@dataclass(frozen=True)
class Campaign:
    """A promise, and what is done to break it."""

    name: str
    promise: str
    """The row of the table in docs/spec/durability.md."""
    bar: str
    """The figures that must hold; if they do, the campaign has no failures."""
    backends: tuple[Backend, ...]
    small: int
    """Rounds that take a few seconds."""
    full: dict[Backend, int]
    """Rounds of the full campaign, by backend; on a backend that is not listed, the fewest of the others."""
    run: Callable[[Context], Outcome]
    mutations: dict[str, str] = field(default_factory=dict)
    """The dropped guards by mutation name; each must cause failures. Most are functions of `mutations.py`."""

    def rounds_in_full(self, backend: Backend) -> int:
        """Return the number of rounds of the full campaign on a backend."""
        return self.full.get(backend, min(self.full.values()))


def campaigns() -> list[Campaign]:
    """Return all campaigns, ordered by name."""
    all_campaigns: list[Campaign] = []
    for module in pkgutil.iter_modules([str(HERE)]):
        if module.name.startswith("test_"):
            continue
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        all_campaigns += contents.get("CAMPAIGNS", ())
        if "CAMPAIGN" in contents:
            all_campaigns.append(contents["CAMPAIGN"])
    return sorted(all_campaigns, key=lambda campaign: campaign.name)


def start(module: str, *arguments: object, mutation: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m <module> <arguments>` with the tests' modules and a mutation.

    `before`: a command to start it with. Other options go to `Popen`.
    """
    environment = child_environment(**options.pop("env", {}))
    environment.pop(MUTATION, None)
    if mutation is not None:
        environment[MUTATION] = mutation
    command = [*options.pop("before", ()), sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **options)


def complete_lines(log: Path) -> Iterator[bytes]:
    """Yield a log's lines without their ends, and skip a last line that was cut off."""
    if log.exists():
        for line in log.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield line[:-1]
