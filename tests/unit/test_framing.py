"""Frames: cutting a byte stream at its lengths, whatever pieces it comes in, and naming what is not a frame."""

from __future__ import annotations

import time

import pytest

from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    MAX_FRAME_LIMIT,
    EmptyFrame,
    FrameDecoder,
    FrameTooLarge,
    RemoteProtocolError,
    StdoutPolluted,
    TruncatedFrame,
    frame_header,
)

PAYLOADS = [b"a", b"bc", bytes(3), b"\xff" * 4, b"d" * 255, b"e" * 256, b"f" * 5000, b"g"]


def framed(*payloads: bytes) -> bytes:
    return b"".join(frame_header(len(payload)) + payload for payload in payloads)


def read_into(frames: list[bytes], decoder: FrameDecoder, pieces: list[bytes]) -> None:
    """Frames before a fault are in the list when it is raised."""
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            frames.append(bytes(frame))


def drain(decoder: FrameDecoder) -> list[bytes]:
    frames: list[bytes] = []
    read_into(frames, decoder, [b""])
    return frames


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def test_a_header_is_the_length_in_four_bytes_big_endian() -> None:
    assert frame_header(0x01020304) == b"\1\2\3\4"
    assert frame_header(0xFFFFFFFF) == b"\xff" * 4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 64, 259, 260, 261, 100_000])
def test_frames_come_out_of_pieces_of_any_size(size: int) -> None:
    decoder = FrameDecoder()
    frames = []
    for piece in cut(framed(*PAYLOADS), size):
        decoder.feed(piece)
        frames += drain(decoder)
    assert frames == PAYLOADS
    assert not decoder.inside_frame
    decoder.end()


@pytest.mark.parametrize("place", range(1, 14))
def test_a_stream_may_be_cut_anywhere(place: int) -> None:
    stream = framed(b"ab", b"cdefg")
    decoder = FrameDecoder()
    decoder.feed(stream[:place])
    frames = drain(decoder)
    assert decoder.inside_frame == (place != 6)
    decoder.feed(stream[place:])
    assert frames + drain(decoder) == [b"ab", b"cdefg"]


def test_a_piece_may_end_right_behind_a_header() -> None:
    decoder = FrameDecoder()
    decoder.feed(framed(b"x") + b"\0\0\0\6")
    assert drain(decoder) == [b"x"]
    assert drain(decoder) == []
    decoder.feed(b"abc")
    assert drain(decoder) == []
    decoder.feed(b"def")
    assert drain(decoder) == [b"abcdef"]


def test_empty_pieces_change_nothing() -> None:
    decoder = FrameDecoder()
    for piece in [b"", b"\0\0", b"", b"\0\2", b"", b"a", b"", b"b", b""]:
        decoder.feed(piece)
        frames = drain(decoder)
        assert frames == ([b"ab"] if piece == b"b" else [])


def test_pieces_fed_before_the_frames_are_taken_are_not_lost() -> None:
    decoder = FrameDecoder()
    for piece in cut(framed(*PAYLOADS), 37):
        decoder.feed(piece)
    assert drain(decoder) == PAYLOADS


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_may_be_fed(kind: type) -> None:
    decoder = FrameDecoder()
    decoder.feed(kind(framed(b"abc", b"d")[:5]))
    assert drain(decoder) == []
    decoder.feed(kind(framed(b"abc", b"d")[5:]))
    assert drain(decoder) == [b"abc", b"d"]


def test_a_frame_that_lies_whole_in_its_piece_is_not_copied() -> None:
    piece = framed(b"a" * 100, b"b" * 100)
    decoder = FrameDecoder()
    decoder.feed(piece)
    first, second = decoder.next_frame(), decoder.next_frame()
    assert first is not None
    assert second is not None
    assert first.obj is piece
    assert second.obj is piece


def test_frames_stay_as_they_are_while_more_is_read() -> None:
    decoder = FrameDecoder()
    kept = []
    for piece in cut(framed(*[bytes([number]) * 50 for number in range(40)]), 33):
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            kept.append(frame)
    assert [bytes(frame) for frame in kept] == [bytes([number]) * 50 for number in range(40)]


# -- lengths


@pytest.mark.parametrize("max_frame", [1, 2, 255, 256, 65536])
def test_max_frame_is_the_longest_frame(max_frame: int) -> None:
    decoder = FrameDecoder(max_frame)
    decoder.feed(framed(b"a" * max_frame))
    assert drain(decoder) == [b"a" * max_frame]
    decoder.feed(framed(b"a" * (max_frame + 1)))
    with pytest.raises(FrameTooLarge, match=f"{max_frame + 1} bytes.*at most {max_frame} "):
        decoder.next_frame()


@pytest.mark.parametrize("max_frame", [0, -1, MAX_FRAME_LIMIT + 1])
def test_max_frame_itself_has_limits(max_frame: int) -> None:
    with pytest.raises(ValueError, match="max_frame"):
        FrameDecoder(max_frame)


def test_the_limits_are_those_of_the_protocol() -> None:
    assert FrameDecoder().max_frame == DEFAULT_MAX_FRAME == 2**26
    assert FrameDecoder(MAX_FRAME_LIMIT).max_frame == 2**31 - 1


@pytest.mark.parametrize("length", [DEFAULT_MAX_FRAME + 1, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_length_past_max_frame_is_refused_by_its_header_alone(length: int, size: int) -> None:
    decoder = FrameDecoder()
    *first, last = cut(frame_header(length), size)
    for piece in first:
        decoder.feed(piece)
        assert decoder.next_frame() is None
    decoder.feed(last)
    with pytest.raises(FrameTooLarge) as caught:
        decoder.next_frame()
    assert caught.value.offending == frame_header(length)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_frame_of_no_bytes_is_refused(size: int) -> None:
    decoder = FrameDecoder()
    frames: list[bytes] = []
    with pytest.raises(EmptyFrame):
        read_into(frames, decoder, cut(bytes(4), size))
    assert frames == []


# -- text where a frame was due


def test_which_first_bytes_make_it_text() -> None:
    for first in range(256):
        decoder = FrameDecoder(max_frame=1)
        decoder.feed(bytes([first]) + b"ext\n")
        text = first in (0x09, 0x0A, 0x0D, 0x1B) or 0x20 <= first <= 0x7E
        with pytest.raises(StdoutPolluted if text else FrameTooLarge) as caught:
            decoder.next_frame()
        assert caught.value.offending == bytes([first]) + b"ext\n"


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"Loading model...\n", "Loading model...\n"),
        (b"done\0\0\0\1x", "done"),
        ("näive ✓\n".encode(), "näive ✓\n"),
        (b"bad \xff byte", "bad \\xff byte"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    ],
)
def test_the_text_is_quoted_up_to_the_first_byte_that_no_text_holds(printed: bytes, text: str) -> None:
    decoder = FrameDecoder()
    decoder.feed(framed(b"ok") + printed)
    assert drain_one(decoder) == b"ok"
    with pytest.raises(StdoutPolluted) as caught:
        decoder.next_frame()
    assert caught.value.text == text
    assert repr(text) in str(caught.value)
    assert "standard error" in str(caught.value)


def drain_one(decoder: FrameDecoder) -> bytes | None:
    frame = decoder.next_frame()
    return None if frame is None else bytes(frame)


def test_long_text_is_quoted_in_part() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"x" * 1_000_000)
    with pytest.raises(StdoutPolluted) as caught:
        decoder.next_frame()
    assert caught.value.text == "x" * 256
    assert len(caught.value.offending) == 256


# -- after a fault


@pytest.mark.parametrize("bad", [bytes(4), b"\xff\0\0\0", b"text\n"])
@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_the_frames_before_a_fault_come_first_and_it_stays(bad: bytes, size: int) -> None:
    decoder = FrameDecoder()
    frames: list[bytes] = []
    with pytest.raises(RemoteProtocolError) as caught:
        read_into(frames, decoder, cut(framed(b"one", b"two") + bad + framed(b"three"), size))
    assert frames == [b"one", b"two"]
    for again in (decoder.next_frame, decoder.end, decoder.next_frame):
        decoder.feed(framed(b"four"))
        with pytest.raises(RemoteProtocolError) as later:
            again()
        assert later.value is caught.value


def test_a_broken_decoder_does_not_collect_what_it_is_fed() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"text\n")
    with pytest.raises(StdoutPolluted):
        decoder.next_frame()
    began = time.perf_counter()
    for _ in range(3000):
        decoder.feed(bytes(65536))
    assert time.perf_counter() - began < 2


# -- the end of the stream


def test_an_end_between_frames_is_clean() -> None:
    decoder = FrameDecoder()
    decoder.end()
    decoder.feed(framed(b"abc"))
    assert drain(decoder) == [b"abc"]
    decoder.end()


@pytest.mark.parametrize("place", range(1, 9))
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_end_inside_a_frame_is_named(place: int, size: int) -> None:
    decoder = FrameDecoder()
    for piece in cut(framed(b"good") + framed(b"abcde")[:place], size):
        decoder.feed(piece)
        drain(decoder)
    where = "length" if place < 4 else f"{9 - place} of 5 bytes"
    for _ in range(2):
        with pytest.raises(TruncatedFrame, match=where):
            decoder.end()
    with pytest.raises(TruncatedFrame):
        decoder.next_frame()


# -- large frames


def test_room_lends_the_rest_of_a_frame() -> None:
    decoder = FrameDecoder()
    assert decoder.room() is None
    decoder.feed(frame_header(10) + b"abc")
    assert decoder.room() is None
    assert decoder.next_frame() is None
    room = decoder.room()
    assert room is not None
    assert len(room) == 7
    room[:4] = b"defg"
    decoder.filled(4)
    assert decoder.next_frame() is None
    room = decoder.room()
    assert room is not None
    assert len(room) == 3
    room[:] = b"hij"
    decoder.filled(3)
    assert decoder.room() is None
    assert drain(decoder) == [b"abcdefghij"]
    assert decoder.room() is None
    decoder.feed(framed(b"next"))
    assert drain(decoder) == [b"next"]


def test_room_right_behind_a_header_is_the_whole_frame() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame_header(3))
    assert decoder.next_frame() is None
    room = decoder.room()
    assert room is not None
    room[:] = b"abc"
    decoder.filled(3)
    assert drain(decoder) == [b"abc"]


def test_an_end_inside_a_lent_frame_is_truncated() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame_header(3) + b"a")
    assert decoder.next_frame() is None
    decoder.filled(0)
    with pytest.raises(TruncatedFrame, match="2 of 3"):
        decoder.end()


@pytest.mark.parametrize("count", [-1, 3])
def test_no_more_can_be_filled_than_was_lent(count: int) -> None:
    decoder = FrameDecoder()
    with pytest.raises(ValueError, match="not lent"):
        decoder.filled(1)
    decoder.feed(frame_header(3) + b"a")
    assert decoder.next_frame() is None
    with pytest.raises(ValueError, match="not lent"):
        decoder.filled(count)


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    payload = bytes(16 * 1024 * 1024)
    pieces = cut(framed(payload), 2048)
    decoder = FrameDecoder()
    began = time.perf_counter()
    frames = []
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    # Copying what is there again for each piece would move 64 GiB.
    assert time.perf_counter() - began < 3
    assert frames == [payload]


def test_many_small_frames_in_one_piece_take_linear_time() -> None:
    stream = framed(b"abcd") * 200_000
    decoder = FrameDecoder()
    began = time.perf_counter()
    decoder.feed(stream)
    count = 0
    while decoder.next_frame() is not None:
        count += 1
    assert count == 200_000
    # Copying the rest of the piece for each frame would move 160 GB.
    assert time.perf_counter() - began < 5
