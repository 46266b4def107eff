"""The command line: `mlports`. Parses arguments and prints; everything else is the library's."""

from __future__ import annotations

import errno
import gc
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlports.cli.output import OutputFailed

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Runs the command that the arguments name, and exits with its status."""
    # Nothing that is imported is garbage: the collector would look through it in vain. The command turns it on again.
    gc.disable()
    from mlports.cli import output

    output.prepare()
    # Ended from outside is ended in order; what was started in the background keeps what it ignores.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    raise SystemExit(_run())


def _lost(failure: OutputFailed) -> int:
    from mlports.cli.exit_codes import ExitCode
    from mlports.cli.output import give_up_stdout, say

    give_up_stdout()
    if not failure.quiet:
        say(f"error: {failure}")
    return ExitCode.FAILED


def _run() -> int | str | None:
    from mlports.cli import output
    from mlports.cli.exit_codes import ExitCode

    status: int | str | None = ExitCode.OK
    try:
        from mlports.cli.app import app

        app(prog_name="mlports")
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = ExitCode.INTERRUPTED
    except output.OutputFailed as failure:
        status = _lost(failure)
    except Exception as error:
        from mlports.cli.command import bug

        # Help is printed by the library, whose writing fails in its own way.
        is_output = isinstance(error, OSError) and error.filename is None and error.errno in _DISK_ERRORS
        status = _lost(output.OutputFailed(error)) if is_output else bug(error)  # type: ignore[arg-type]
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        status = status or _lost(output.OutputFailed(error))
        output.give_up_stdout()
    with suppress(OSError, AttributeError, ValueError):
        sys.stderr.flush()
    return status
