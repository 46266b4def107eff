"""The SDK for worker programs in Python. It needs msgpack alone.

    from mlports_worker import Worker

    worker = Worker("digits")

    @worker.method
    def double(x):
        return 2 * x

    worker.run()

Import it first: from then on standard output belongs to the protocol, and what prints prints on standard error.
"""

from .context import Context, current
from .failures import CallFailed, Cancelled, Failure
from .stacks import tell_stacks
from .stdio import started_by_orchestrator, take_channel
from .worker import Worker

__version__ = "0.1.0"

__all__ = ["CallFailed", "Cancelled", "Context", "Failure", "Worker", "current"]


def begin() -> None:
    """What the first import does in a worker; for a process that has imported this before it became one."""
    if started_by_orchestrator():
        tell_stacks()
        take_channel()


begin()
