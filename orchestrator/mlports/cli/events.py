"""`mlports events`: what happens in a running orchestrator, as it happens."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, resolve
from mlports.cli.output import coloured, put


def events(
    config: ConfigOption = CONFIG,
    recent: Annotated[
        int, typer.Option("--recent", "-n", min=0, max=1000, help="Show the latest so many first.", metavar="N")
    ] = 0,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="List the calls that are refused because they kill workers, and end.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what happens in the running orchestrator, until it stops or you press Ctrl-C."""
    from mlports.cli.event_lines import as_line
    from mlports.cli.values import write
    from mlports.control import connect

    colour = coloured(sys.stdout)
    with connect(resolve(config)) as client:
        if quarantined:
            for held in client.status()["quarantine"]:
                put(
                    write(held)
                    if json
                    else f"{held['digest']}  {held['method']}  refused {held['refused']}×  {held['reason']}"
                )
            return
        for event in client.events(recent):
            put(write(event) if json else as_line(event, colour))
