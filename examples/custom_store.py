"""A store of one's own: threads in memory, and every change of them in a log on disk before anyone is told of it.

For one process: `AgentRunner(LogStore(path))`. The log only grows; who opens it does again what it says was done.
"""

import fcntl
import json
import os
import sys
import time
from dataclasses import astuple
from functools import partial
from pathlib import Path

from agentrunner import MemoryStore, StoreClosed, StoreError, ThreadSummary
from agentrunner.stores import Batch, Change, Claim, Recorder, StoredRun
from agentrunner.types import ANY_SCOPE

ALL = sys.maxsize
LIMITS = {"event_bytes": ALL, "id_bytes": ALL, "window_bytes": ALL, "pending_bytes": ALL}
RUNS = {"claim", "append", "finish", "request_stop", "recover", "abandon"}
THREADS = {"rename", "archive", "delete", "clear", "put", "prune", "write"}


class LogStore:
    """A changing verb is done in memory and written down with its time, in one turn of the event loop."""

    shared, lease_ttl = False, 10.0

    def __init__(self, path, *, resume_window=300.0):
        self.path, self.resume_window = Path(path), resume_window
        self._memory = self._log = None
        self._at = 0

    async def open(self):
        """Read the log. The runs it leaves live were another process's: `recover` gives them to this one."""
        self._log = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._log.close()
            raise StoreError(f"{self.path} is open elsewhere") from error
        self._memory = MemoryStore(max_threads=ALL, max_runs_per_thread=ALL, max_bytes=ALL)
        self._memory.now = lambda: self._at
        self._log.seek(0)
        for line in self._log.readlines():
            if line.endswith(b"\n"):
                self._at, self._memory.resume_window, verb, said = json.loads(line)
                await getattr(self._memory, verb)(*await self._spoken(verb, said))
            else:
                # Its writer died over it and has told nobody.
                self._log.truncate(self._log.tell() - len(line))
        self._memory.resume_window = self.resume_window
        await self._change("abandon")

    async def aclose(self):
        """Let go of the log."""
        self._memory = None
        if self._log:
            self._log.close()

    def __getattr__(self, verb):
        if self._memory is None:
            raise StoreClosed("the store is closed")
        return partial(self._change, verb) if verb in RUNS | THREADS else getattr(self._memory, verb)

    async def _change(self, verb, *said, **fence):
        self._at = max(self._at, int(time.time() * 1000))
        outcome = await getattr(self._memory, verb)(*said, **fence)
        if outcome not in ([], 0):  # else nothing has changed
            try:
                self._write([self._at, self.resume_window, verb, said])
            except OSError as error:
                # The memory is ahead of the log: nothing more is answered from it.
                self._memory = None
                raise StoreError(f"{self.path} cannot be written: {error}") from error
        return outcome

    def _write(self, record):
        line = json.dumps(record, default=_written).encode() + b"\n"
        if self._log.write(line) < len(line):
            raise OSError("there is no room left")
        os.fsync(self._log)

    async def _spoken(self, verb, said):
        """Give a verb's arguments as they were before they were written."""
        if verb in ("append", "finish"):
            ((claim, _),) = await self._memory.live(said[0])
            if verb == "append":
                frames, *place = said[1]
                return claim, Batch(frames.encode(), *place), said[2]
            recorder = Recorder(claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq, **LIMITS)
            recorder.replay((await self._memory.journal(claim.thread_id, claim.first_seq - 1, None, ALL)).frames)
            return claim, recorder, said[2]
        if verb == "put":
            return ThreadSummary(*said[0]), [StoredRun(*run)._replace(events=_bytes(run[4])) for run in said[1]]
        if verb == "write":
            return [[Change(*where, None if value is None else _bytes(value)) for *where, value, _ in said[0]]]
        return [ANY_SCOPE] if said == [[]] else said


def _written(said):
    if isinstance(said, Claim):
        return said.thread_id
    if isinstance(said, Batch):
        return bytes(said).decode(), said.first_seq, said.last_seq - said.first_seq + 1
    if isinstance(said, ThreadSummary):
        return astuple(said)
    if isinstance(said, bytes):
        return said.decode("latin-1")
    return []  # a recorder, which is made again from what was appended; or `ANY_SCOPE`


def _bytes(text):
    return text.encode("latin-1")
