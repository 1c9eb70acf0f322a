"""Agents that kill their process: given up after so many tries, and completed if they stop it before."""

from __future__ import annotations

import signal
import subprocess

import pytest

from campaigns import start

LIVES = 6
"""More than any of them should need."""


def lives(location, notes, kind, step, kills):
    """Start the process until it lives to see the run's end; give how often it died, and what it said then."""
    notes.touch()
    for died in range(LIVES):
        child = start("support.programs.stubborn", location, notes, kind, step, kills, stdout=subprocess.PIPE)
        said, _ = child.communicate()
        if child.returncode == 0:
            return died, said.decode().strip()
        assert child.returncode == -signal.SIGKILL
    raise AssertionError(f"it died {LIVES} times")


def starts(notes):
    return len(notes.read_text())


@pytest.mark.parametrize("kind", ["checkpoint", "approval"])
@pytest.mark.parametrize("step", range(4))
def test_an_agent_that_always_kills_its_process_is_given_up(tmp_path, kind, step):
    notes = tmp_path / "starts"
    died, said = lives(tmp_path / "threads.db", notes, kind, step, 99)
    assert (died, starts(notes)) == (3, 3)
    assert said.startswith("failed 3 ")
    assert "3 times" in said
    # And it stays so.
    assert lives(tmp_path / "threads.db", notes, kind, step, 99) == (0, said)
    assert starts(notes) == 3


def test_it_is_given_up_on_every_store(location, tmp_path):
    notes = tmp_path / "starts"
    died, said = lives(location, notes, "checkpoint", 2, 99)
    assert (died, starts(notes)) == (3, 3)
    assert said.startswith("failed 3 ")


@pytest.mark.parametrize("kind", ["checkpoint", "approval"])
def test_an_agent_that_succeeds_on_the_second_try_completes(location, tmp_path, kind):
    notes = tmp_path / "starts"
    died, said = lives(location, notes, kind, 2, 1)
    assert (died, starts(notes)) == (1, 2)
    assert said == "completed 2 'half and half' None"


def test_an_agent_that_succeeds_on_the_third_try_completes(tmp_path):
    notes = tmp_path / "starts"
    assert lives(tmp_path / "threads.db", notes, "approval", 3, 2) == (2, "completed 3 'half and half' None")
