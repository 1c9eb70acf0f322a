"""The lower bounds of the dependencies are those that `make test-lowest` installs."""

from __future__ import annotations

import re
import tomllib

import pytest

from support.paths import ROOT, TESTS

UNTESTED = ("demo",)
"""Extras that cannot be installed together with the others at their lower bounds."""


def read_bounds() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = extras.keys() - set(UNTESTED)
    requirements = [*project["dependencies"], *(each for name in names for each in extras[name])]
    # Each is a name, its lower bound, and the major version that is not supported yet.
    return {re.sub(r">=([0-9.]+),<[0-9.]+$", r"==\1", each) for each in requirements}


def read_pins() -> set[str]:
    pins, _ = (TESTS / "lowest.txt").read_text().split("\n\n")
    return {line for line in pins.splitlines() if not line.startswith("#")}


@pytest.mark.fault("D6")
def test_the_lower_bounds_are_the_versions_that_are_tested() -> None:
    assert read_bounds() == read_pins()
