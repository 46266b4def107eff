"""What keeps a worker's last frames, and writes them to a file when it has died."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import gmtime, monotonic, strftime
from typing import TYPE_CHECKING, Any

import msgpack

from mlports.core.recording import FROM_WORKER, SUFFIX, TO_WORKER, RecordedFrame, encode_recording
from mlports.core.redaction import Redaction
from mlports.core.ring import Ring
from mlports.core.verdict import Verdict
from mlports.runtime.port import Port
from mlports.telemetry import EventLog
from mlports_protocol import Buffer, FrameDecoder
from mlports_protocol.messages import RESPONSE

if TYPE_CHECKING:
    from mlports.config import RecordConfig
    from mlports.runtime.port_owner import Running

_HEAD = 4096  # bytes that are kept of a frame which is longer than a whole recording may be
_DOTS = 4  # in a recording's name
_HEADER = 4  # bytes of a frame's length, which what is sent has before it
_SAID = ("cause", "name", "status", "ready", "uptime", "restarts", "in_flight", "time")  # of a verdict, nothing quoted

# When, which way, the bytes, how many they were, and where in the stream to the worker they end.
_Entry = tuple[float, int, bytes, int, int]


class RecordedPort(Port):
    """A port whose last frames, both ways, are kept. The first two, `$/hello` and its answer, always."""

    def __init__(self, record: RecordConfig, *arguments: Any, **more: Any) -> None:
        self.record = record
        self.ring: Ring[_Entry] = Ring(record.frames, record.bytes)
        self._greeted = False
        self._arguments = more
        super().__init__(*arguments, **more)

    def _start(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | Mapping[bytes, bytes], transport: str
    ) -> Running:
        self.session.decoder = _RecordingDecoder(self)
        return super()._start(command, cwd, env, transport)

    def send(self, buffers: list[Buffer]) -> int:
        end = super().send(buffers)
        if not buffers:
            return end
        ring, data = self.ring, buffers[0]
        if len(buffers) > 1 or type(data) is not bytes or (length := len(data)) > ring.most_bytes:
            length = sum(map(len, buffers))
            data = _joined(buffers, length if length <= ring.most_bytes or not self._greeted else _HEAD)
        entry = (monotonic(), TO_WORKER, data, length, end)  # bytes are never changed, so they need no copy
        if self._greeted:
            ring.add(entry, len(data))
        else:
            ring.pin(entry)
        return end

    def keep(self, frame: memoryview) -> None:
        """Keeps a frame that the worker sent."""
        ring, length = self.ring, len(frame)
        if not self._greeted and _is_response(frame):
            self._greeted = True
            ring.pin((monotonic(), FROM_WORKER, bytes(frame), length, 0))
            return
        data = bytes(frame if length <= ring.most_bytes else frame[:_HEAD])
        ring.add((monotonic(), FROM_WORKER, data, length, 0), len(data))

    def frames(self) -> list[RecordedFrame]:
        """What is kept of what was said; not what never reached the worker's stdin."""
        return [
            RecordedFrame(at - self.began, direction, data[_HEADER:], length - _HEADER)
            if direction == TO_WORKER
            else RecordedFrame(at - self.began, direction, data, length)
            for at, direction, data, length, end in self.ring.entries()
            if end <= self.written
        ]

    def header(self, verdict: Verdict) -> dict[str, Any]:
        """What a recording says of itself, but for the number of its frames."""
        told = verdict.as_dict()
        if self.record.redact:
            told = {key: told[key] for key in _SAID}
        return {
            "service": self.service,
            "replica": self.replica,
            "command": list(self._arguments["command"]),
            "transport": self._arguments["transport"],
            "worker": {"name": self.peer.name, "language": self.peer.language, "sdk": self.peer.sdk},
            "verdict": told,
            "began": verdict.time - verdict.uptime,
            "forgotten": self.ring.forgotten,
            "redacted": self.record.redact,
        }


class Recordings:
    """The directory of recordings: a file for each death of a service with `record`, the oldest taken away."""

    def __init__(self, directory: Path, events: EventLog) -> None:
        self._directory = directory
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._writing: set[asyncio.Future[None]] = set()

    def of(self, port: Port, verdict: Verdict) -> Verdict:
        """Begins to write what a dead worker's port has kept, if that is wanted; the verdict names the file then.

        It is written by a thread: the event `recorded` tells that it is there, a warning that it could not be written.
        """
        if not isinstance(port, RecordedPort) or (verdict.normal and port.record.when != "always"):
            return verdict
        stamp = strftime("%Y%m%dT%H%M%S", gmtime(verdict.time))
        path = self._directory / f"{port.service}.{port.replica}.{stamp}.{port.pid}{SUFFIX}"
        done: asyncio.Future[None] = self._loop.create_future()
        self._writing.add(done)
        work = (path, port.header(verdict), port.frames(), port.record, done)
        threading.Thread(target=self._write, args=work, name=f"mlports-recording-{port.pid}").start()
        return replace(verdict, recording=str(path))

    async def close(self) -> None:
        """Returns when all that was begun is written."""
        while self._writing:
            await asyncio.wait(self._writing)

    def _write(
        self,
        path: Path,
        header: dict[str, Any],
        frames: list[RecordedFrame],
        settings: RecordConfig,
        done: asyncio.Future[None],
    ) -> None:
        error: Exception | None = None
        size = 0
        try:
            if settings.redact:
                frames = _redacted(frames, settings.redact)
            size = _write_whole(path, header, frames)
            _take_away(path.parent, header["service"], settings.keep)
        except Exception as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(self._written, path, header, len(frames), size, error, done)

    def _written(
        self,
        path: Path,
        header: dict[str, Any],
        frames: int,
        size: int,
        error: Exception | None,
        done: asyncio.Future[None],
    ) -> None:
        who = {"service": header["service"], "replica": header["replica"]}
        if error is None:
            self._events.emit("recorded", **who, file=str(path), frames=frames, bytes=size)
        else:
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            text = (
                f"cannot write the recording {path}: {why}. Make room there or make it writable, or set state_dir to "
                "another directory; nothing but the recording is lost"
            )
            self._events.emit("log", **who, level="warning", text=text)
        self._writing.discard(done)
        if not done.done():
            done.set_result(None)


class _RecordingDecoder(FrameDecoder):
    """Hands each frame to the port's recording on its way."""

    def __init__(self, port: RecordedPort) -> None:
        super().__init__(port.session.decoder.max_frame)
        self._port = port

    def next_frame(self) -> memoryview | None:
        frame = super().next_frame()
        if frame is not None:
            self._port.keep(frame)
        return frame


def _is_response(frame: memoryview) -> bool:
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame[:16])
    try:
        unpacker.read_array_header()
        return bool(unpacker.unpack() == RESPONSE)
    except Exception:  # no message: the session will say so
        return False


def _joined(buffers: list[Buffer], most: int) -> bytes:
    pieces: list[Buffer] = []
    for buffer in buffers:
        piece = buffer[:most]
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _redacted(frames: list[RecordedFrame], rules: bool | list[str]) -> list[RecordedFrame]:
    redaction = Redaction(rules)
    found = []
    for frame in frames:
        # What is not whole cannot be taken apart.
        payload = redaction.redact(frame.direction, frame.payload) if frame.whole else b""
        found.append(frame._replace(payload=payload, length=len(payload) or frame.length))
    return found


def _write_whole(path: Path, header: dict[str, Any], frames: list[RecordedFrame]) -> int:
    """Writes the file, which appears when it is whole, and gives its size."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_suffix(".part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in encode_recording({**header, "frames": len(frames)}, frames):
                file.write(piece)
            size = file.tell()
        os.rename(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    return size


def _take_away(directory: Path, service: str, keep: int) -> None:
    """Leaves the newest `keep` recordings of a service, and what others have made of them."""
    ours = [path for path in directory.glob(f"{service}.*{SUFFIX}") if path.name.count(".") == _DOTS]
    found = sorted(ours, key=lambda path: path.stat().st_mtime_ns)
    for path in found[:-keep]:
        with suppress(FileNotFoundError):
            path.unlink()
