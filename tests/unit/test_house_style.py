"""The house style's rules that a program can check, held over every file that git knows."""

from __future__ import annotations

from collections import defaultdict

import pytest

from support.house_style import RULES, Violation, find_violations
from support.paths import ROOT

ALLOWED = {
    "class-name": 14,
    "constant-name": 60,
    "field-words": 5,
    "file-length": 24,
    "function-participle": 230,
    "local-name": 560,
    "summary-length": 900,
    "summary-stop": 6,
    "summary-verb": 490,
    "underscore": 8,
    "words": 150,
}
"""How many violations of a rule are left from before the rule; the numbers only go down."""


@pytest.fixture(scope="module")
def violations() -> dict[str, list[Violation]]:
    by_rule = defaultdict(list)
    for violation in find_violations(ROOT):
        by_rule[violation.rule].append(violation)
    return by_rule


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_everywhere(rule: str, violations: dict[str, list[Violation]]) -> None:
    found = violations[rule]
    assert len(found) <= ALLOWED.get(rule, 0), "\n" + "\n".join(map(str, found))
