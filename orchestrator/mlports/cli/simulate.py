"""`mlports simulate`: what a supervision tree would do, before it does it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from mlports.cli.command import CONFIG, JsonOption, WrongUsage, resolve
from mlports.cli.output import put


def simulate(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A scenario, or an mlports.toml, or the folder of one; - is stdin.")
    ] = "-",
    crashes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="For an mlports.toml: crashes, as lines of TIME CHILD REASON."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Play a supervision tree in virtual time, and print what its supervisors do.

    A scenario declares a tree and what befalls it, and its trace is printed. Of an mlports.toml the tree is taken, and
    the crashes that --crashes lists, such as `1.5s digits/0 kill`; every line is printed with its time.
    """
    path = file if file == "-" else str(resolve(Path(file)))
    if path.endswith(CONFIG.suffix):
        _configured(path, crashes, json)
        return
    if crashes is not None:
        raise WrongUsage("--crashes goes with an mlports.toml; a scenario lists its own")
    _scenarios(path, json)


def _scenarios(path: str, as_json: bool) -> None:
    from mlports.testing.simulation import play

    trace = play(_lines(path), None if path == "-" else path)
    if not as_json:
        for line in trace:
            put(line)
        return
    from mlports.cli.values import write

    # Each scenario's trace is an object of its own, printed when its end is there.
    found: list[str] = []
    for line in chain(trace, [""]):
        if line.startswith("=== ") or not line:
            if found:
                put(write({"scenario": found[0].removeprefix("=== "), "trace": found[1:]}))
            found = []
        found.append(line)


def _configured(path: str, crashes: str | None, as_json: bool) -> None:
    from mlports.cli.values import write
    from mlports.config import load_config
    from mlports.testing.simulation import play_crashes, read_crashes

    config = load_config(path)
    listed = read_crashes(_lines(crashes), config, None if crashes == "-" else crashes) if crashes else []
    for moment in play_crashes(config, listed):
        if as_json:
            put(write({"at": moment.at / 1000, "what": moment.text}))
        else:
            put(f"{moment.at / 1000:10.3f}  {moment.text}")


def _lines(path: str) -> Iterator[str]:
    try:
        if path == "-":
            yield from sys.stdin
            return
        with open(path, encoding="utf-8") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongUsage(f"cannot read {'standard input' if path == '-' else path}: {why}") from None
