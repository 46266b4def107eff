"""`mlports script`: a one-shot program of any language."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from mlports.cli.command import JsonOption
from mlports.cli.exit_codes import ExitCode


def script(
    file: Annotated[str, typer.Argument(help="A program, or a script of a language that is known by its suffix.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Handed to it as they are.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, max=1e9, help="Seconds after which it is killed.", metavar="SECONDS")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a program once, and exit with its status: 128 + n if signal n ended it, 124 if it took too long.

    Options stand before FILE; all that follows belongs to the program. With --json its output is captured and printed
    as {"status", "stdout", "stderr", "seconds"}; the status in it is minus the signal's number if one ended it, and
    null if it took too long.
    """
    import time

    from mlports import ScriptTimedOut, run_script
    from mlports.cli.output import put, say
    from mlports.cli.values import write

    if timeout is not None and timeout != timeout:
        raise typer.BadParameter("nan is no span of time", param_hint="--timeout")
    with suppress(OSError, AttributeError):
        sys.stdout.flush()
    began = time.monotonic()
    try:
        result = run_script(file, *(arguments or ()), timeout=timeout, check=False, capture=json)
    except ScriptTimedOut as error:
        if json:
            seconds = round(time.monotonic() - began, 3)
            put(write({"status": None, "stdout": error.stdout, "stderr": error.stderr, "seconds": seconds}))
        say(f"error: {error}")
        raise typer.Exit(ExitCode.SCRIPT_TIMED_OUT) from None
    if json:
        seconds = round(result.seconds, 3)
        put(write({"status": result.status, "stdout": result.stdout, "stderr": result.stderr, "seconds": seconds}))
    raise typer.Exit(result.status if result.status >= 0 else 128 - result.status)
