"""Lets a worker that hangs tell where: on SIGUSR2 it writes the stacks of all its threads to standard error."""

from __future__ import annotations

import signal

_SIGNAL = getattr(signal, "SIGUSR2", None)  # Windows has none

_registered = False


def tell_stacks() -> None:
    """From now on a SIGUSR2 makes this process write its threads' stacks to descriptor 2, and go on.

    The interpreter does that within the signal's handler, so also while a thread holds the GIL and never gives it back.
    Nothing happens where the system or the interpreter cannot do it, or when the program has its own use for SIGUSR2.
    Processes that it forks inherit it; programs that it starts do not.
    """
    global _registered
    if _SIGNAL is None or signal.getsignal(_SIGNAL) is not signal.SIG_DFL or _is_caught(_SIGNAL):
        return
    try:
        import faulthandler

        # By its number, because sys.stderr may be anything by now.
        faulthandler.register(_SIGNAL, file=2, all_threads=True, chain=False)
    except (ImportError, AttributeError, OSError, RuntimeError, ValueError):
        return
    _registered = True


def tells_stacks() -> bool:
    """Whether it still does: the program may have put a handler of its own in the place."""
    return _registered and _SIGNAL is not None and signal.getsignal(_SIGNAL) is signal.SIG_DFL


def _is_caught(number: int) -> bool:
    """Whether there is a handler that Python's `signal` does not know of, as far as the system tells."""
    try:
        with open("/proc/self/status", "rb") as file:
            _, found, rest = file.read().partition(b"\nSigCgt:")
    except OSError:
        return False
    return bool(found) and bool(int(rest.split(None, 1)[0], 16) >> (number - 1) & 1)
