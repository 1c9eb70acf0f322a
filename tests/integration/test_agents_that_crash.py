"""Agents that kill their process: completed once they stop, given up after three starts."""

from __future__ import annotations

import signal
import subprocess

import pytest

from campaigns import start

LIVES = 6
"""More starts than any of these runs needs."""


def restart_until_done(location, notes, kind, step, kills):
    """Restart the process until its run ends; return its number of deaths and its output."""
    notes.touch()
    for deaths in range(LIVES):
        child = start("support.programs.stubborn", location, notes, kind, step, kills, stdout=subprocess.PIPE)
        output, _ = child.communicate()
        if child.returncode == 0:
            return deaths, output.decode().strip()
        assert child.returncode == -signal.SIGKILL
    raise AssertionError(f"it died {LIVES} times")


def count_starts(notes):
    return len(notes.read_text())


@pytest.mark.parametrize("kind", ["checkpoint", "approval"])
@pytest.mark.parametrize("step", range(4))
def test_an_agent_that_always_kills_its_process_is_given_up(tmp_path, kind, step):
    notes = tmp_path / "starts"
    deaths, output = restart_until_done(tmp_path / "threads.db", notes, kind, step, 99)
    assert (deaths, count_starts(notes)) == (3, 3)
    assert output.startswith("failed 3 ")
    assert "3 times" in output
    # And it stays so.
    assert restart_until_done(tmp_path / "threads.db", notes, kind, step, 99) == (0, output)
    assert count_starts(notes) == 3


def test_it_is_given_up_on_every_store(location, tmp_path):
    notes = tmp_path / "starts"
    deaths, output = restart_until_done(location, notes, "checkpoint", 2, 99)
    assert (deaths, count_starts(notes)) == (3, 3)
    assert output.startswith("failed 3 ")


@pytest.mark.parametrize("kind", ["checkpoint", "approval"])
def test_an_agent_that_succeeds_on_the_second_try_completes(location, tmp_path, kind):
    notes = tmp_path / "starts"
    deaths, output = restart_until_done(location, notes, kind, 2, 1)
    assert (deaths, count_starts(notes)) == (1, 2)
    assert output == "completed 2 'half and half' None"


def test_an_agent_that_succeeds_on_the_third_try_completes(tmp_path):
    notes = tmp_path / "starts"
    assert restart_until_done(tmp_path / "threads.db", notes, "approval", 3, 2) == (
        2,
        "completed 3 'half and half' None",
    )
