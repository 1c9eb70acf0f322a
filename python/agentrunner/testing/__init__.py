"""The conformance suite of the `Store` protocol, for authors of stores; it comes with the package.

A store's author writes one test file and runs `pytest`::

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

`make_store` gives a store that is not opened yet, on a backing that is new in each test. Called again in the same test
it gives another on the same backing, as another process would open it; a store that is not `shared` is closed first.
Its `options` are two, in seconds: `lease_ttl`, asked of every store that outlives its process, which one without leases
may ignore; and `resume_window`. `durable = False` in the class is for a store that keeps nothing once it is closed.

A test's docstring is a rule of the protocol; what fails says which rule is broken, what was found, and what to do. What
only binds stores that processes share, or durable ones, is skipped for others and says so. A test that takes longer
than a minute has met a verb that hangs. The suite itself needs no pytest: each test is a plain method.
"""

from agentrunner.testing.claims import Claims
from agentrunner.testing.copies import Copies
from agentrunner.testing.cursors import Cursors
from agentrunner.testing.finishes import Finishes
from agentrunner.testing.inspection import Inspecting
from agentrunner.testing.journals import Journals
from agentrunner.testing.leases import Leases
from agentrunner.testing.limits import Limits
from agentrunner.testing.pruning import Pruning
from agentrunner.testing.records import Records
from agentrunner.testing.recovery import Recovery
from agentrunner.testing.runners import Runners
from agentrunner.testing.scopes import Scopes
from agentrunner.testing.stops import Stops
from agentrunner.testing.threads import Threads

__all__ = ["StoreConformance"]


class StoreConformance(
    Claims, Scopes, Leases, Finishes, Journals, Cursors, Stops, Recovery, Threads, Records, Copies, Pruning, Inspecting,
    Limits, Runners,
):  # fmt: skip
    """Every rule of the protocol. Subclass it, give `make_store`, and let pytest find it."""
