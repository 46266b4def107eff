"""What every test gets: the check that it leaves nothing behind, and the settings of the tools that it runs with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import settings

from tests import leaks

leaks.mark_children()

# libuv opens one pipe with its first loop and keeps it for as long as the process lives; it is no test's leak.
if find_spec("uvloop"):
    import uvloop

    uvloop.new_event_loop().close()

# How long an example takes says more about what else the machine is doing than about the code; pytest's timeout stays.
settings.register_profile("mlports", deadline=None)
settings.load_profile("mlports")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a process, a file descriptor, a thread or a shared-memory segment behind, and name it.

    It is set up after the fixtures of a module or session, whose things may stay, and before a test's own fixtures and
    event loop, whose things may not.
    """
    before = leaks.snapshot()
    yield
    left = leaks.leaks(before, leaks.PATIENCE)
    if left:
        leaks.end_processes(before)
        pytest.fail("The test left behind:\n  " + "\n  ".join(left), pytrace=False)
