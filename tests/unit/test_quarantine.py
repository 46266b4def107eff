"""Calls in quarantine, and how they are known again."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mlports.core.quarantine import Held, Quarantine

UTC = datetime.UTC
CET = datetime.timezone(datetime.timedelta(hours=1))

SAME: list[list[list[Any]]] = [
    [[1, "a"], [np.int64(1), np.str_("a")]],
    [[[1, 2]], [(1, 2)]],
    [[{"a": 1, "b": 2}], [{"b": 2, "a": 1}], [{np.str_("b"): 2, "a": 1}]],
    [[[{"x": {"a": [1], 2: None}}]], [[{"x": {2: None, "a": (1,)}}]]],
    [[np.arange(6.0).reshape(2, 3)], [np.asfortranarray(np.arange(6.0).reshape(2, 3))]],
    [[np.arange(6, dtype="<i4")], [np.arange(6, dtype=">i4")], [np.arange(12, dtype="<i4")[::2] // 2]],
    [[datetime.datetime(2026, 1, 1, 12, tzinfo=UTC)], [datetime.datetime(2026, 1, 1, 13, tzinfo=CET)]],
    [[b"x" * 100_000], [bytearray(b"x" * 100_000)]],
    [[np.zeros(100_000)], [np.zeros(200_000)[::2]]],
    [[float("nan")], [-float("-nan")]],
]
DIFFERENT: list[list[Any]] = [
    [], [None], [0], [False], [0.0], [""], [b""], [[]], [{}], [[[]]], [1, 2], [2, 1], ["1"], [{"a": 1}], [{"a": 2}],
    [{1: "a"}],
    [["a", 1]], [np.zeros(2)], [np.zeros((2, 1))], [np.zeros((1, 2))], [np.zeros(2, "<f4")], [np.zeros(4, "<f4")],
    [0.0, 0.0],
    [[0.0, 0.0]], [b"x" * 100_000], [b"x" * 100_001], [b"x" * 99_999, b"x"], [b"x", b"x" * 99_999],
]  # fmt: skip


def test_the_same_content_has_the_same_digest() -> None:
    quarantine = Quarantine()
    for alike in SAME:
        digests = {quarantine.digest("m", params) for params in alike}
        assert len(digests) == 1
        assert None not in digests


def test_other_content_has_another_digest() -> None:
    digests = [Quarantine().digest(method, params) for params in DIFFERENT for method in ("m", "n")]
    assert None not in digests
    assert len(set(digests)) == 2 * len(DIFFERENT)
    assert {len(digest or b"") for digest in digests} == {16}


def test_the_digest_is_the_same_in_every_process() -> None:
    code = (
        "from mlports.core.quarantine import Quarantine\n"
        "print(Quarantine().digest('m', [{'a': 1, 'b': [1.5, None]}, 'é']).hex())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = Quarantine().digest("m", ["é"])
    assert told != (here or b"").hex()
    here = Quarantine().digest("m", [{"b": [1.5, None], "a": 1}, "é"])
    assert told == (here or b"").hex() == "8b58d8454e47723b0d9d35bee356c334"


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Angry(dict[str, Any]):
    def items(self) -> Any:
        raise OSError("no")


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 2**70, endless(), {"a": endless()}, np.array([object()]), {(1, 2): 3}, "\ud800", Angry(a=1)],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_sent_has_no_digest(value: Any) -> None:
    quarantine = Quarantine()
    assert quarantine.digest("m", [value]) is None
    assert quarantine.digest("m", [1]) == Quarantine().digest("m", [1])  # nothing of it stays behind
    quarantine.add(None, "m", "it died", 0.0)
    assert len(quarantine) == 0
    assert quarantine.holds(None) is None
    assert quarantine.refuse(None) is None


def test_params_are_left_as_they_are() -> None:
    params = [{"b": 1, "a": {"d": [2], "c": 3}}]
    Quarantine().digest("m", params)
    assert json.dumps(params) == '[{"b": 1, "a": {"d": [2], "c": 3}}]'


def test_a_call_is_held_until_it_is_released() -> None:
    quarantine = Quarantine()
    poison, other = quarantine.digest("m", [1]), quarantine.digest("m", [2])
    assert poison is not None
    assert quarantine.methods == set()
    quarantine.add(poison, "m", "SIGSEGV", 5.0)
    assert quarantine.methods == {"m"}
    assert quarantine.holds(poison) == Held(poison.hex(), "m", "SIGSEGV", 5.0, 0)
    assert quarantine.holds(other) is None
    assert quarantine.refuse(other) is None
    assert quarantine.refuse(poison) == quarantine.holds(poison) == Held(poison.hex(), "m", "SIGSEGV", 5.0, 1)
    assert quarantine.listing() == [
        {"digest": poison.hex(), "method": "m", "reason": "SIGSEGV", "at": 5.0, "refused": 1}
    ]
    assert quarantine.release(poison.hex()[:6].upper()) == [Held(poison.hex(), "m", "SIGSEGV", 5.0, 1)]
    assert len(quarantine) == 0
    assert quarantine.methods == set()
    assert quarantine.holds(poison) is None


def test_one_that_is_added_again_is_the_newest_and_keeps_its_count() -> None:
    quarantine = Quarantine(most=2)
    quarantine.add(b"1" * 16, "m", "first", 1.0)
    quarantine.refuse(b"1" * 16)
    quarantine.add(b"2" * 16, "n", "second", 2.0)
    quarantine.add(b"1" * 16, "m", "third", 3.0)
    assert len(quarantine) == 2
    quarantine.add(b"3" * 16, "o", "fourth", 4.0)
    assert [(each["reason"], each["refused"]) for each in quarantine.listing()] == [("third", 1), ("fourth", 0)]
    assert quarantine.methods == {"m", "o"}


def test_the_oldest_is_dropped() -> None:
    quarantine = Quarantine(most=3)
    for number in range(10):
        quarantine.add(bytes([number]) * 16, f"m{number % 2}", "it died", float(number))
        assert len(quarantine) <= 3
    assert [each["at"] for each in quarantine.listing()] == [7.0, 8.0, 9.0]
    assert quarantine.methods == {"m0", "m1"}
    assert quarantine.release_all() == 3
    assert len(quarantine) == quarantine.release_all() == 0
    assert quarantine.methods == set()


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("ab", r"2 calls in quarantine begin with 'ab': ab01\w*, ab02\w*; give more of its digest"),
        ("ff", r"no call in quarantine begins with 'ff'; there are 3: ab01\w*, ab02\w*, cd01\w*"),
        ("", "say how the digest of the call begins"),
        (" ", "say how the digest of the call begins"),
    ],
)
def test_a_prefix_that_does_not_say_which(prefix: str, text: str) -> None:
    quarantine = Quarantine()
    for start in ("ab01", "ab02", "cd01"):
        quarantine.add(bytes.fromhex(start) * 8, "m", "it died", 0.0)
    with pytest.raises(LookupError, match=text):
        quarantine.release(prefix)
    assert len(quarantine) == 3
    assert len(quarantine.release("AB01 ")) == 1


def test_an_empty_quarantine_releases_nothing() -> None:
    with pytest.raises(LookupError, match=r"begins with 'ab': there is none in it"):
        Quarantine().release("ab")


@pytest.mark.parametrize("most", [0, -1])
def test_a_quarantine_for_nobody(most: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Quarantine(most)
