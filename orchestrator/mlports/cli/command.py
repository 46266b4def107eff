"""What all commands share: their options, and the place where every error ends."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mlports.cli.exit_codes import ExitCode, exit_code
from mlports.cli.output import OutputFailed, coloured, harmless, put, say, styled
from mlports.errors import CallError, ConfigError, MlportsError, RemoteTraceback

TRACEBACK_VARIABLE = "MLPORTS_TRACEBACK"

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration, or the folder that it is in.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
CONFIG = Path("mlports.toml")


class WrongUsage(MlportsError):
    """Arguments that a command cannot use."""


class Command(TyperCommand):
    """A command whose errors are told, and become its exit status."""

    def invoke(self, ctx: Any) -> Any:
        gc.freeze()  # what was needed to read the arguments stays
        gc.enable()
        as_json = bool(ctx.params.get("json"))
        try:
            return super().invoke(ctx)
        except MlportsError as error:
            code = ExitCode.USAGE if isinstance(error, WrongUsage) else exit_code(error)
            raise typer.Exit(_told(error, code, as_json)) from None
        except OutputFailed as error:
            raise typer.Exit(_lost(error)) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def tell(error: MlportsError) -> None:
    """The whole story of an error on stderr, the worker's traceback included."""
    colour = coloured(sys.stderr)
    say(f"{styled('error:', 'red', colour)} {harmless(str(error))}")
    if isinstance(error.__cause__, RemoteTraceback):
        who = f" {error.service}/{error.replica}" if isinstance(error, CallError) and error.replica is not None else ""
        lines = harmless(error.__cause__.text.rstrip()).splitlines()
        say("\n".join([f"in the worker{who}:", *(f"  {styled(line, 'dim', colour)}" for line in lines)]))


def as_map(error: MlportsError) -> dict[str, Any]:
    """An error as plain values."""
    if isinstance(error, CallError):
        where = {"service": error.service, "method": error.method, "replica": error.replica}
        return {**error.as_error(), **{key: value for key, value in where.items() if value not in ("", None)}}
    found: dict[str, Any] = {"code": _code(error), "message": str(error)}
    if isinstance(error, ConfigError):
        found.update({key: value for key in ("file", "line", "key", "fix") if (value := getattr(error, key))})
        if several := getattr(error, "errors", ()):
            found["errors"] = [as_map(one) for one in several]
    return found


def resolve(config: Path) -> Path:
    """The file that is meant by a folder, if there is one in it."""
    return config / CONFIG if (config / CONFIG).is_file() else config


def bug(error: Exception) -> int:
    """An error that nobody foresaw, in one line. Gives the exit status."""
    if os.environ.get(TRACEBACK_VARIABLE):
        import traceback

        say("".join(traceback.format_exception(error)).rstrip())
    text = " ".join(str(error).split())[:300]
    say(
        f"error: {type(error).__name__}: {text}\n"
        f"this is a bug in mlports; set {TRACEBACK_VARIABLE}=1 to see where, and please report it"
    )
    return ExitCode.FAILED


def _told(error: MlportsError, code: int, as_json: bool) -> int:
    if not as_json:
        tell(error)
        return code
    from mlports.cli.values import write

    try:
        put(write({"error": as_map(error)}))
    except OutputFailed as lost:
        return _lost(lost)
    return code


def _lost(error: OutputFailed) -> int:
    if not error.quiet:
        say(f"error: {error}")
    return ExitCode.FAILED


def _code(error: MlportsError) -> str:
    """`NoOrchestrator` → no_orchestrator: what programs tell errors apart by that no call gave."""
    name = type(error).__name__.removesuffix("Error").removesuffix("Errors")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
