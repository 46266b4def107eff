"""Recordings on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlports.core.recording import RecordedFrame, Recording, decode_recording, encode_recording
from mlports.errors import RecordingError

_LOOKED_AT = 64  # bytes that tell a recording from what is none, which may be endless


def read_recording(path: Path) -> Recording:
    """The recording in a file. Raises `RecordingError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_LOOKED_AT)
            if b"mlports-recording" in data:
                data += file.read()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from None
    return decode_recording(data, str(path))


def write_recording(path: Path, header: Mapping[str, Any], frames: list[RecordedFrame]) -> None:
    """Writes one, in the place of what was there. Raises `RecordingError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in encode_recording({**header, "frames": len(frames)}, frames):
                file.write(piece)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror or error}") from None
