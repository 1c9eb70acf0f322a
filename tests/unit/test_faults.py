"""Every row of the list of faults that claims to be mended has a test."""

from __future__ import annotations

import re

from support.paths import ROOT

ROW = re.compile(r"^\| ([A-D]\d+) \|", re.MULTILINE)
NAME = re.compile(r"\b[A-D]\d+\b")
MARK = re.compile(r'fault\("([A-D]\d+)"\)|fault ([A-D]\d+)\b')


def test_every_row_that_is_mended_has_a_test() -> None:
    page = (ROOT / "docs" / "spec" / "faults.md").read_text("utf-8")
    rows = set(ROW.findall(page))
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "rust").rglob("*.rs")]
    marked = {row for path in sources for marks in MARK.findall(path.read_text("utf-8")) for row in marks if row}
    assert len(rows) > 40
    assert rows - marked == set()
    # A row that is still named as open may have tests of its parts.
    assert marked - set(NAME.findall(page)) == set()
