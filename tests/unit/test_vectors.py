"""The golden vectors of protocol/vectors against mlports_protocol: frames, and conversations seen from both ends."""

from __future__ import annotations

import datetime
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import mlports_protocol
from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    FrameDecoder,
    HelloAsked,
    Message,
    MethodInfo,
    Notification,
    OrchestratorSession,
    RemoteProtocolError,
    Request,
    Response,
    Session,
    WorkerSession,
)
from mlports_protocol.codec import Codec

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "frames.json").read_text("utf-8"))["vectors"]
CONVERSATIONS: list[dict[str, Any]] = json.loads((FOLDER / "sessions.json").read_text("utf-8"))["conversations"]
SPECIFICATION = (FOLDER.parent / "SPEC.md").read_text("utf-8")


# -- the tagged notation of vectors/README.md, to Python and compared


def native(value: Any) -> Any:
    """What a program hands to the codec for a value in tagged notation."""
    if isinstance(value, list):
        return [native(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "int":
        return int(content)
    if tag == "float":
        return float(content)
    if tag == "bin":
        return bytes.fromhex(content)
    if tag == "map":
        return {native(key): native(item) for key, item in content}
    if tag == "timestamp":
        start = datetime.datetime.fromtimestamp(0, datetime.UTC)
        return start + datetime.timedelta(seconds=content[0], microseconds=content[1] // 1000)
    if tag == "ext":
        return msgpack.ExtType(content[0], bytes.fromhex(content[1]))
    if tag == "ndarray":
        dtype = np.dtype(fields(content["dtype"]))
        return np.frombuffer(bytes.fromhex(content["hex"]), dtype).reshape(content["shape"])
    raise AssertionError(f"unknown tag {tag}")


def fields(dtype: Any) -> Any:
    if isinstance(dtype, str):
        return dtype
    return [(name, fields(base), *(tuple(size) for size in shape)) for name, base, *shape in dtype]


def native_message(said: dict[str, Any]) -> Message:
    meta = native(said["meta"])
    if said["type"] == "request":
        return Request(said["id"], said["method"], native(said["params"]), meta)
    if said["type"] == "response":
        return Response(said["id"], native(said["error"]), native(said["result"]), meta)
    return Notification(said["method"], native(said["params"]), meta)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type, NaN with NaN, and the two zeros told apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_message(one: Message, other: Message) -> bool:
    """Absent, nil and empty meta are the same."""
    first, second = list(one), list(other)
    first[-1] = first[-1] or None
    second[-1] = second[-1] or None
    return type(one) is type(other) and same(first, second)


# -- frames


def pieces(stream: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [stream]
    if how.startswith("cut at "):
        return [stream[: int(how[7:])], stream[int(how[7:]) :]]
    if how == "bytes":
        return [stream[index : index + 1] for index in range(len(stream))]
    dice = random.Random(f"{how} {len(stream)}")
    cuts = sorted(dice.randint(0, len(stream)) for _ in range(dice.randint(1, 6)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


class Handed:
    """The segments of a vector, as a receiver that was handed them has them."""

    least = 1 << 60

    def __init__(self, segments: dict[str, str]) -> None:
        self._segments = {path: bytes.fromhex(content) for path, content in segments.items()}

    def attach(self, segment: str, offset: int, nbytes: int) -> Any:
        content = self._segments.get(segment)
        if content is None or offset + nbytes > len(content):
            raise mlports_protocol.InvalidExtension(f"{nbytes} bytes at {offset} of {segment}")
        return memoryview(content)[offset : offset + nbytes]


def read(vector: dict[str, Any], how: str) -> tuple[list[Message], RemoteProtocolError | None]:
    """The messages before the end or the first fault, and that fault."""
    decoder = FrameDecoder(vector.get("max_frame", DEFAULT_MAX_FRAME))
    codec = Codec(ndarray=True)
    if "segments" in vector:
        codec.memory = Handed(vector["segments"])  # type: ignore[assignment]  # as far as a decoder needs it
    heard: list[Message] = []
    try:
        for piece in pieces(bytes.fromhex(vector["hex"]), how):
            decoder.feed(piece)
            while (frame := decoder.next_frame()) is not None:
                heard.append(codec.decode(frame))
        if vector.get("eof"):
            decoder.end()
    except RemoteProtocolError as fault:
        return heard, fault
    return heard, None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_stream_gives_its_messages_and_its_fault_however_it_is_cut(vector: dict[str, Any]) -> None:
    due = [native_message(said) for said in vector.get("messages", [])]
    size = len(vector["hex"]) // 2
    for how in ["whole", "bytes", "seed 1", "seed 2", "seed 3", *(f"cut at {at}" for at in range(1, min(size, 64)))]:
        heard, fault = read(vector, how)
        assert type(fault).__name__ == vector.get("error", "NoneType"), f"{how}: {fault}"
        assert len(heard) == len(due), how
        for got, wanted in zip(heard, due, strict=True):
            assert same_message(got, wanted), f"{how}: {got} is not {wanted}"


@pytest.mark.parametrize(
    "vector",
    # Python's datetime holds microseconds; the vector with nanoseconds is optional.
    [vector for vector in VECTORS if vector.get("encode") and vector["name"] != "timestamp-64-nanoseconds"],
    ids=lambda vector: vector["name"],
)
def test_encoding_the_messages_gives_the_stream(vector: dict[str, Any]) -> None:
    codec = Codec(ndarray=True)
    stream = b"".join(bytes(part) for said in vector["messages"] for part in codec.encode(native_message(said)))
    assert stream.hex() == vector["hex"]


def test_printed_text_is_quoted() -> None:
    polluted = [vector for vector in VECTORS if vector.get("error") == "StdoutPolluted"]
    assert polluted
    for vector in polluted:
        _, fault = read(vector, "whole")
        assert isinstance(fault, mlports_protocol.StdoutPolluted)
        assert fault.text.encode()[:4] in bytes.fromhex(vector["hex"])


# -- conversations


def speak(session: Session, said: Message, hello: HelloAsked | None) -> Message:
    """Makes `session` say it through its own interface, and gives back what then went out."""
    if isinstance(said, Request) and said.method == "$/hello":
        assert isinstance(session, OrchestratorSession)
        asked = said.params[0]
        buffers = session.hello(asked["service"], asked["replica"], asked["config"], frozenset(asked["features"]))
    elif isinstance(said, Request):
        buffers = session.request(said.method, said.params, said.meta)
    elif isinstance(said, Response) and isinstance(session, WorkerSession) and hello and said.error is None:
        told = said.result
        buffers = session.answer_hello(
            hello,
            name=told["name"],
            language=told["language"],
            sdk=told["sdk"],
            methods={name: MethodInfo(**flags) for name, flags in told["methods"].items()},
            features=frozenset(told["features"]),
            concurrency=told["concurrency"],
        )
    elif isinstance(said, Response):
        buffers = session.answer(said.id, said.error, said.result)
    elif said.method == "$/item":
        buffers = session.item(*said.params)
    elif said.method == "$/cancel":
        buffers = session.cancel(*said.params)
    elif said.method == "$/credit":
        buffers = session.give_credit(*said.params)
    else:
        buffers = session.notify(said.method, said.params)
    return Codec(ndarray=True).decode(b"".join(bytes(part) for part in buffers)[4:])


def hear(session: Session, said: Message) -> list[Any]:
    session.feed(b"".join(bytes(part) for part in Codec(ndarray=True).encode(said)))
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def sides(conversation: dict[str, Any]) -> list[str]:
    return ["orchestrator", "worker"] if conversation["side"] == "both" else [conversation["side"]]


@pytest.mark.parametrize(
    ("conversation", "side"),
    [
        pytest.param(conversation, side, id=f"{conversation['name']}-{side}")
        for conversation in CONVERSATIONS
        for side in sides(conversation)
    ],
)
def test_a_conversation_ends_as_it_must(conversation: dict[str, Any], side: str) -> None:
    session: Session = OrchestratorSession() if side == "orchestrator" else WorkerSession()
    hello: HelloAsked | None = None
    last = len(conversation["steps"]) - 1
    for index, step in enumerate(conversation["steps"]):
        said = native_message(step["message"])
        if step["from"] == side:
            went_out = speak(session, said, hello)
            hello = None
            assert same_message(went_out, said), f"{went_out} is not {said}"
        elif index == last and conversation["outcome"] != "ok":
            with pytest.raises(getattr(mlports_protocol, conversation["outcome"])) as caught:
                hear(session, said)
            assert type(caught.value).__name__ == conversation["outcome"]
        else:
            events = hear(session, said)
            hello = next((event for event in events if isinstance(event, HelloAsked)), hello)
            if step.get("ignored"):
                assert events == []


# -- the vectors themselves


def test_the_files_are_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_enough_vectors_of_both_kinds() -> None:
    invalid = [vector for vector in VECTORS if "error" in vector]
    assert len(VECTORS) >= 60
    assert len(invalid) >= 25
    assert len(VECTORS) - len(invalid) >= 25
    assert len(CONVERSATIONS) >= 30


@pytest.mark.parametrize("kind", [VECTORS, CONVERSATIONS], ids=["frames", "sessions"])
def test_names_are_unique_and_sections_exist(kind: list[dict[str, Any]]) -> None:
    names = [item["name"] for item in kind]
    assert len(set(names)) == len(names)
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?) ", SPECIFICATION, re.MULTILINE))
    assert {item["section"] for item in kind} <= headings


def test_the_examples_in_the_specification_are_vectors() -> None:
    streams = {vector["name"]: vector["hex"] for vector in VECTORS}
    examples = re.findall(r"^Vector `([^`]+)`.*\n\n```hex\n([^`]*)```", SPECIFICATION, re.MULTILINE)
    assert len(examples) >= 10
    for name, listing in examples:
        shown = "".join(line.split(";")[0] for line in listing.splitlines())
        assert "".join(shown.split()) == streams[name], name


def test_every_fault_has_a_vector_and_a_place_in_the_specification() -> None:
    seen = {vector.get("error") for vector in VECTORS} | {talk["outcome"] for talk in CONVERSATIONS}
    for name in mlports_protocol.__all__:
        kind = getattr(mlports_protocol, name)
        if isinstance(kind, type) and issubclass(kind, RemoteProtocolError) and kind is not RemoteProtocolError:
            assert name in seen, f"no vector ends in {name}"
            assert f"`{name}`" in SPECIFICATION
