"""The runs that wait for their thread, and the limits on how many may wait."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from agentrunner._checks import check_integer
from agentrunner.errors import TooManyWaiting

if TYPE_CHECKING:
    from typing import TypeAlias

    ThreadKey: TypeAlias = tuple[str, str | None]


class WaitingLine:
    """Counts the runs of this process that wait, by thread, and the bytes of their inputs."""

    def __init__(self, max_waiting: int, max_waiting_bytes: int) -> None:
        check_integer("max_waiting", max_waiting, 0)
        check_integer("max_waiting_bytes", max_waiting_bytes, 0)
        self._max_runs = max_waiting
        self._max_bytes = max_waiting_bytes
        self._runs: Counter[ThreadKey] = Counter()
        self._bytes = 0

    def add(self, thread: ThreadKey, size: int) -> None:
        """Count one more run that waits for a thread. Raises `TooManyWaiting`."""
        if self._runs[thread] >= self._max_runs:
            waiting = self._runs[thread]
            self._forget(thread)
            raise TooManyWaiting(
                f"{waiting} runs are waiting for thread '{thread[0]}', the limit (max_waiting); try again later"
            )
        if self._bytes + size > self._max_bytes:
            self._forget(thread)
            raise TooManyWaiting(
                f"a run of thread '{thread[0]}' cannot wait: its input has {size} bytes and the waiting inputs have "
                f"{self._bytes}, together more than {self._max_bytes} (max_waiting_bytes); try again later"
            )
        self._runs[thread] += 1
        self._bytes += size

    def remove(self, thread: ThreadKey, size: int) -> None:
        """Count one run fewer, which was added before."""
        self._runs[thread] -= 1
        self._bytes -= size
        self._forget(thread)

    def _forget(self, thread: ThreadKey) -> None:
        if not self._runs[thread]:
            del self._runs[thread]


class WaitingPlace:
    """A run's place in the line: taken when it has to wait, and left with the context."""

    def __init__(self, line: WaitingLine, thread: ThreadKey, size: int) -> None:
        self._line = line
        self._thread = thread
        self._size = size
        self._is_taken = False

    def __enter__(self) -> Self:
        return self

    def take(self) -> None:
        """Take the place, unless the run has it already. Raises `TooManyWaiting`."""
        if not self._is_taken:
            self._line.add(self._thread, self._size)
            self._is_taken = True

    def __exit__(self, *error: object) -> None:
        if self._is_taken:
            self._is_taken = False
            self._line.remove(self._thread, self._size)
