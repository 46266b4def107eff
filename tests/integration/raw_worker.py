"""A worker driven by hand: frames over its pipes, encoded with msgpack alone, so that no code of ours is trusted."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

from tests.workers import PATIENCE


class Silence(AssertionError):
    """The worker wrote nothing in time."""


class RawWorker:
    """A worker process, and what an orchestrator would write to it and read from it."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str] | None = None, stderr: Path) -> None:
        self._stderr = stderr
        with stderr.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, "MLPORTS_WORKER": "1", **(env or {})},
                bufsize=0,
            )
        self._buffer = b""

    def send(self, *messages: list[Any]) -> None:
        assert self.process.stdin is not None
        frames = [msgpack.packb(message) for message in messages]
        self.process.stdin.write(b"".join(struct.pack(">I", len(frame)) + frame for frame in frames))

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def receive(self, within: float = PATIENCE) -> Any:
        """The next message. Raises `Silence`, and `EOFError` at the end of the stream."""
        end = time.monotonic() + within
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack(">I", self._buffer[:4])
                if len(self._buffer) >= 4 + length:
                    frame, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
                    return msgpack.unpackb(frame)
            self._read(end)

    def _read(self, end: float) -> None:
        assert self.process.stdout is not None
        readable = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
        if not readable:
            raise Silence(f"nothing was written; on stderr:\n{self.stderr()}")
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            assert not self._buffer, f"the stream ended inside a frame: {self._buffer[:80]!r}"
            raise EOFError(self.stderr())
        self._buffer += data

    def is_silent(self, within: float) -> bool:
        """Whether it writes nothing for so many seconds."""
        try:
            self.receive(within)
        except Silence:
            return True
        return False

    def hello(self, **more: Any) -> dict[str, Any]:
        """Says hello with every feature, and gives the answer."""
        features = ["ping", "cancel", "stream", "batch"]
        self.send(
            [
                0,
                0,
                "$/hello",
                [
                    {
                        "protocol": {"min": 1, "max": 1},
                        "max_frame": 1 << 26,
                        "features": features,
                        "service": "raw",
                        "replica": 0,
                        "config": {},
                        **more,
                    }
                ],
            ]
        )
        kind, number, error, result = self.receive()
        assert (kind, number, error) == (1, 0, None)
        assert isinstance(result, dict)
        return result

    def call(self, number: int, method: str, *params: Any, **meta: Any) -> Any:
        """Makes a call and gives [error, result]; nothing else may come before its answer."""
        self.send([0, number, method, list(params), meta])
        message = self.receive()
        assert message[:2] == [1, number], message
        return message[2:4]

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def status(self, within: float = PATIENCE) -> int:
        """Its exit status, once it has ended and nothing is left to be read."""
        return self.process.wait(within)

    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def __enter__(self) -> RawWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        with self.process:
            pass
