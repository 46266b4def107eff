"""What can go wrong between two ends of a connection, named.

Two families, because they are mended in different places: a `LocalProtocolError` is a mistake of the program that
called us and leaves the connection usable; a `RemoteProtocolError` is a peer that broke the rules, after which nothing
more can be read from it.
"""

from __future__ import annotations

import reprlib
from typing import Any


class ProtocolError(Exception):
    """Anything that breaks the rules of SPEC.md. Never raised itself."""


class LocalProtocolError(ProtocolError):
    """This side was about to break the rules; nothing was sent."""


class Unencodable(LocalProtocolError):
    """A value that MessagePack and the protocol's extension types cannot carry."""


class OversizedMessage(LocalProtocolError):
    """The encoded message is longer than the frames that the peer accepts."""


class WrongState(LocalProtocolError):
    """The session is not in a state in which this may be sent, or the peer did not claim the feature."""


class NotOutstanding(LocalProtocolError):
    """An answer, item or credit for a request that is not open (any more)."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules. `offending` holds the first bytes that did, when there are any."""

    def __init__(self, message: str, offending: bytes = b"") -> None:
        super().__init__(message)
        self.offending = bytes(offending[:256])


class EmptyFrame(RemoteProtocolError):
    """A frame of length 0."""


class FrameTooLarge(RemoteProtocolError):
    """A frame longer than max_frame."""


class TruncatedFrame(RemoteProtocolError):
    """The stream ended inside a frame."""


class StdoutPolluted(RemoteProtocolError):
    """Text where a frame was due: the program, or a library of its, printed on the protocol's stream."""

    def __init__(self, text: str, offending: bytes = b"") -> None:
        super().__init__(
            f"text where a frame was due: {text!r}. The program printed on its standard output, which carries the "
            'protocol: print on standard error, import the SDK before anything that prints, or use transport = "fd34"',
            offending,
        )
        self.text = text


class MalformedValue(RemoteProtocolError):
    """A frame whose bytes are not one MessagePack value."""


class TrailingBytes(RemoteProtocolError):
    """A frame with bytes left over behind its value."""


class InvalidMessage(RemoteProtocolError):
    """A value that is none of the three messages."""


class InvalidExtension(RemoteProtocolError):
    """An extension value whose content contradicts itself, or that was not negotiated."""


class UnknownId(RemoteProtocolError):
    """An answer or item for a request that was never made."""


class AnsweredTwice(RemoteProtocolError):
    """A second answer, or an item after the answer, for one request."""


class DuplicateId(RemoteProtocolError):
    """A request whose id is still in use by an earlier one."""


class HandshakeExpected(RemoteProtocolError):
    """A message came before `$/hello`, or a second `$/hello`."""


class InvalidHello(RemoteProtocolError):
    """A `$/hello`, or its answer, with fields missing or of the wrong type."""


class UnsupportedVersion(RemoteProtocolError):
    """No version of the protocol that both ends speak."""


class CreditExceeded(RemoteProtocolError):
    """An item beyond the credit that was given."""


class _Shown(reprlib.Repr):
    """reprlib's, which is short and not deep, for what a peer may have sent instead of what was due."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 80

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}... of {len(value)} bytes"

    def repr_ExtType(self, value: Any, level: int) -> str:
        return f"extension type {value.code} of {len(value.data)} bytes"

    def repr_ndarray(self, value: Any, level: int) -> str:
        return f"an ndarray of dtype {value.dtype!s:.80} and shape {value.shape}"


_SHOWN = _Shown()


def shown(value: Any) -> str:
    """`value` for an error message: at most 80 characters, however large, deep or unprintable it is."""
    text = _SHOWN.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def printed_text(data: bytes, least: int = 4) -> str | None:
    """The first run of at least `least` printable ASCII characters in `data` that ends a line, if there is one."""
    start = None
    for index, byte in enumerate(data):
        if 0x20 <= byte <= 0x7E or byte == 0x09:
            start = index if start is None else start
        else:
            if byte == 0x0A and start is not None and index - start >= least:
                return data[start:index].decode("ascii")
            start = None
    return None
