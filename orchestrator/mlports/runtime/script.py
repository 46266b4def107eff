"""One-shot programs: run with arguments, their output captured, their status known, their time bounded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mlports.core.verdict import describe_status
from mlports.errors import ScriptFailed, ScriptTimedOut

_LAST_WORDS = 0.5  # seconds for reading what a program that was killed had printed

# What runs a file of this kind, when the file is not a program itself.
_INTERPRETERS: Mapping[str, Sequence[str]] = {
    ".py": [sys.executable],
    ".js": ["node"],
    ".mjs": ["node"],
    ".r": ["Rscript"],
    ".rb": ["ruby"],
    ".pl": ["perl"],
    ".lua": ["lua"],
    ".sh": ["sh"],
    ".exs": ["elixir"],
    ".escript": ["escript"],
    ".go": ["go", "run"],
    ".java": ["java"],
}


@dataclass(frozen=True)
class ScriptResult:
    """How a one-shot program ended. `status` is 0; `seconds` is the wall-clock time it took."""

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float


def script_command(file: str | os.PathLike[str], arguments: Sequence[str] = ()) -> list[str]:
    """The command that runs a script: itself when it is executable, else the interpreter of its kind.

    Raises `ScriptFailed` when there is no such file, or nothing is known to run it.
    """
    path = Path(file)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise ScriptFailed(f"cannot run {path}: it {what}. Name a program or a script file")
    kind = path.suffix.lower()
    if kind == ".py" or (kind in _INTERPRETERS and not os.access(path, os.X_OK)):
        interpreter = list(_INTERPRETERS[kind])
        if shutil.which(interpreter[0]) is None:
            raise ScriptFailed(f"cannot run {path}: its interpreter {interpreter[0]} is not installed")
        return [*interpreter, str(path), *arguments]
    if not os.access(path, os.X_OK):
        known = " ".join(sorted(_INTERPRETERS))
        raise ScriptFailed(f"cannot run {path}: it is not executable (chmod +x), and its kind is none of {known}")
    return [str(path.resolve()), *arguments]


def run_script(
    file: str | os.PathLike[str],
    *arguments: str,
    timeout: float | None = None,
    input: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    capture: bool = True,
) -> ScriptResult:
    """Runs a program of any language once, and gives its output.

    `timeout` in seconds: then it and all that it started are killed. `input` is its standard input (default: none).
    `env` is added to the environment. Without `capture` it has this program's own standard input and outputs, and the
    result's are empty. Raises `ScriptFailed`, with what was printed, when it cannot be run or (`ScriptTimedOut`) takes
    too long, and, unless `check` is False, when its status is not 0.
    """
    command = script_command(file, arguments)
    began = time.monotonic()
    interrupts = _HeldInterrupts()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL if capture else None,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
            text=True,
            errors="backslashreplace",
        )
    except OSError as error:
        interrupts.release()
        raise ScriptFailed(f"cannot run {command[0]}: {error.strerror or error}") from error
    late = False
    with process:
        try:
            interrupts.release()
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            late = True
            _kill_group(process.pid)
            stdout, stderr = _last_words(process)
        except BaseException:
            _kill_group(process.pid)
            raise
    stdout, stderr = stdout or "", stderr or ""  # None for what was not captured
    seconds = time.monotonic() - began
    name = Path(file).name
    if late:
        raise ScriptTimedOut(
            f"{name} took longer than {timeout:g} s and was killed", process.returncode, stdout, stderr
        )
    if check and process.returncode != 0:
        last = "".join(f"\n  | {line}" for line in stderr.splitlines()[-8:])
        told = f"{name} {describe_status(process.returncode)}" + (f"; its last words on stderr:{last}" if last else "")
        raise ScriptFailed(told, process.returncode, stdout, stderr)
    return ScriptResult(tuple(command), process.returncode, stdout, stderr, seconds)


class _HeldInterrupts:
    """Keeps Ctrl-C, from now on, from coming between a program's start and the moment that somebody sees to its end."""

    def __init__(self) -> None:
        self._came = False
        self._handlers: list[int] = []
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.default_int_handler:
                    self._handlers.append(number)
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def release(self) -> None:
        """Lets it through again. Raises `KeyboardInterrupt` if it came meanwhile."""
        for number in self._handlers:
            signal.signal(number, signal.default_int_handler)
        self._handlers.clear()
        if self._came:
            raise KeyboardInterrupt


def _last_words(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a program that was killed had printed. One that left its process group may hold its outputs open."""
    try:
        return process.communicate(timeout=_LAST_WORDS)
    except subprocess.TimeoutExpired as held:
        return _as_text(held.stdout), _as_text(held.stderr)


def _as_text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data or ""


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
