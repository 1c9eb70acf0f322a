"""The links and paths in the documentation lead to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.house_style import tracked_files
from support.paths import ROOT

PAGES = [path for path in tracked_files(ROOT) if path.suffix == ".md"]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
PATH = re.compile(
    r"(?<![\w/.`…])`?((?:python|rust|tests|docs|examples|benches|running|reading|stores|records|harness|runtime|server|cli)"
    r"/[\w/.-]+)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    bases = [ROOT, ROOT / "python" / "agentrunner", ROOT / "rust" / "core" / "src"]
    paths = [path.rstrip(".,") for path in PATH.findall(text)]
    missing = [path for path in paths if not any((base / path).exists() for base in bases)]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []
