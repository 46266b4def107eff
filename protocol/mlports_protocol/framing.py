"""Frames: a length of 4 bytes, big-endian, then that many bytes (SPEC.md section 2)."""

from __future__ import annotations

import struct

from .errors import EmptyFrame, FrameTooLarge, RemoteProtocolError, StdoutPolluted, TruncatedFrame

DEFAULT_MAX_FRAME = 64 * 1024 * 1024
MAX_FRAME_LIMIT = 2**31 - 1  # Erlang's VM dies of a longer one

_LENGTH = struct.Struct(">I")
_REUSED_FROM = 1024 * 1024  # bytes from which on new memory costs more than the copying: the system clears each page
_SPARES = 2  # one that is read into while a view of the other is still looked at
_SPARE_LIFE = 256  # pieces with nothing large in them, after which spare buffers are let go
_TEXT_FIRST = frozenset([0x09, 0x0A, 0x0D, 0x1B, *range(0x20, 0x7F)])

frame_header = _LENGTH.pack  # length of the payload -> the 4 bytes before it


class FrameDecoder:
    """Cuts a byte stream into frames, whatever pieces it comes in.

    `feed()` what was read, then call `next_frame()` until it gives None. Frames are memoryviews: of the piece that was
    fed when the whole frame lies in it, so nothing is copied, else of a buffer of the frame's own, into which every
    byte is copied once. `room()` lends the rest of that buffer, to read a large frame straight into its place. The
    buffer of a large frame is used again when no view of it is left; at most two wait for that.

    Not a frame: `EmptyFrame`, `FrameTooLarge` or `StdoutPolluted`, raised after the frames that came before it, and
    again at each later call: past it no frame boundary can be found.
    """

    def __init__(self, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        if not 1 <= max_frame <= MAX_FRAME_LIMIT:
            raise ValueError(f"max_frame must be 1 … {MAX_FRAME_LIMIT}, not {max_frame}")
        self.max_frame = max_frame
        self._piece = memoryview(b"")
        self._at = 0
        self._header = b""  # a header cut by the end of a piece: fewer than 4 bytes
        self._partial: memoryview | None = None  # a frame cut by the end of a piece
        self._filled = 0
        self._broken: RemoteProtocolError | None = None
        self._spares: list[bytearray] = []
        self._spare_age = 0

    @property
    def inside_frame(self) -> bool:
        """Whether the bytes fed so far end in the middle of a frame (its header counts)."""
        return bool(self._header) or self._partial is not None or self._at < len(self._piece)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Adds what was read. The decoder keeps a view of `data`: it must not be changed afterwards."""
        if self._at < len(self._piece):
            if self._broken is not None:
                return
            data = bytes(self._piece[self._at :]) + bytes(data)
        self._piece = memoryview(data)
        self._at = 0
        if self._spares and self._partial is None:
            self._spare_age += 1
            if self._spare_age > _SPARE_LIFE:
                self._spares.clear()

    def room(self) -> memoryview | None:
        """The rest of the frame that is being put together, to be read into, or None when no frame is."""
        if self._partial is None or self._filled == len(self._partial) or self._at < len(self._piece):
            return None
        return self._partial[self._filled :]

    def filled(self, count: int) -> None:
        """Says that the first `count` bytes of `room()` now hold what was read."""
        if self._partial is None or not 0 <= count <= len(self._partial) - self._filled:
            raise ValueError(f"{count} bytes were not lent by room()")
        self._filled += count

    def next_frame(self) -> memoryview | None:
        """The next whole frame's payload (at least 1 byte), or None until more is fed."""
        if self._broken is not None:
            raise self._broken
        if self._partial is not None:
            return self._finish_partial()
        piece, at = self._piece, self._at
        available = len(piece) - at
        if self._header:
            return self._finish_header()
        if available < 4:
            self._header = bytes(piece[at:])
            self._at = len(piece)
            return None
        (length,) = _LENGTH.unpack_from(piece, at)
        if not 0 < length <= self.max_frame:
            raise self._refuse(length, bytes(piece[at : at + 256]))
        start = at + 4
        end = start + length
        if end <= len(piece):
            self._at = end
            return piece[start:end]
        self._begin_partial(length, piece[start:])
        self._at = len(piece)
        return None

    def end(self) -> None:
        """Says that the stream ended; to be called when `next_frame()` gave None.

        Raises `TruncatedFrame` when the end cut a frame in two.
        """
        if self._broken is not None:
            raise self._broken
        if self._partial is not None:
            missing = len(self._partial) - self._filled
            self._broken = TruncatedFrame(
                f"the stream ended inside a frame: {missing} of {len(self._partial)} bytes are missing",
                bytes(self._partial[: min(self._filled, 256)]),
            )
        elif self._header or self._at < len(self._piece):
            rest = self._header or bytes(self._piece[self._at : self._at + 4])
            self._broken = TruncatedFrame(f"the stream ended inside a frame's length, after {rest.hex(' ')}", rest)
        if self._broken is not None:
            raise self._broken

    def _finish_header(self) -> memoryview | None:
        need = 4 - len(self._header)
        header = self._header + bytes(self._piece[self._at : self._at + need])
        self._at = min(self._at + need, len(self._piece))
        self._header = header
        if len(header) < 4:
            return None
        (length,) = _LENGTH.unpack(header)
        if not 0 < length <= self.max_frame:
            raise self._refuse(length, header + bytes(self._piece[self._at : self._at + 252]))
        self._header = b""
        self._begin_partial(length, memoryview(b""))
        return self._finish_partial()

    def _begin_partial(self, length: int, start: memoryview) -> None:
        self._partial = memoryview(bytearray(length) if length < _REUSED_FROM else self._large_buffer(length))[:length]
        self._filled = len(start)
        self._partial[: self._filled] = start

    def _large_buffer(self, length: int) -> bytearray:
        self._spare_age = 0
        for spare in self._spares:
            if len(spare) >= length and _is_unused(spare):
                return spare
        buffer = bytearray(length)
        self._spares = [buffer, *self._spares[: _SPARES - 1]]
        return buffer

    def _finish_partial(self) -> memoryview | None:
        assert self._partial is not None
        take = min(len(self._partial) - self._filled, len(self._piece) - self._at)
        if take:
            self._partial[self._filled : self._filled + take] = self._piece[self._at : self._at + take]
            self._filled += take
            self._at += take
        if self._filled < len(self._partial):
            return None
        frame = self._partial
        self._partial = None
        self._filled = 0
        return frame

    def _refuse(self, length: int, offending: bytes) -> RemoteProtocolError:
        if length == 0:
            self._broken = EmptyFrame("a frame of length 0: every frame holds one value", offending)
        elif offending[0] in _TEXT_FIRST:
            self._broken = StdoutPolluted(_leading_text(offending), offending)
        else:
            self._broken = FrameTooLarge(
                f"a frame of {length} bytes, where at most {self.max_frame} were agreed (max_frame)", offending
            )
        return self._broken


def _is_unused(buffer: bytearray) -> bool:
    """Whether no view of the buffer is left: only then can its size be changed."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


def _leading_text(data: bytes) -> str:
    """The bytes up to the first that no text holds, as text."""
    end = 0
    while end < len(data) and (data[end] in _TEXT_FIRST or data[end] >= 0x80):
        end += 1
    return data[:end].decode("utf-8", "backslashreplace")
