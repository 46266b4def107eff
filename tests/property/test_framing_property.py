"""Frames come out as they went in, wherever the stream is cut, and a fault is the same wherever it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from mlports_protocol import FrameDecoder, RemoteProtocolError, frame_header

payloads = st.lists(st.binary(min_size=1, max_size=40) | st.integers(1, 3000).map(bytes), max_size=12)
cuts = st.lists(st.integers(0, 2**16), max_size=30)


def framed(frames: list[bytes]) -> bytes:
    return b"".join(frame_header(len(frame)) + frame for frame in frames)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


def read(stream: bytes, places: list[int], max_frame: int, lend: bool = False) -> tuple[list[bytes], str]:
    """The frames of a stream that comes in pieces, and the name of its fault or its kind of end."""
    decoder = FrameDecoder(max_frame)
    frames: list[bytes] = []
    try:
        for piece in cut(stream, places):
            rest = memoryview(piece)
            while rest:
                room = decoder.room() if lend else None
                if room is None:
                    decoder.feed(rest)
                    rest = rest[len(rest) :]
                else:
                    count = min(len(room), len(rest))
                    room[:count] = rest[:count]
                    decoder.filled(count)
                    rest = rest[count:]
                while (frame := decoder.next_frame()) is not None:
                    assert len(frame) >= 1
                    frames.append(bytes(frame))
                assert decoder.next_frame() is None
        inside = decoder.inside_frame
        decoder.end()
        assert not inside
    except RemoteProtocolError as fault:
        return frames, type(fault).__name__
    return frames, "clean"


@given(payloads, cuts, st.booleans())
@example([b"abc", b"d"], [4], False)
@example([b"abc", b"d"], [3, 4, 7, 8], True)
def test_any_frames_come_out_of_any_pieces(frames: list[bytes], places: list[int], lend: bool) -> None:
    assert read(framed(frames), places, 3000, lend) == (frames, "clean")


@given(payloads.filter(bool), st.data())
def test_a_cut_stream_gives_its_whole_frames_and_is_truncated(frames: list[bytes], data: st.DataObject) -> None:
    stream = framed(frames)
    end = data.draw(st.integers(0, len(stream)))
    whole, at = [], 0
    for frame in frames:
        at += 4 + len(frame)
        if at <= end:
            whole.append(frame)
    clean = end == len(framed(whole))
    got = read(stream[:end], data.draw(cuts), 3000, data.draw(st.booleans()))
    assert got == (whole, "clean" if clean else "TruncatedFrame")


@given(st.binary(max_size=300), cuts, st.integers(1, 400), st.booleans())
def test_any_bytes_mean_the_same_however_they_are_cut(
    stream: bytes, places: list[int], max_frame: int, lend: bool
) -> None:
    assert read(stream, places, max_frame, lend) == read(stream, [], max_frame)


@given(payloads, st.binary(min_size=4, max_size=4), st.integers(1, 3000), cuts)
def test_what_is_no_frame_is_named_after_the_frames_before_it(
    frames: list[bytes], header: bytes, max_frame: int, places: list[int]
) -> None:
    length = int.from_bytes(header, "big")
    frames = [frame[:max_frame] for frame in frames]
    got, fault = read(framed(frames) + header, places, max_frame)
    assert got == frames
    if length == 0:
        assert fault == "EmptyFrame"
    elif length <= max_frame:
        assert fault == "TruncatedFrame"
    else:
        assert fault in ("FrameTooLarge", "StdoutPolluted")
