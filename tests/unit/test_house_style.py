"""The house style's rules that a program can check, held over every file that git knows."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from support.house_style import RULES, Violation, find_violations
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED_IN_TESTS: dict[str, int] = {}
"""How many violations are left in `tests/` from before a rule; the numbers only go down."""


@pytest.fixture(scope="module")
def violations() -> dict[str, list[Violation]]:
    by_rule = defaultdict(list)
    for violation in find_violations(ROOT):
        by_rule[violation.rule].append(violation)
    return by_rule


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_outside_the_tests(rule: str, violations: dict[str, list[Violation]]) -> None:
    assert [str(violation) for violation in violations[rule] if not violation.path.startswith("tests/")] == []


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_in_the_tests(rule: str, violations: dict[str, list[Violation]]) -> None:
    in_tests = [str(violation) for violation in violations[rule] if violation.path.startswith("tests/")]
    assert len(in_tests) <= ALLOWED_IN_TESTS.get(rule, 0), "\n" + "\n".join(in_tests)


BROKEN = '''
"""Say what this module does"""
import conftest
from conftest import asked

LIMIT = 3
"""A limit."""

class Store:
    def settled(self, found):
        """Give the outcome of a settlement, whatever somebody may think that it should have been, at length."""
        return found._secret
'''


def test_violations_are_found(tmp_path: Path) -> None:
    for folder in ("python/agentrunner", "tests"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text(BROKEN)
    (tmp_path / "python/agentrunner/other.py").write_text("LIMIT = 4\nclass Store: ...\n" + "\n" * 400)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert {violation.rule for violation in find_violations(tmp_path)} == set(RULES)
