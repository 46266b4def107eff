"""A worker made with the SDK whose author was careless: each method, or argument of the program, is one mistake.

    python careless.py [prints-first | prints-first-at-once | setup-fails | setup-hangs | small-frames]

README.md says what each must lead to.
"""

from __future__ import annotations

import sys

if "prints-first" in sys.argv:
    print("loading the model")
if "prints-first-at-once" in sys.argv:
    print("loading the model", flush=True)

import asyncio
import ctypes
import os
import resource
import signal
import threading
from collections.abc import Iterator
from typing import Any

from mlports_worker import Worker, current

worker = Worker("careless", concurrency=1, max_frame=2**20 if "small-frames" in sys.argv else None)


class Unprintable(Exception):
    """What is wrong cannot be said."""

    def __str__(self) -> str:
        raise RuntimeError("not even this works")


@worker.setup
def setup(config: dict[str, Any]) -> None:
    if "setup-fails" in sys.argv:
        raise FileNotFoundError("there is no file m.skops")
    if "setup-hangs" in sys.argv:
        waits_for_itself()


def waits_for_itself() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@worker.method(idempotent=True)
def echo(value: Any) -> Any:
    return value


@worker.method
def streams(value: Any) -> Iterator[Any]:
    yield value


@worker.method
def pid() -> int:
    return os.getpid()


@worker.method
async def waits() -> None:
    """For ever, unless it is cancelled."""
    await asyncio.Event().wait()


# -- what must not hurt


@worker.method
def prints(text: str) -> str:
    print(text, flush=True)
    return "done"


@worker.method
def prints_through_c(text: str) -> str:
    libc = ctypes.CDLL(None)
    libc.printf(b"%s, by printf\n", text.encode())
    libc.puts(text.encode() + b", by puts")
    libc.fflush(None)
    return "done"


@worker.method
def runs_a_program(text: str) -> int:
    return os.system(f"echo {text}")


@worker.method
def writes_to_descriptor_1(text: str) -> int:
    return os.write(1, text.encode() + b"\n")


@worker.method
def reads_stdin() -> str:
    return sys.stdin.read()


@worker.method
def closes_stdout() -> str:
    sys.stdout.close()
    return "done"


@worker.method
def reports(times: int) -> int:
    for done in range(times):
        current().progress(done, times)
    return times


# -- results and exceptions that are hard to send


@worker.method
def returns_object() -> object:
    return object()


@worker.method
def returns_bytes(count: int) -> bytes:
    return bytes(count)


@worker.method
def returns_itself() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


@worker.method
def raises_unprintable() -> None:
    raise Unprintable


@worker.method
def raises_long(count: int) -> None:
    raise ValueError("x" * count)


@worker.method
def raises_surrogates() -> None:
    raise FileNotFoundError(os.fsdecode(b"/data/\xff.csv"))


@worker.method
def logs_surrogates() -> str:
    worker.log("warning", os.fsdecode(b"/data/\xff.csv"), **{"object": object()})
    return "done"


@worker.method
def uses_up_the_stack() -> None:
    uses_up_the_stack()


# -- how it hangs


@worker.method
def locks_up() -> None:
    current().progress(0)
    waits_for_itself()


@worker.method
def holds_the_interpreter() -> None:
    """What waits in C without a word to Python: no other thread gets a turn."""
    never, _ = os.pipe()
    ctypes.PyDLL(None).read(never, ctypes.create_string_buffer(1), 1)


# -- how it ends


@worker.method
def exits(status: int) -> None:
    sys.exit(status)


@worker.method
def exits_at_once(status: int) -> None:
    os._exit(status)


@worker.method
async def exits_async(status: int) -> None:
    sys.exit(status)


@worker.method(idempotent=True)
def dies_once(marker: str) -> str:
    """Kills itself, unless the file `marker` is there, which it makes."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


@worker.method(idempotent=True)
def dies_always() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@worker.method
def forks() -> int:
    """Both the child and the parent come back with a result."""
    return os.fork()


@worker.method
def closes_descriptors() -> str:
    """As programs do that turn into daemons."""
    os.closerange(3, 256)
    return "done"


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
worker.run()
