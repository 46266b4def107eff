"""Batches with fewer of their items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from mlports.core.recording import TO_WORKER, RecordedFrame, Recording
from mlports.replay.messages import pack, parse_if_any
from mlports_protocol import Message, Request, Response
from mlports_protocol.ndarray import EXT_NDARRAY

Item = tuple[int, int]
"""The id of a batch, and the place of one of its items."""


def items_in(recording: Recording) -> list[Item]:
    """Every item of every batch to the worker that can be taken apart."""
    found: list[Item] = []
    for message in _messages(recording, TO_WORKER):
        if isinstance(message, Request) and _is_batch(message):
            found += [(message.id, place) for place in range((message.meta or {})["batch"])]
    return found


def with_items(recording: Recording, items: Sequence[Item]) -> Recording:
    """The recording with these items alone in its batches; a batch without any is left out, with its answer."""
    kept: dict[int, list[int]] = {}
    for number, place in items:
        kept.setdefault(number, []).append(place)
    batches = {number for number, _ in items_in(recording)}
    return Recording(recording.header, [new for frame in recording.frames for new in _reduced(frame, batches, kept)])


def _reduced(frame: RecordedFrame, batches: set[int], kept: Mapping[int, list[int]]) -> list[RecordedFrame]:
    message = parse_if_any(frame.payload)
    if isinstance(message, Response) and frame.direction != TO_WORKER and message.id in batches:
        return []  # it had more answers than there are now items
    if not isinstance(message, Request) or frame.direction != TO_WORKER or message.id not in batches:
        return [frame]
    places = kept.get(message.id)
    if places is None:
        return []
    meta = {**(message.meta or {}), "batch": len(places)}
    if "columns" in meta:
        params = [_rows(column, places, (message.meta or {})["batch"]) for column in message.params]
    else:
        params = [message.params[place] for place in places]
    payload = pack(message._replace(params=params, meta=meta).as_list())
    return [frame._replace(payload=payload, length=len(payload))]


def _is_batch(message: Request) -> bool:
    meta = message.meta or {}
    count = meta.get("batch")
    if type(count) is not int or count < 2:
        return False
    if "columns" not in meta:
        return len(message.params) == count
    try:
        return all(_rows(column, [0], count) for column in message.params)
    except (ValueError, IndexError, TypeError, msgpack.UnpackException):
        return False


def _rows(column: Any, places: Sequence[int], count: int) -> Any:
    """Some of the `count` rows of a column: an array, or a list of values. Raises `ValueError` and others."""
    if type(column) is list:
        if len(column) != count:
            raise ValueError("not as many values as calls")
        return [column[place] for place in places]
    if not isinstance(column, msgpack.ExtType) or column.code != EXT_NDARRAY:
        raise ValueError("no column")
    unpacker = msgpack.Unpacker(max_buffer_size=len(column.data) + 1)
    unpacker.feed(column.data)
    dtype, shape = unpacker.unpack()
    elements = column.data[unpacker.tell() :]
    if not shape or shape[0] != count or len(elements) % count:
        raise ValueError("not as many rows as calls")
    size = len(elements) // count
    head = pack([dtype, [len(places), *shape[1:]]])
    return msgpack.ExtType(EXT_NDARRAY, head + b"".join(elements[at * size : (at + 1) * size] for at in places))


def _messages(recording: Recording, direction: int) -> list[Message | None]:
    return [parse_if_any(frame.payload) for frame in recording.frames if frame.direction == direction and frame.whole]
