"""The command line as a whole: version, help, missing packages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.commands import command

if TYPE_CHECKING:
    pass

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_version_and_help_list_every_command() -> None:
    assert command("--version")[1].startswith("agentrunner 0.")
    code, out, _ = command("--help")
    assert code == 0
    for name in ("serve", "threads", "show", "compact", "copy", "prune", "doctor", "demo"):
        assert name in out
        assert command(name, "--help")[0] == 0


def test_missing_packages_are_named_with_the_command_to_install_them() -> None:
    code = "import sys; sys.modules['typer'] = None; from agentrunner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'the command line needs more packages: pip install "agentrunner[cli]"\n'
