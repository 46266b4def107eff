"""The program under test: how it is started, what it claims, and why it cannot be talked with, where it cannot."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlports.errors import MlportsError
from mlports.runtime.process import resolve, why_not
from mlports.testing.conformance.comparison import same
from mlports.testing.conformance.conversation import UNKNOWN_METHOD, Conversation
from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.process import Process
from mlports.testing.conformance.rows import Level
from mlports_protocol import DEFAULT_MAX_FRAME, Peer, RemoteProtocolError
from mlports_protocol.control import parse_hello_answer

FEATURES = ("ping", "cancel", "stream", "input", "batch", "columns", "ndarray", "stacks")
"""What the kit offers in `$/hello`."""

FULL = frozenset(["cancel", "stream", "input", "batch", "ndarray"])

# Methods of the conformance worker that a program may have without saying so, and what tells that it has them.
_TRIALS: dict[str, tuple[list[Any], Any]] = {
    "echo": (["a trial"], "a trial"),
    "add": ([1, 2], 3),
    "sleep": ([0], 0),
}


class BadCommand(MlportsError):
    """What was named cannot be a worker: no program, a folder, a shell."""


class NoHandshake(MlportsError):
    """The program ran, and could not be talked with."""


class Subject:
    """A program to be checked. `timeout` and `start_timeout` are in seconds.

    Raises `BadCommand` for a command that cannot be started, or that is known not to be a worker.
    """

    def __init__(self, command: Sequence[str], cwd: Path, timeout: float, start_timeout: float) -> None:
        _check_command(command)
        self.command = resolve(command, None, cwd)
        self.cwd = cwd
        self.timeout = timeout
        self.start_timeout = start_timeout
        self.claims = Peer()
        self.methods: frozenset[str] = frozenset()
        self._processes: set[Process] = set()
        self._lock = threading.Lock()
        self._closed = False

    def spawn(self, max_frame: int = DEFAULT_MAX_FRAME, fd34: bool = False) -> Conversation:
        """A new process, nothing said yet."""
        environment = {**os.environ, "MLPORTS_WORKER": "1"}
        environment.pop("MLPORTS_TRANSPORT", None)
        if fd34:
            environment["MLPORTS_TRANSPORT"] = "fd34"
        with self._lock:
            if self._closed:
                raise RuntimeError("the check is over")
            try:
                process = Process(self.command, self.cwd, environment, fd34)
            except (OSError, ValueError) as error:
                told = why_not(self.command, self.cwd, error) if isinstance(error, OSError) else str(error)
                raise BadCommand(told) from None
            self._processes.add(process)
        return Conversation(process, self.timeout, max_frame)

    def greet(self, talk: Conversation, said: dict[str, Any], id: int = 0) -> None:
        """Says `$/hello` and takes the answer; `talk.peer` is what it claims then."""
        call = talk.request("$/hello", said, id=id)
        response = talk.answer(call, self.start_timeout)
        if response.error is None:
            try:
                talk.peer = parse_hello_answer(response.result)
            except RemoteProtocolError as error:
                raise Failed("a right answer to $/hello", f"{type(error).__name__}: {error}", section="5.2") from None
        else:
            talk.peer = Peer(bare=True)
        talk.greeted = True

    def close(self, talk: Conversation) -> None:
        """Ends a conversation's process, whatever it does."""
        talk.process.close()
        with self._lock:
            self._processes.discard(talk.process)

    def kill_all(self) -> None:
        """Kills everything that still runs; nothing can be started afterwards."""
        with self._lock:
            self._closed = True
            left = list(self._processes)
        for process in left:
            process.kill()

    def close_all(self) -> None:
        """The same, and collects it: when no other thread uses it any more."""
        self.kill_all()
        with self._lock:
            left, self._processes = self._processes, set()
        for process in left:
            process.close()

    def meet(self) -> Conversation:
        """The first handshake, by which `claims` and `methods` are known. Raises `NoHandshake`, which tells why not."""
        from mlports.testing.conformance.story import why_no_handshake

        talk = self.spawn()
        try:
            self.greet(talk, hello())
            assert talk.peer is not None
            self.claims = talk.peer
            known = talk.peer.methods
            self.methods = frozenset(known) if known is not None else self._find_methods(talk)
            talk.give_back()
            return talk
        except Failed as failed:
            story = why_no_handshake(talk, failed, self.start_timeout)
            self.close(talk)
            raise NoHandshake(story) from None

    @property
    def claimed_level(self) -> Level:
        """The highest level that makes sense, by what it claims."""
        if self.claims.bare:
            return "bare"
        return "full" if self.claims.features >= FULL else "standard"

    @property
    def name(self) -> str:
        """What it says of itself."""
        if self.claims.bare:
            return "a bare worker"
        about = ", ".join(part for part in (self.claims.language, self.claims.sdk) if part)
        return f"{self.claims.name or 'a worker'}{f' ({about})' if about else ''}"

    def _find_methods(self, talk: Conversation) -> frozenset[str]:
        """Those of the kit's methods that it has, asked one by one: it did not tell."""
        # A bare worker need not know the code for a method that is not there, so its answer to one is what is compared.
        unknown = talk.answer(talk.request(UNKNOWN_METHOD))
        found = set()
        for method, (params, expected) in _TRIALS.items():
            response = talk.answer(talk.request(method, *params))
            if response.error is None and unknown.error is not None and same(response.result, expected):
                found.add(method)
        failing = talk.answer(talk.request("fail", "a trial")).error
        if failing is not None and "a trial" in failing["message"]:
            found.add("fail")
        return frozenset(found)


def hello(**fields: Any) -> dict[str, Any]:
    """The map of `$/hello`, with these fields in place of the usual ones; None leaves one out."""
    said = {
        "protocol": {"min": 1, "max": 1},
        "max_frame": DEFAULT_MAX_FRAME,
        "features": list(FEATURES),
        "service": "conformance",
        "replica": 0,
        "config": {},
        **fields,
    }
    return {key: value for key, value in said.items() if value is not None}


def _check_command(command: Sequence[str]) -> None:
    if not command or not command[0].strip():
        raise BadCommand("there is no command to check: name the worker, such as mlports check -- python worker.py")
    if any("\0" in word for word in command):
        raise BadCommand("the command holds a NUL character, which no program can be given")
    name = Path(command[0]).name
    if name in _SHELLS and all(word.startswith("-") and word not in ("-c", "-lc", "-ic") for word in command[1:]):
        raise BadCommand(
            f"{' '.join(command)!r} is a shell that waits for commands, no worker. "
            "Name the program itself, such as mlports check -- python worker.py"
        )


_SHELLS = frozenset(["sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "csh", "tcsh"])
