"""Frames in every piece that a pipe may cut them into, and whole ones at every length (SPEC.md 2)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

from mlports.testing.conformance.conversation import UNKNOWN_METHOD, Call, Conversation
from mlports.testing.conformance.failures import expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import encoded
from mlports_protocol import Request

MIB = 1024 * 1024


def _stream(trial: Trial, talk: Conversation, count: int) -> tuple[bytes, list[Call]]:
    """Requests in their frames, one behind the other, and the calls that they open."""
    method = "echo" if trial.has("echo") else UNKNOWN_METHOD
    calls = [talk.new_call(method) for _ in range(count)]
    return b"".join(encoded(Request(call.id, method, [f"probe {call.id}"])) for call in calls), calls


def _in_pieces(talk: Conversation, pieces: Iterator[bytes], calls: list[Call]) -> None:
    for number, piece in enumerate(pieces):
        talk.send_bytes(piece, f"(piece {number + 1} of a stream of {len(calls)} requests)")
        # Or two writes would be one read.
        talk.until_read()
    for call in calls:
        talk.expect_probe(call)


@row("answers a lone request, without waiting for another", section="1.3", level="bare")
def lone_request(trial: Trial) -> None:
    talk = trial.talk()
    for _ in range(3):
        talk.expect_probe(talk.probe(trial.has("echo")))


@row("reads many frames that come in one piece", section="2.1", level="bare")
def many_frames_in_one_piece(trial: Trial) -> None:
    talk = trial.talk()
    data, calls = _stream(trial, talk, 200)
    _in_pieces(talk, iter([data]), calls)


@row("reads a stream of frames that is cut in two, at every byte", section="2.1", level="bare")
def cut_at_every_byte(trial: Trial) -> None:
    talk = trial.talk()
    length = len(_stream(trial, talk, 0)[0])
    cut = 1
    while cut == 1 or cut < length:
        data, calls = _stream(trial, talk, 3)
        length = len(data)
        _in_pieces(talk, iter([data[:cut], data[cut:]]), calls)
        cut += 1


@row("reads frames byte by byte", section="2.1", level="bare")
def byte_by_byte(trial: Trial) -> None:
    talk = trial.talk()
    data, calls = _stream(trial, talk, 3)
    _in_pieces(talk, (data[at : at + 1] for at in range(len(data))), calls)


@row("reads frames in random pieces", section="2.1", level="bare")
def random_pieces(trial: Trial) -> None:
    talk = trial.talk()
    chance = random.Random(20)
    data, calls = _stream(trial, talk, 60)
    cuts = [0, *sorted(chance.sample(range(1, len(data)), 80)), len(data)]
    _in_pieces(talk, (data[start:end] for start, end in pairwise(cuts)), calls)


@row("takes a frame of 1 MiB", section="2.2", level="bare")
def frame_of_1_mib(trial: Trial) -> None:
    talk = trial.talk()
    content = bytes(range(256)) * (MIB // 256)
    call = talk.request("echo" if trial.has("echo") else UNKNOWN_METHOD, content)
    response = talk.answer(call)
    if trial.has("echo"):
        expect(response.result == content, "the same 1 MiB back", f"{str(response.result)[:60]}…")
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("takes a frame as long as it says it accepts", section="2.2", level="standard")
def longest_frame(trial: Trial) -> None:
    talk = trial.start(max_frame=MIB)
    assert talk.peer is not None
    # Some accept what they are told the orchestrator accepts; for others 4 MiB must do.
    length = min(talk.peer.max_frame, 4 * MIB)
    call = talk.new_call(UNKNOWN_METHOD)
    room = length - len(encoded(Request(call.id, UNKNOWN_METHOD, [bytes(100_000)]))) + 4 + 100_000
    frame = encoded(Request(call.id, UNKNOWN_METHOD, [bytes(max(0, room))]))
    talk.send_bytes(frame, f"[0, {call.id}, {UNKNOWN_METHOD!r}, [bytes]], a frame of {len(frame) - 4}")
    talk.error(call)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "sends no frame longer than was agreed: resource_exhausted instead",
    section="2.2",
    level="standard",
    needs=("mark", "marks"),
)
def result_too_long(trial: Trial) -> None:
    talk = trial.start(max_frame=1024)
    for number in range(20):
        talk.notify("mark", f"{number}" * 100)
    talk.error(talk.request("marks"), "resource_exhausted")
    talk.expect_probe(talk.probe(trial.has("echo")))
