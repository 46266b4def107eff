"""`mlports release`: allows calls again that are in quarantine because they kill workers."""

from __future__ import annotations

from typing import Annotated

import typer

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, WrongUsage, resolve
from mlports.cli.output import put


def release(
    digest: Annotated[
        str | None, typer.Argument(metavar="[DIGEST]", help="Of the call, as `mlports events --quarantined` shows it.")
    ] = None,
    config: ConfigOption = CONFIG,
    everything: Annotated[bool, typer.Option("--all", help="All that are in quarantine.")] = False,
    json: JsonOption = False,
) -> None:
    """Allow calls again that are refused because they killed workers. A digest may be cut short."""
    from mlports.cli.values import write
    from mlports.control import connect

    if (digest is None) is not everything:
        raise WrongUsage("say the digest of one call (`mlports events --quarantined` lists them), or --all")
    with connect(resolve(config)) as client:
        released = client.release(digest)
    if json:
        put(write({"released": released}))
    else:
        put("\n".join(f"allowed again: {each}" for each in released) or "nothing was in quarantine")
