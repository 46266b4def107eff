"""The vectors of frames.json against a program in another language, which reads streams and writes what was in them.

The program reads lines `MAX_FRAME PIECE,PIECE,…`, the pieces in hex, each of which is to come from one read. For each
it writes a line: the frames of the messages that it decoded, in hex, as its own encoder writes them, and behind them
the name of the fault that ended the stream, if one did.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from mlports_protocol import DEFAULT_MAX_FRAME
from mlports_protocol.codec import Codec
from tests.unit.test_vectors import VECTORS, native_message, pieces, same_message

_WAYS = ("whole", "bytes", "random 1", "random 2")


def check_vectors(program: Path) -> None:
    """Every vector that needs no shared memory, read whole and in pieces; those marked `encode` byte for byte."""
    asked = [(vector, how) for vector in VECTORS if "segments" not in vector for how in _WAYS]
    lines = "".join(f"{_line(vector, how)}\n" for vector, how in asked)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"{program.name} ended with {done.returncode}: {done.stderr}"
    told = done.stdout.split("\n")[:-1]
    assert len(told) == len(asked)
    wrong = [f"{vector['name']}, {how}: {story}" for (vector, how), line in zip(asked, told, strict=True)
             if (story := _wrong(vector, line))]  # fmt: skip
    assert not wrong, f"{len(wrong)} of {len(asked)} streams:\n" + "\n".join(wrong[:20])


def _line(vector: dict[str, Any], how: str) -> str:
    parts = [piece.hex() for piece in pieces(bytes.fromhex(vector["hex"]), how) if piece]
    return f"{vector.get('max_frame', DEFAULT_MAX_FRAME)} {','.join(parts)}"


def _wrong(vector: dict[str, Any], line: str) -> str | None:
    *frames, fault = line.split(" ")
    if fault == "TruncatedFrame" and not vector.get("eof"):
        fault = ""  # more could have come
    if fault != vector.get("error", ""):
        return f"{fault or 'no fault'} where {vector.get('error', 'none')} was due"
    expected = [native_message(said) for said in vector.get("messages", [])]
    codec = Codec(ndarray=True)
    heard = [codec.decode(memoryview(bytes.fromhex(frame))[4:]) for frame in frames]
    if len(heard) != len(expected) or not all(map(same_message, heard, expected)):
        return f"{heard} where {expected} was due"
    if vector.get("encode") and "".join(frames) != vector["hex"]:
        return f"encoded as {''.join(frames)}, and {vector['hex']} is right"
    return None
