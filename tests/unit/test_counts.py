"""Counts in sentences for people."""

import pytest

from agentrunner._counts import format_count


@pytest.mark.parametrize(("number", "expected"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (12_000, "12,000 runs")])
def test_a_noun_has_the_form_that_fits_its_number(number: int, expected: str) -> None:
    assert format_count(number, "run") == expected
