"""What went over the wire, kept short enough to be shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_HEAD, _TAIL = 48, 16  # bytes of a piece that are kept when it is long
_KEPT = 200  # pieces of one conversation
_TEXT = 160  # characters of a decoded message


@dataclass(frozen=True)
class Piece:
    """A frame, or other bytes, that one side wrote. `sent` is the kit's side."""

    sent: bool
    head: bytes
    tail: bytes
    length: int
    meaning: str

    @property
    def hex(self) -> str:
        """The bytes; of a long piece the beginning and the end."""
        if not self.tail:
            return self.head.hex()
        return f"{self.head.hex()}…{self.tail.hex()}"

    def __str__(self) -> str:
        way = "sent    " if self.sent else "received"
        size = f" ({self.length} bytes)" if self.tail else ""
        return f"{way}  {self.hex}{size}\n            {self.meaning}"


class Transcript:
    """The last pieces of a conversation, in order."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque(maxlen=_KEPT)
        self.count = 0

    def add(self, sent: bool, data: bytes | memoryview, meaning: str) -> None:
        """Notes a piece; of `data` only the ends are kept."""
        length = len(data)
        short = length <= _HEAD + _TAIL
        head, tail = (bytes(data), b"") if short else (bytes(data[:_HEAD]), bytes(data[-_TAIL:]))
        self._pieces.append(Piece(sent, head, tail, length, shortened(meaning)))
        self.count += 1

    def since(self, mark: int, most: int) -> Iterator[Piece]:
        """The last pieces, at most so many, of those that came behind the first `mark`."""
        wanted = min(self.count - mark, most, len(self._pieces))
        return iter(list(self._pieces)[len(self._pieces) - wanted :])


def shortened(text: str, most: int = _TEXT) -> str:
    """A text without its middle where it is long."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 4 :]}"
