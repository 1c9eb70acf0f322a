"""A SQLite file on a network file system is warned of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agentrunner import SqliteAgentRunner
from agentrunner.stores import _filesystem

MOUNTS = """\
22 28 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /data rw - nfs4 server:/export rw
31 30 0:31 / /data/local rw - xfs /dev/sdb1 rw
32 22 0:32 / /with\\040space rw - cifs //server/share rw
33 22 0:33 / /hidden rw - nfs server:/export rw
34 22 0:34 / /hidden rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/threads.db", None),
        ("/data/threads.db", "nfs4"),
        ("/data/deep/er/threads.db", "nfs4"),
        ("/data/local/threads.db", None),
        ("/database/threads.db", None),
        ("/with space/threads.db", "cifs"),
        ("/hidden/threads.db", None),
    ],
)
def test_the_file_system_of_a_path_is_found(
    path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "mountinfo")
    assert _filesystem.find_network_filesystem(Path(path)) == kind


def test_a_system_without_a_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "nothing")
    assert _filesystem.find_network_filesystem(Path("/data/threads.db")) is None


async def test_opening_on_a_network_file_system_logs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mountinfo").write_text(f"30 22 0:30 / {tmp_path.resolve()} rw - nfs server:/export rw\n")
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "mountinfo")
    with caplog.at_level(logging.WARNING, logger="agentrunner"):
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            await runner.is_running("t")
    assert "network file system (nfs)" in caplog.text
