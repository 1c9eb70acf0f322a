"""A custom store: threads in memory, and every change in a log on disk.

`AgentRunner(LogStore(path))` is for one process. A change is in the log before its caller learns that it was made. The
log only grows; opening the store repeats the changes it lists.
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

UNLIMITED = sys.maxsize
LIMITED = ("event", "id", "window", "pending", "state", "run")
RECORDER_LIMITS = dict.fromkeys((f"{each}_bytes" for each in LIMITED), UNLIMITED)
RUN_VERBS = {"claim", "append", "finish", "request_stop", "recover", "abandon"}
THREAD_VERBS = {"rename", "archive", "delete", "move", "clear", "put", "prune", "write"}


class LogStore:
    """A store that changes its memory and then its log, in one step of the event loop."""

    shared, lease_ttl = False, 10.0

    def __init__(self, path, *, resume_window=300.0):
        self.path, self.resume_window = Path(path), resume_window
        self._memory = self._log = None
        self._now = 0

    async def open(self):
        """Read the log; `recover` then takes over the runs that it leaves live."""
        self._log = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._log.close()
            raise StoreError(f"{self.path} is open elsewhere") from error
        self._memory = MemoryStore(max_threads=UNLIMITED, max_runs_per_thread=UNLIMITED, max_bytes=UNLIMITED)
        self._memory.now = lambda: self._now
        self._log.seek(0)
        for line in self._log.readlines():
            if line.endswith(b"\n"):
                self._now, self._memory.resume_window, verb, arguments = json.loads(line)
                await getattr(self._memory, verb)(*await self._decode(verb, arguments))
            else:
                # The process died while it wrote this line, so no caller has seen the change.
                self._log.truncate(self._log.tell() - len(line))
        self._memory.resume_window = self.resume_window
        await self._change("abandon")

    async def aclose(self):
        """Close the log, which unlocks it."""
        self._memory = None
        if self._log:
            self._log.close()

    def __getattr__(self, verb):
        if verb == "max_run_bytes" or not hasattr(MemoryStore, verb):
            raise AttributeError(verb)  # the log has no limit on the size of a run
        if self._memory is None:
            raise StoreClosed("the store is closed")
        return partial(self._change, verb) if verb in RUN_VERBS | THREAD_VERBS else getattr(self._memory, verb)

    async def _change(self, verb, *arguments, **fence):
        self._now = max(self._now, int(time.time() * 1000))
        outcome = await getattr(self._memory, verb)(*arguments, **fence)
        if outcome not in ([], 0):  # otherwise nothing has changed
            try:
                self._write([self._now, self.resume_window, verb, arguments])
            except OSError as error:
                # The memory is ahead of the log now, so no caller may read it any more.
                self._memory = None
                raise StoreError(f"{self.path} cannot be written: {error}") from error
        return outcome

    def _write(self, change):
        line = json.dumps(change, default=_encode).encode() + b"\n"
        if self._log.write(line) < len(line):
            raise OSError("the disk is full")
        os.fsync(self._log)

    async def _decode(self, verb, arguments):
        """Return a verb's arguments as they were before `_encode`."""
        if verb in ("append", "finish"):
            ((claim, _),) = await self._memory.live(arguments[0])
            if verb == "append":
                frames, *numbers = arguments[1]
                return claim, Batch(frames.encode(), *numbers), arguments[2]
            recorder = Recorder(claim.thread_id, claim.run_id, claim.input, set(), claim.first_seq, **RECORDER_LIMITS)
            recorder.replay((await self._memory.journal(claim.thread_id, claim.first_seq - 1, None, UNLIMITED)).frames)
            return claim, recorder, arguments[2]
        if verb == "put":
            thread, runs = arguments
            return ThreadSummary(*thread), [StoredRun(*run)._replace(events=_bytes(run[4])) for run in runs]
        if verb == "write":
            return [[Change(*key, None if value is None else _bytes(value)) for *key, value, _ in arguments[0]]]
        return [ANY_SCOPE] if arguments == [[]] else arguments


def _encode(argument):
    if isinstance(argument, Claim):
        return argument.thread_id
    if isinstance(argument, Batch):
        return bytes(argument).decode(), argument.first_seq, argument.last_seq - argument.first_seq + 1
    if isinstance(argument, ThreadSummary):
        return astuple(argument)
    if isinstance(argument, bytes):
        return argument.decode("latin-1")
    return []  # a recorder, which `_decode` rebuilds from the journal, or `ANY_SCOPE`


def _bytes(text):
    return text.encode("latin-1")
