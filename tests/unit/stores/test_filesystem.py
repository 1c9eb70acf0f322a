"""A SQLite file on a file system that several machines share is warned of."""

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
35 22 0:35 / /with\\134backslash rw master:1 propagate_from:2 - virtiofs share rw
36 22 0:36 / /fuse rw - fuse.s3fs s3fs rw
37 22 0:37 / /fuse/local rw - fuse.mergerfs disks rw
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
        ("/with\\backslash/threads.db", "virtiofs"),
        ("/fuse/threads.db", "fuse.s3fs"),
        ("/fuse/local/threads.db", None),
    ],
)
def test_the_file_system_of_a_path_is_found(
    path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "mountinfo")
    assert _filesystem.find_shared_filesystem(Path(path)) == kind


@pytest.mark.fault("D10")
@pytest.mark.parametrize(
    ("kinds", "is_shared"),
    [
        ("nfs nfs4 cifs smb3 9p afs ceph glusterfs lustre gfs2 ocfs2 beegfs gpfs", True),
        ("virtiofs fakeowner grpcfuse osxfs vboxsf vmhgfs prl_fs drvfs", True),
        (
            "fuse fuse.grpcfuse fuse.osxfs fuse.s3fs fuse.sshfs fuse.glusterfs fuse.rclone fuse.gcsfuse fuse.juicefs",
            True,
        ),
        ("ext4 xfs btrfs zfs tmpfs overlay f2fs apfs fuseblk fuse.fuse-overlayfs fuse.gocryptfs fusectl", False),
    ],
)
def test_shared_file_systems_are_known_by_their_types(
    kinds: str, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "mountinfo")
    for kind in kinds.split():
        (tmp_path / "mountinfo").write_text(f"30 22 0:30 / /data rw - {kind} source rw\n")
        assert _filesystem.find_shared_filesystem(Path("/data/threads.db")) == (kind if is_shared else None)


def test_a_system_without_a_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "nothing")
    assert _filesystem.find_shared_filesystem(Path("/data/threads.db")) is None


@pytest.mark.fault("D10")
async def test_opening_on_a_shared_file_system_logs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mountinfo").write_text(f"30 22 0:30 / {tmp_path.resolve()} rw - fakeowner /run/host_mark/Users rw\n")
    monkeypatch.setattr(_filesystem, "MOUNTS", tmp_path / "mountinfo")
    with caplog.at_level(logging.WARNING, logger="agentrunner"):
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            await runner.is_running("t")
    assert "is on a file system (fakeowner)" in caplog.text
