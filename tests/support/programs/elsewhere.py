"""Run a module as if on another machine: `python -m elsewhere <module> <arguments>`.

No other process has this host name and this boot id, so no process can check whether this one is alive.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import socket
import sys
import tempfile
import uuid

NEW_USER, NEW_HOST_NAME, NEW_MOUNTS = 0x10000000, 0x04000000, 0x00020000
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
BOOT_ID = b"/proc/sys/kernel/random/boot_id"


def leave() -> None:
    """Take a host name and a boot id that no other process has. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = NEW_HOST_NAME | NEW_MOUNTS | (0 if os.geteuid() == 0 else NEW_USER)
    with tempfile.NamedTemporaryFile() as boot_id:
        boot_id.write(f"{uuid.uuid4()}\n".encode())
        boot_id.flush()
        if (
            libc.unshare(flags)
            or libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None)
            or libc.mount(boot_id.name.encode(), BOOT_ID, None, BIND, None)
        ):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    socket.sethostname(f"elsewhere-{os.getpid()}")


if __name__ == "__main__":
    leave()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
