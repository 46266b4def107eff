"""Arrays, extension 1 (SPEC.md 12.1)."""

from __future__ import annotations

from typing import Any

import msgpack

from mlports.testing.conformance.comparison import difference, same
from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import framed, golden_frames, packed, value_in

_EVERYWHERE = (
    *("ndarray-f4", "ndarray-f4-matrix", "ndarray-f8-special", "ndarray-i8", "ndarray-u1-fixext-16"),
    *("ndarray-u1-ext-16-bit-length", "ndarray-0-d", "ndarray-empty", "ndarray-empty-with-columns"),
)
"""Vectors of the element types that every language has."""

_ID = 1  # of the requests in the vectors


def _good_vectors() -> dict[str, dict[str, Any]]:
    return {
        vector["name"]: vector
        for vector in golden_frames()
        if vector["name"].startswith("ndarray-") and vector.get("messages") and "error" not in vector
    }


def _array(dtype: Any, shape: list[int], elements: bytes) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb([dtype, shape]) + elements)


@row(
    "arrays of the common types come back as they were",
    section="12.1",
    level="full",
    needs=("echo",),
    feature="ndarray",
)
def common_arrays(trial: Trial) -> None:
    talk = trial.talk()
    vectors = _good_vectors()
    for name in _EVERYWHERE:
        call = talk.new_call("echo", id=_ID)
        frame = bytes.fromhex(vectors[name]["hex"])
        talk.send_bytes(frame, f"vector {name}")
        (sent,) = value_in(frame[4:])[3]
        came = talk.result(call)
        talk.forget_answered()
        if not same(sent, came):
            raise Failed(f"the array of vector {name}", difference(sent, came)[1])
    for dtype, size in (("|b1", 1), ("|i1", 1), ("<i2", 2), ("<i4", 4), ("<u2", 2), ("<u4", 4), ("<u8", 8)):
        talk.echoes(_array(dtype, [3], bytes([1, 0, 1] if size == 1 else range(3 * size))))


@row(
    "arrays of other types come back as they were, or are invalid_argument",
    section="12.1",
    level="full",
    needs=("echo",),
    feature="ndarray",
)
def other_arrays(trial: Trial) -> None:
    talk = trial.talk()
    for name, vector in _good_vectors().items():
        frame = bytes.fromhex(vector["hex"])
        params = value_in(frame[4:])[3]
        if name in _EVERYWHERE or len(params) != 1:
            continue
        call = talk.new_call("echo", id=_ID)
        talk.send_bytes(frame, f"vector {name}")
        response = talk.answer(call)
        if response.error is not None:
            talk.error(call, "invalid_argument")
        elif not same(params[0], response.result):
            raise Failed(f"the array of vector {name}", difference(params[0], response.result)[1])
        talk.forget_answered()


@row("an array of 8 MB, inside other values", section="12.1", level="full", needs=("echo",), feature="ndarray")
def large_array(trial: Trial) -> None:
    large = _array("<f8", [1000, 1000], bytes(range(250)) * 32_000)
    trial.talk().echoes({"x": [large, 1], "y": _array("<f4", [], b"\0\0\x80?")})


def _refuses(trial: Trial, array: msgpack.ExtType, what: str) -> None:
    talk = trial.start()
    talk.send_bytes(packed([0, 1, "echo", [array]]), f"([0, 1, 'echo', [array]]: {what})")
    talk.new_call("echo", id=1)
    talk.ends_abnormally(f"{what} (InvalidExtension)")


@row("an array with too few bytes ends it", section="12.1", level="full", feature="ndarray")
def array_too_short(trial: Trial) -> None:
    _refuses(trial, _array("<f4", [2], bytes(7)), "an array of 2 × 4 bytes with 7")


@row("an array whose size overflows ends it", section="12.1", level="full", feature="ndarray")
def array_overflows(trial: Trial) -> None:
    _refuses(trial, _array("<f8", [2**62, 8], b""), "an array of 2^62 × 8 × 8 bytes with none")


@row("a big-endian array ends it", section="12.1", level="full", feature="ndarray")
def array_big_endian(trial: Trial) -> None:
    _refuses(trial, _array(">f4", [2], bytes(8)), "an array of dtype >f4")


@row("an array ends it where the feature is not agreed", section="3.7", level="full", feature="ndarray")
def array_not_agreed(trial: Trial) -> None:
    talk = trial.start(features=["ping"])
    talk.send_bytes(
        framed(packed([0, 1, "echo", [_array("<f4", [1], bytes(4))]])[4:]), "(an array, ndarray not being agreed)"
    )
    talk.new_call("echo", id=1)
    talk.ends_abnormally("an array without the feature ndarray (InvalidExtension)")
