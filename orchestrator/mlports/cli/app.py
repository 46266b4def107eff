"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import mlports
from mlports.cli.call import call
from mlports.cli.check import check
from mlports.cli.command import Command, JsonOption
from mlports.cli.events import events
from mlports.cli.exit_codes import EXPLAINED
from mlports.cli.init import init
from mlports.cli.port import port
from mlports.cli.release import release
from mlports.cli.replay import replay
from mlports.cli.run import run
from mlports.cli.script import script
from mlports.cli.simulate import simulate
from mlports.cli.status import status, stop

# Without rich's help and tracebacks, which take longer to load than most commands take to run.
app = typer.Typer(
    name="mlports",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EXPLAINED,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mlports.cli.output import put

        put(f"mlports {mlports.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Machine-learning programs in any language as supervised external workers."""


# An argument may be a negative number, which looks like an option.
_NUMBERS = {"ignore_unknown_options": True}
# What follows the program belongs to it.
_FOREIGN = {"allow_interspersed_args": False}


@app.command(cls=Command, short_help="Show what a supervised worker is, or run an example.", context_settings=_FOREIGN)
def demo(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="An example, to run instead.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="Handed to it.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the examples.")] = False,
    json: JsonOption = False,
) -> None:
    """Show, in a minute, what a supervised worker is; or run the example NAME, with its own options and exit status.

    Pictures go to the folder pictures in the current one, or where --out says: mlports demo NAME --out DIR.
    """
    from mlports.cli import examples
    from mlports.cli.command import WrongUsage
    from mlports.cli.demo import run_demo
    from mlports.cli.output import put
    from mlports.cli.values import write

    if name is not None and (listed or json):
        raise WrongUsage("--list and --json are for the demo without a name; an example's options stand after its NAME")
    if name is not None:
        examples.run(name, arguments or ())
    if not listed:
        raise typer.Exit(run_demo(json))
    known = examples.described()
    width = max(map(len, known), default=0)
    put(write(known) if json else "\n".join(f"{each:{width}}  {line}" for each, line in known.items()))


app.command(cls=Command, short_help="Make a project that runs as it stands.")(init)
app.command(cls=Command, short_help="Run the services of a configuration.")(run)
app.command(cls=Command, short_help="Call a method and print its result.", context_settings=_NUMBERS)(call)
app.command(cls=Command, short_help="Show the services and replicas.")(status)
app.command(cls=Command, short_help="Show what happens, as it happens.")(events)
app.command(cls=Command, short_help="Allow calls again that killed workers.")(release)
app.command(cls=Command, short_help="Stop the orchestrator in order.")(stop)
app.command(cls=Command, short_help="Run a program of any language once.", context_settings=_FOREIGN)(script)
app.command(cls=Command, short_help="Run the services for a program that opens this as a port.")(port)
app.command(cls=Command, short_help="Check a worker, in any language, against the protocol.")(check)
app.command(cls=Command, short_help="Play a supervision tree in virtual time.")(simulate)
app.command(cls=Command, short_help="Play a recorded crash again.")(replay)
