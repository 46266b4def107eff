"""`mlports run`: the orchestrator in the foreground."""

from __future__ import annotations

import typer

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, resolve


def run(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Run the services of a configuration, until Ctrl-C or `mlports stop`.

    Prints what happens: starts, deaths with their verdicts, restarts, logs and the workers' stderr; with --json, one
    object a line. Ctrl-C or SIGTERM stops in order, a second Ctrl-C kills at once. Ends by itself, with status 5, when
    no service could be started or all of them are down.
    """
    from mlports import Orchestrator
    from mlports.cli.foreground import run_foreground

    raise typer.Exit(run_foreground(Orchestrator.from_config(resolve(config)), json))
