"""The digest of any value that can be sent."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlports.core.quarantine import Quarantine
from mlports_protocol import Codec, FrameDecoder, Request

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary(max_size=40)
)
keys = st.one_of(st.text(max_size=5), st.integers(-5, 300), st.binary(max_size=3))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=15,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        pairs = [(key, shuffled(item, chance)) for key, item in value.items()]
        chance.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, list):
        return tuple(shuffled(item, chance) for item in value)
    return value


@settings(max_examples=60)
@given(st.lists(values, max_size=3), st.randoms(use_true_random=False))
def test_it_is_that_of_the_content(params: list[Any], chance: random.Random) -> None:
    """Whatever the order of keys, and after a journey over the wire."""
    quarantine = Quarantine()
    digest = quarantine.digest("m", params)
    assert digest is not None
    assert quarantine.digest("m", shuffled(params, chance)) == digest
    frames = FrameDecoder()
    for part in Codec().encode(Request(0, "m", params)):
        frames.feed(part)
    frame = frames.next_frame()
    assert frame is not None
    message = Codec().decode(frame)
    assert isinstance(message, Request)
    assert Quarantine().digest("m", message.params) == digest
    assert quarantine.digest("m", [*params, None]) != digest
    assert quarantine.digest("n", params) != digest


@given(st.lists(st.tuples(st.sampled_from(["add", "refuse", "release"]), st.integers(0, 9), st.sampled_from("xyz"))))
def test_any_story(story: list[tuple[str, int, str]]) -> None:
    """`methods` are always those of what is held."""
    quarantine = Quarantine(most=5)
    for what, number, method in story:
        digest = bytes([number]) * 16
        if what == "add":
            quarantine.add(digest, method, "it died", 0.0)
            assert quarantine.holds(digest)
        elif what == "refuse":
            quarantine.refuse(digest)
        elif quarantine.holds(digest):
            quarantine.release(digest.hex())
        assert len(quarantine) <= 5
        assert quarantine.methods == {each["method"] for each in quarantine.listing()}
