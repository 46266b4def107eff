"""`mlports replay`: a recording, shown, played to a worker again, or reduced to what kills it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from mlports.cli.command import JsonOption, WrongUsage
from mlports.cli.exit_codes import ExitCode
from mlports.cli.output import coloured, harmless, is_terminal, put, say, styled

if TYPE_CHECKING:
    from mlports import Verdict
    from mlports.replay import Pace, Recording, Report, Script

_T = TypeVar("_T")

_SHOWN_DEVIATIONS = 20
_CODES = {"same": ExitCode.OK, "no_crash": ExitCode.NO_CRASH, "differs": ExitCode.DIFFERS}
_WORDS = {"same": ("the same end", "green"), "no_crash": ("no crash", "yellow"), "differs": ("it differs", "red")}


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, from recordings/ in the state directory.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- CMD...", help="The worker to play it to.", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the frames, and run nothing.")] = False,
    at_speed: Annotated[bool, typer.Option("--at-speed", help="Keep the gaps between the frames.")] = False,
    step: Annotated[bool, typer.Option("--step", help="Wait for Enter before each frame, and show it.")] = False,
    pause: Annotated[
        bool, typer.Option("--pause", help="Print the worker's pid and wait for Enter, for a debugger to attach.")
    ] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Find the fewest frames that kill the worker in the same way.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where --shrink writes them; else FILE.min.rec.")
    ] = None,
    time: Annotated[float, typer.Option(min=0.1, max=1e6, metavar="SECONDS", help="How long --shrink may take.")] = 60,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=1e6, metavar="SECONDS", help="A worker that is silent for longer hangs.")
    ] = 30,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1e300, help="How far two floats may be apart and count as equal.")
    ] = 0,
    transport: Annotated[
        Literal["stdio", "fd34"] | None, typer.Option(help="Instead of the recorded one.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also to a worker that lacks what the recording uses.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Play a recording to a worker, and tell whether it crashes as it did.

    The worker's answers are compared with the recorded ones, and the calls that it makes are answered from the
    recording. Exit status: 0 if it ended as recorded, 6 if it did not crash, 7 if it ended in another way.
    """
    from mlports.replay import Pace, Script, read_recording

    _check_options(command, show, shrink, step or pause or at_speed, out)
    recording = read_recording(file)
    if recording.missing:
        say(f"note: {file} was cut off: {recording.missing} of its {recording.header['frames']} frames are missing")
    if show:
        _show(recording, json)
        return
    if not command:
        told = " ".join(map(str, recording.header["command"]))
        raise WrongUsage(f"say which worker to play it to: mlports replay {file} -- CMD; recorded was: {told}")
    transport = transport or ("fd34" if recording.header.get("transport") == "fd34" else "stdio")
    if shrink:
        target = out or file.with_suffix(".min.rec")
        raise typer.Exit(_shrink(recording, command, target, time, timeout, transport, json))
    held = step or pause
    pace = Pace(
        timeout=None if held else timeout,
        recorded=at_speed,
        before_start=_pausing() if pause else None,
        before_frame=_stepping() if step else None,
    )
    script = Script(recording, deadlines=at_speed and not held)
    raise typer.Exit(_play(script, command, pace, transport, tolerance, force, json))


def _check_options(command: list[str] | None, show: bool, shrink: bool, paced: bool, out: Path | None) -> None:
    if show and (command or shrink):
        raise WrongUsage("--show runs nothing: leave out --shrink and the command")
    if shrink and paced:
        raise WrongUsage("--shrink runs the worker many times: leave out --at-speed, --step and --pause")
    if out is not None and not shrink:
        raise WrongUsage("--out goes with --shrink")


# -- showing


def _show(recording: Recording, as_json: bool) -> None:
    from mlports.cli.values import write
    from mlports.replay import as_line, as_map

    if as_json:
        put(write({"recording": {**recording.header, "missing": recording.missing}}))
        for frame in recording.frames:
            put(write(as_map(frame)))
        return
    put(_summary(recording))
    for frame in recording.frames:
        put(harmless(as_line(frame)))


def _summary(recording: Recording) -> str:
    header = recording.header
    worker, verdict = header["worker"], header["verdict"]
    who = f"{header.get('service')}/{header.get('replica')}"
    sdk = f", {worker['sdk']}" if worker.get("sdk") else ""
    language = f" ({worker['language']}{sdk})" if worker.get("language") else ""
    forgotten = f", {header['forgotten']} before them forgotten" if header.get("forgotten") else ""
    hidden = ", values redacted" if header.get("redacted") else ""
    return harmless(
        f"{who}: {worker.get('name') or 'a bare worker'}{language}\n"
        f"ended: {_ended(verdict)}\n"
        f"{len(recording.frames)} frames{forgotten}{hidden}"
    )


def _ended(verdict: dict[str, Any]) -> str:
    return str(verdict.get("detail") or verdict.get("name") or verdict.get("cause"))


# -- playing


def _play(
    script: Script, command: list[str], pace: Pace, transport: str, tolerance: float, force: bool, as_json: bool
) -> int:
    from mlports.replay import play

    echo = None if as_json else _echo
    report = _run(
        play(
            script,
            command,
            pace=pace,
            transport=transport,
            tolerance=tolerance,
            force=force,
            on_line=echo or (lambda _: None),
        )
    )
    if as_json:
        from mlports.cli.values import write

        put(write(report.as_dict()))
    else:
        _tell(report)
    return _CODES[report.end]


def _tell(report: Report) -> None:
    for note in report.notes:
        say(f"note: {harmless(note)}")
    for each in report.deviations[:_SHOWN_DEVIATIONS]:
        put(harmless(f"request {each.id}, {each.method}, {each.place}: recorded {each.recorded}, now {each.now}"))
    if len(report.deviations) > _SHOWN_DEVIATIONS:
        put(f"and {len(report.deviations) - _SHOWN_DEVIATIONS} more answers that differ")
    put(f"{report.written} frames written, {report.answered} answers, {len(report.deviations)} of them differ")
    put(f"recorded: {harmless(_ended(report.recorded))}")
    put(f"now:      {harmless(_ended_now(report.verdict))}")
    word, style = _WORDS[report.end]
    put(styled(word, style, coloured(sys.stdout)))


def _ended_now(verdict: Verdict | None) -> str:
    return "ended in order, when all was answered" if verdict is None else verdict.detail


def _echo(text: str) -> None:
    say(f"| {harmless(text)}")


def _pausing() -> Callable[[int], Awaitable[None]]:
    async def wait(pid: int) -> None:
        say(f"the worker runs as pid {pid}, and nothing was written to it yet: attach, then press Enter")
        if not await _line():
            raise WrongUsage("--pause waits for a line on standard input, which is at its end")

    return wait


def _stepping() -> Callable[[Any], Awaitable[None]]:
    from mlports.replay import describe_message

    if not is_terminal(sys.stdin):
        raise WrongUsage(
            "--step asks before each frame, and standard input is no terminal. Run it in one, or use --show"
        )

    async def wait(write: Any) -> None:
        say(f"{write.at:10.6f} ──▶ {harmless(describe_message(write.message))}   [Enter]")
        if not await _line():
            raise KeyboardInterrupt

    return wait


async def _line() -> str:
    """A line from standard input, while the worker is read from."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), ready.set)
    except PermissionError:  # a file, which is always ready
        return sys.stdin.readline()
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


# -- shrinking


def _shrink(
    recording: Recording, command: list[str], out: Path, seconds: float, timeout: float, transport: str, as_json: bool
) -> int:
    from mlports.cli.values import write
    from mlports.replay import shrink_recording, write_recording

    told = [0]

    def on_progress(left: int, trials: int) -> None:
        if not as_json and told[0] != left:
            told[0] = left
            say(f"{left} left after {trials} trials")

    found = _run(
        shrink_recording(
            recording, command, seconds=seconds, timeout=timeout, transport=transport, on_progress=on_progress
        )
    )
    if found.end != "same":
        recorded = _ended(recording.header["verdict"])
        text = f"nothing to shrink: recorded was '{recorded}', and now it is '{_ended_now(found.first.verdict)}'"
        put(write({"error": {"code": "not_reproduced", "message": text}})) if as_json else say(harmless(text))
        return _CODES[found.end]
    write_recording(out, found.recording.header, found.recording.frames)
    if as_json:
        report = {"before": found.before, "frames": found.frames, "trials": found.trials, "minimal": found.minimal}
        put(write({**report, "seconds": round(found.seconds, 3), "out": str(out)}))
        return ExitCode.OK
    why = "none of them can be left out" if found.minimal else "the time was up (--time), there may be fewer"
    put(
        f"{found.before} frames to the worker became {found.frames}, beside $/hello; {why}\n"
        f"{found.trials} trials in {found.seconds:.1f} s; written to {out}"
    )
    return ExitCode.OK


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    import asyncio

    from mlports import MlportsError

    try:
        return asyncio.run(coroutine)
    except MlportsError as error:
        raise WrongUsage(str(error)) from None  # the program cannot be started, or is another one
