"""Faults in a call: what it does not do, or not in time."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from workers.faulty.faults import in_call
from workers.faulty.wire import Wire

# -- while it is at work


@in_call
def never_answers(wire: Wire, request: list[Any]) -> None:
    return


@in_call
def warm_up_hangs(wire: Wire, request: list[Any]) -> None:
    signal.pause()


@in_call
def stops_itself(wire: Wire, request: list[Any]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@in_call
def ignores_pings(wire: Wire, request: list[Any]) -> None:
    wire.deaf = True
    wire.answer(request[1], "done")


@in_call
def ignores_cancel(wire: Wire, request: list[Any]) -> None:
    while wire.receive() is not None:
        pass


@in_call
def heeds_cancel_late(wire: Wire, request: list[Any]) -> None:
    while (message := wire.receive()) is not None and message[1] != "$/cancel":
        pass
    time.sleep(0.3)  # so long it takes to come to an end
    wire.send([1, request[1], {"code": "cancelled", "message": "it was cancelled"}, None])


# -- when it is stopped


@in_call
def ignores_stop(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], "done")
    while True:
        signal.pause()


@in_call
def ignores_everything(wire: Wire, request: list[Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignores_stop(wire, request)


@in_call
def takes_its_leave(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], "done")
    while wire.receive() is not None:
        pass
    os.close(1)
    time.sleep(1.3)  # it has something to save
    sys.exit(0)
