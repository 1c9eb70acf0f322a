"""Where the tests' files are."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
NODE = TESTS / "node"
BROWSER = TESTS / "browser"
EXAMPLES = ROOT / "examples"
TYPESCRIPT_SAMPLE = FIXTURES / "ts-sqlite-runner-sample.db"
"""A database that the TypeScript SQLite runner wrote."""


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a child process that can import `support` and `campaigns`."""
    environment = {**os.environ, **variables}
    paths = [str(TESTS), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}
