"""`mlports replay`: a recording, shown, played to a worker again, or reduced to what kills it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlports.cli.command import JsonOption, WrongUsage
from mlports.cli.exit_codes import ExitCode
from mlports.cli.output import coloured, harmless, is_terminal, put, say, styled

if TYPE_CHECKING:
    from mlports.core.recording import Recording
    from mlports.replay import Outcome, Pace, Script

_SHOWN_DEVIATIONS = 20


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
    from mlports.replay import deviations, feed, misfit
    from mlports_protocol import Response

    notes: list[str] = []
    if script.lost:
        notes.append(f"{script.lost} frames to the worker are missing: they were too long to be kept, or redacted")

    def on_greeting(greeting: Response) -> str | None:
        found = misfit(script, greeting)
        notes.extend(found.notes)
        if found.missing and not force:
            return f"this worker lacks {', '.join(found.missing)}, which the recording uses"
        notes.extend(f"this worker lacks {each}" for each in found.missing)
        return None

    outcome = _run(
        feed(script, command, pace=pace, transport=transport, on_line=_echo(as_json), on_greeting=on_greeting)
    )
    if outcome.refused is not None:
        raise WrongUsage(f"{outcome.refused}. Play it to another program, or all the same with --force")
    notes += [f"no answer was recorded to its call of {method}" for method in outcome.unheard]
    found = deviations(script, outcome, tolerance)
    code = _judge(script, outcome, bool(found))
    report = {
        "recorded": dict(script.recording.header["verdict"]),
        "verdict": outcome.verdict.as_dict() if outcome.verdict is not None else None,
        "end": {ExitCode.OK: "same", ExitCode.NO_CRASH: "no_crash"}.get(code, "differs"),
        "written": outcome.written,
        "answered": len(outcome.answers),
        "differences": [each._asdict() for each in found],
        "notes": notes,
        "seconds": round(outcome.seconds, 3),
    }
    if as_json:
        from mlports.cli.values import write

        put(write(report))
    else:
        _tell(report, outcome)
    return code


def _judge(script: Script, outcome: Outcome, differs: bool) -> ExitCode:
    """Of a crash, its kind alone counts; of a worker that ended in order, its answers do."""
    from mlports.replay import is_same_end, kind_of

    recorded, now = kind_of(dict(script.recording.header["verdict"])), kind_of(outcome.verdict)
    if not is_same_end(recorded, now):
        return ExitCode.NO_CRASH if now == ("end", None) else ExitCode.DIFFERS
    return ExitCode.DIFFERS if differs and now == ("end", None) else ExitCode.OK


def _tell(report: dict[str, Any], outcome: Outcome) -> None:
    colour = coloured(sys.stdout)
    for note in report["notes"]:
        say(f"note: {harmless(note)}")
    differences = report["differences"]
    for each in differences[:_SHOWN_DEVIATIONS]:
        place = harmless(f"request {each['id']}, {each['method']}, {each['place']}")
        put(f"{place}: recorded {harmless(each['recorded'])}, now {harmless(each['now'])}")
    if len(differences) > _SHOWN_DEVIATIONS:
        put(f"and {len(differences) - _SHOWN_DEVIATIONS} more answers that differ")
    put(f"{report['written']} frames written, {report['answered']} answers, {len(differences)} of them differ")
    now = "ended in order, when all was answered" if outcome.verdict is None else outcome.verdict.detail
    put(f"recorded: {harmless(_ended(report['recorded']))}")
    put(f"now:      {harmless(now)}")
    word, style = {"same": ("the same end", "green"), "no_crash": ("no crash", "yellow")}.get(
        report["end"], ("it differs", "red")
    )
    put(styled(word, style, colour))


def _echo(quiet: bool) -> Callable[[str], None]:
    return lambda text: None if quiet else say(f"| {harmless(text)}")


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
    from mlports.replay import is_same_end, kind_of, shrink_recording, write_recording

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
    recorded = recording.header["verdict"]
    if not found.reproduced:
        now = "ended in order" if found.first.verdict is None else found.first.verdict.detail
        text = f"nothing to shrink: recorded was that it {_ended(recorded)}, and now it {now}"
        put(write({"error": {"code": "not_reproduced", "message": text}})) if as_json else say(harmless(text))
        same = is_same_end(kind_of(dict(recorded)), kind_of(found.first.verdict))
        return ExitCode.NO_CRASH if same or kind_of(found.first.verdict) == ("end", None) else ExitCode.DIFFERS
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


def _run(coroutine: Any) -> Any:
    from mlports import MlportsError

    try:
        return asyncio.run(coroutine)
    except MlportsError as error:
        if type(error).__name__ == "SpawnFailed":
            raise WrongUsage(str(error)) from None
        raise
