"""`mlports check`: whether a worker keeps to the protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlports.cli.command import JsonOption, WrongUsage
from mlports.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from mlports.testing.conformance import Report


def check(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="The worker, as in a service's `command`.")
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="Demand bare, standard or full; default: what the worker claims, if it can."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this check; * stands for anything. May be repeated.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the checks, and check nothing.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.05, max=3600, metavar="SECONDS", help="For one answer (default 5).")
    ] = None,
    start_timeout: Annotated[
        float | None,
        typer.Option(min=0.05, max=3600, metavar="SECONDS", help="For the answer to $/hello (default 15)."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as JUnit's XML too.")] = None,
    json: JsonOption = False,
) -> None:
    """Check a worker, in any language, against the protocol, and print what it does and what it does not.

    It is started from the current directory, several times; methods of its own are not called. One that has the
    methods of the conformance worker, such as echo, is checked more deeply: docs/check.md lists them.

    Exit status 0 when everything passed, 1 when a check failed or --level was not reached, 2 for a command that cannot
    be started.
    """
    from mlports.cli.output import put

    if list_:
        _list(json)
        return
    report = _report(command or [], level, only or [], timeout, start_timeout)
    if junit is not None:
        try:
            junit.write_text(report.to_junit(), encoding="utf-8")
        except OSError as error:
            raise WrongUsage(f"cannot write {junit}: {error.strerror}") from None
    put(report.to_json() if json else _shown(report))
    raise typer.Exit(ExitCode.OK if report.passed else ExitCode.FAILED)


def _report(
    command: list[str], level: str | None, only: list[str], timeout: float | None, start_timeout: float | None
) -> Report:
    from mlports.testing.conformance import LEVELS, START_TIMEOUT, TIMEOUT, BadCommand, UnknownRow, check

    wanted = next((one for one in LEVELS if one == level), None)
    if level is not None and wanted is None:
        raise WrongUsage(f"--level is {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, not {level!r}")
    try:
        return check(
            command,
            level=wanted,
            only=only,
            timeout=timeout or TIMEOUT,
            start_timeout=start_timeout or START_TIMEOUT,
        )
    except (BadCommand, UnknownRow) as error:
        raise WrongUsage(str(error)) from None


def _shown(report: Report) -> str:
    from mlports.cli.output import coloured, harmless, styled
    from mlports.testing.conformance import Outcome

    colours = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.LACKING: "yellow", Outcome.NOT_TRIED: "dim"}
    colour = coloured(sys.stdout)
    lines = []
    for line in harmless(str(report)).splitlines():
        word = next((one for one in colours if line.startswith((f"  {one} ", f"{one}: "))), None)
        lines.append(line if word is None else line.replace(word, styled(word, colours[word], colour), 1))
    return "\n".join(lines)


def _list(as_json: bool) -> None:
    from mlports.cli.output import put
    from mlports.cli.values import write
    from mlports.testing.conformance import all_rows

    for row in all_rows():
        if as_json:
            put(
                write(
                    {
                        "name": row.name,
                        "title": row.title,
                        "topic": row.topic,
                        "section": row.section,
                        "level": row.level,
                        "needs": list(row.needs),
                        "feature": row.feature,
                        "optional": row.optional,
                    }
                )
            )
        else:
            extra = ", optional" if row.optional else ""
            put(f"{row.name:<34}{row.level:<10}{row.section:<6}{row.title}{extra}")
