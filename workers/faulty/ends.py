"""Faults in a call: how it ends, how large it grows, and what it leaves behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from workers.faulty.faults import in_call
from workers.faulty.wire import BIG_NUMBERS, MIB, Wire, frame

held: list[bytes] = []

# -- how it ends


@in_call
def exits_0(wire: Wire, request: list[Any]) -> None:
    os._exit(0)


@in_call
def exits_0_amid_calls(wire: Wire, request: list[Any]) -> None:
    wire.receive()
    sys.exit(0)


@in_call
def exits_1(wire: Wire, request: list[Any]) -> None:
    sys.stderr.write("CUDA out of memory\n")
    sys.exit(1)


@in_call
def exits_after_its_answer(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], "done")
    sys.exit(1)


@in_call
def exits_7_when_stopped(wire: Wire, request: list[Any]) -> None:
    while (message := wire.receive()) is not None and message[1] != "$/stop":
        pass
    wire.answer(request[1], "late")
    sys.exit(7)


@in_call
def kills_itself(wire: Wire, request: list[Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@in_call
def kills_its_group(wire: Wire, request: list[Any]) -> None:
    subprocess.Popen(["sleep", "1000"])
    os.killpg(0, signal.SIGTERM)
    signal.pause()


@in_call
def terminated_from_outside(wire: Wire, request: list[Any]) -> None:
    subprocess.run(["/bin/sh", "-c", "kill -TERM $PPID"])
    signal.pause()


@in_call
def dies_of_signal_40(wire: Wire, request: list[Any]) -> None:
    os.kill(os.getpid(), 40)


@in_call
def segfaults(wire: Wire, request: list[Any]) -> None:
    ctypes.string_at(0)


@in_call
def aborts(wire: Wire, request: list[Any]) -> None:
    os.abort()


@in_call
def dies_while_it_calls(wire: Wire, request: list[Any]) -> None:
    wire.send([0, 0, "neighbour.tick", [1]], [0, 1, "neighbour.tick", [2]])
    wire.receive()
    os._exit(1)


@in_call
def exits_inside_a_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(frame([1, request[1], None, BIG_NUMBERS])[:100])
    os._exit(0)


@in_call
def killed_inside_a_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(frame([1, request[1], None, BIG_NUMBERS])[:100])
    os.kill(os.getpid(), signal.SIGKILL)


@in_call
def becomes_another_program(wire: Wire, request: list[Any]) -> None:
    os.execvp("sleep", ["sleep", "1000"])


# -- how large it grows


@in_call
def grows_too_large(wire: Wire, request: list[Any]) -> None:
    grow_to(72 * MIB)
    time.sleep(0.8)  # it has something to finish
    wire.answer(request[1], "done")


@in_call
def grows_far_too_large(wire: Wire, request: list[Any]) -> None:
    grow_to(128 * MIB)
    signal.pause()


@in_call
def grows_in_a_child(wire: Wire, request: list[Any]) -> None:
    subprocess.Popen([sys.executable, "-c", f"import signal; large = b'x' * {128 * MIB}; signal.pause()"])
    signal.pause()


@in_call
def uses_up_its_address_space(wire: Wire, request: list[Any]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (256 * MIB, resource.RLIM_INFINITY))
    try:
        held.append(bytes(1024 * MIB))
    except MemoryError:
        # What a C++ library does when nobody catches that.
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()


def grow_to(size: int) -> None:
    """Has so many bytes resident from now on. Linux tells how many there are."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    held.append(b"x" * (size - resident))


# -- what it leaves behind


@in_call
def leaves_a_grandchild(wire: Wire, request: list[Any]) -> None:
    subprocess.Popen(["sleep", "1000"])
    os._exit(1)


@in_call
def leaves_a_session(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)


@in_call
def leaves_a_daemon(wire: Wire, request: list[Any]) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        if not os.fork():
            os.write(write, str(os.getpid()).encode())
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    os.waitpid(child, 0)
    wire.answer(request[1], int(os.read(read, 20)))


@in_call
def closes_stdout(wire: Wire, request: list[Any]) -> None:
    os.close(1)
    signal.pause()


@in_call
def closes_stdin(wire: Wire, request: list[Any]) -> None:
    os.close(0)
    wire.answer(request[1], "done")
    signal.pause()


@in_call
def closes_stderr(wire: Wire, request: list[Any]) -> None:
    os.close(2)
    wire.answer(request[1], "done")
