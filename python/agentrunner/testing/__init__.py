"""The conformance suite of the `Store` protocol, for authors of stores.

Write one test file and run `pytest`::

    # test_my_store.py
    import pytest
    from agentrunner.testing import StoreConformance
    from my_store import MyStore

    class TestMyStore(StoreConformance):
        @pytest.fixture(autouse=True)
        def _backing(self, tmp_path):
            self.path = tmp_path / "threads.log"

        def make_store(self, **options):
            return MyStore(self.path, **options)

`make_store` returns a store that is not opened yet. In each test, the first store is empty. A second store of the same
test has the same threads, as if another process had opened them; if the store is not `shared`, the first is closed
before. `options` may have two keys, both in seconds. `lease_ttl` may be ignored by a store without leases, which no
other process can open. `resume_window` is for every store. Set `durable = False` in the class for a store that keeps
nothing after it is closed.

The docstring of each test is a rule of the protocol. A failed test tells which rule is broken, what was found, and what
to do. Rules for shared or durable stores are skipped for others. A test that takes longer than a minute has called a
method that hangs. The suite does not need pytest: each test is a plain method.
"""

from agentrunner.testing.claims import ClaimTests
from agentrunner.testing.copies import CopyTests
from agentrunner.testing.cursors import CursorTests
from agentrunner.testing.finishes import FinishTests
from agentrunner.testing.incarnations import IncarnationTests
from agentrunner.testing.inspection import InspectionTests
from agentrunner.testing.journals import JournalTests
from agentrunner.testing.known_ids import KnownIdTests
from agentrunner.testing.leases import LeaseTests
from agentrunner.testing.limits import LimitTests
from agentrunner.testing.moves import MoveTests
from agentrunner.testing.pruning import PruneTests
from agentrunner.testing.records import RecordTests
from agentrunner.testing.recovery import RecoveryTests
from agentrunner.testing.runners import RunnerTests
from agentrunner.testing.scopes import ScopeTests
from agentrunner.testing.stops import StopTests
from agentrunner.testing.threads import ThreadTests

__all__ = ["StoreConformance"]


class StoreConformance(
    ClaimTests, KnownIdTests, ScopeTests, IncarnationTests, MoveTests, LeaseTests, FinishTests, JournalTests,
    CursorTests, StopTests, RecoveryTests, ThreadTests, RecordTests, CopyTests, PruneTests, InspectionTests, LimitTests,
    RunnerTests,
):  # fmt: skip
    """Every rule of the protocol; subclass it and implement `make_store`."""
