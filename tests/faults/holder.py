"""A worker that writes down each call before it answers it.

Its config: `record`, the file; `die_at`, the call in which it kills itself.
"""

from __future__ import annotations

import os
import signal

from mlports_worker import Worker, current

worker = Worker("holder", concurrency=64)


def _note(number: int) -> None:
    descriptor = os.open(current().config["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)


@worker.method
def run(number: int) -> int:
    _note(number)
    if number == current().config.get("die_at"):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@worker.method
def size(number: int, body: bytes) -> int:
    _note(number)
    return len(body)


worker.run()
