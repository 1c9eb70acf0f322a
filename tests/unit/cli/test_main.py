"""The command line as a whole: version, help, missing packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from agentrunner.cli import COMMANDS
from support.commands import command
from support.paths import ROOT

pytestmark = pytest.mark.processes


def test_version_and_help_list_every_command() -> None:
    assert command("--version")[1].startswith("agentrunner 0.")
    code, out, _ = command("--help")
    assert code == 0
    for each in COMMANDS:
        assert each.__name__ in out
        assert command(each.__name__, "--help")[0] == 0


def test_the_readme_has_a_row_for_every_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [each.__name__ for each in COMMANDS if f"| `agentrunner {each.__name__}" not in readme] == []


def test_missing_packages_are_named_with_the_command_to_install_them() -> None:
    code = "import sys; sys.modules['typer'] = None; from agentrunner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'the command line needs more packages: pip install "agentrunner[cli]"\n'
