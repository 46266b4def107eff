"""Which replica a key belongs to."""

from __future__ import annotations

import enum
import json
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from mlports.core.routing import ABSENT, SLOTS, HashRing, key_number, key_of
from tests.unit.test_routing_policies import Lane, lanes

USERS = [f"user-{number}" for number in range(5000)]
KEYS: list[Any] = ["", "user-1", "größer", b"\xff\x00", 0, -1, 2**70, 0.5, -2.5e300, math.inf, True, False, None, []]
KEYS += [("a", 1), [["a"], [None, 2.5]]]


def homes(ring: HashRing, among: list[Lane], keys: list[Any]) -> list[int]:
    """The number of the replica where each key belongs."""
    found = []
    for key in keys:
        index = ring.home(among, ring.slot(key))
        assert index is not None
        found.append(among[index].number)
    return found


def test_they_are_the_same_in_every_run_and_on_every_machine() -> None:
    """Whoever changes these numbers moves everybody's keys."""
    assert [key_number(key) for key in KEYS] == NUMBERS
    assert homes(HashRing(), lanes(5), USERS[:20]) == HOMES
    assert homes(HashRing([3, 1, 0.5]), lanes(3), USERS[:20]) == WEIGHTED_HOMES


def test_another_process_agrees() -> None:
    """It has another seed for Python's own hashes."""
    code = (
        "import json; from mlports.core.routing import key_number; "
        "print(json.dumps([key_number(f'user-{number}') for number in range(50)]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == [key_number(user) for user in USERS[:50]]


class Shade(enum.StrEnum):
    DARK = "dark"


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("é", "é".encode()),
        (1, 1.0),
        (0, -0.0),
        (2**60, float(2**60)),
        (math.nan, float("-nan")),
        ((1, ("a",)), [1.0, [b"a"]]),
        (Shade.DARK, "dark"),
        (Level.LOW, 1),
        (np.float64(0.5), 0.5),
        (np.str_("a"), "a"),
    ],
)
def test_what_cannot_be_told_apart_everywhere_is_one_key(one: object, two: object) -> None:
    assert key_number(one) == key_number(two)


def test_other_values_are_other_keys() -> None:
    keys = [*KEYS, 1, "1", b"0", "None", [True], [1], ["1"], [[1]], [1, 2], [2, 1], [12], ["ab", "c"], ["a", "bc"], -2]
    numbers = [key_number(key) for key in keys]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 2**32 for number in numbers)


def test_half_a_surrogate_pair_is_a_key_too() -> None:
    assert 0 <= key_number("\ud800") < 2**32
    assert 0 <= key_number(["\ud800"]) < 2**32


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"user": 1}, "this one is of type dict: give what tells it from others"),
        ({1}, "is of type set"),
        (object(), "is of type object"),
        (1j, "is of type complex"),
        (bytearray(b"x"), "is of type bytearray"),
        (np.zeros(3), "is of type ndarray"),
        (np.int64(3), "is of type int64"),
        (["a", {}], "this one has a part of type dict"),
        (ABSENT, "is of type _Absent"),
    ],
)
def test_what_can_be_no_key_is_refused(key: object, told: str) -> None:
    with pytest.raises(TypeError, match=f"a key must be str, bytes, int, float, bool, None.*{told}"):
        HashRing().choose(lanes(2), key, 0.0)


def test_a_key_that_never_ends_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="at most 32 deep"):
        key_number(endless)


def test_a_key_of_32_levels() -> None:
    key: object = "x"
    for _ in range(32):
        key = [key]
    assert key_number(key)


@pytest.mark.parametrize(
    "keys",
    [
        USERS,
        list(range(5000)),
        [1000 * number for number in range(5000)],
        [number / 7 for number in range(5000)],
        [("tenant", number) for number in range(5000)],
        [number.to_bytes(16, "big") for number in range(5000)],
    ],
    ids=["users", "ints", "thousands", "floats", "tuples", "bytes"],
)
def test_keys_are_spread(keys: list[Any]) -> None:
    share = Counter(homes(HashRing(), lanes(5), keys))
    assert all(800 < share[number] < 1200 for number in range(5)), share
    slots = Counter(key_number(key) % SLOTS for key in keys)
    assert max(slots.values()) <= 12  # 1.2 on average


def test_weights_are_shares_of_the_slots() -> None:
    ring, among = HashRing([4, 2, 1, 0, 1]), lanes(5)
    share = Counter(ring.home(among, slot) for slot in range(SLOTS))
    assert share[3] == 0
    for number, expected in {0: SLOTS / 2, 1: SLOTS / 4, 2: SLOTS / 8, 4: SLOTS / 8}.items():
        assert abs(share[number] - expected) < 4 * math.sqrt(expected)


def test_the_order_of_the_lanes_does_not_matter() -> None:
    among = lanes(5)
    assert homes(HashRing(), among, USERS) == homes(HashRing(), among[::-1], USERS)


def test_keys_of_a_replica_that_is_down_are_shared_by_the_others_and_come_back() -> None:
    ring, among = HashRing(), lanes(5)
    before = homes(ring, among, USERS)
    among[2].open = False
    during = homes(ring, among, USERS)
    moved = Counter(now for then, now in zip(before, during, strict=True) if then != now)
    assert sum(moved.values()) == before.count(2)
    assert set(moved) == {0, 1, 3, 4}
    assert max(moved.values()) < 2 * min(moved.values())
    among[2].open = True
    assert homes(ring, among, USERS) == before
    assert homes(ring, [lane for lane in among if lane.number != 2], USERS) == during  # gone is as down


@pytest.mark.parametrize("full", ["window", "pipe"])
def test_a_key_waits_for_its_home_unless_it_is_not_sticky(full: str) -> None:
    sticky, loose, among = HashRing(), HashRing(sticky=False), lanes(3)
    home = sticky.choose(among, "user-1", 0.0)
    assert home is not None
    if full == "window":
        among[home].holding(100)
    else:
        among[home].congested = True
    assert sticky.choose(among, "user-1", 0.0) is None
    second = loose.choose(among, "user-1", 0.0)
    assert second not in (None, home)
    among[home].open = False
    assert sticky.choose(among, "user-1", 0.0) == second, "the next in its order, as when its home is down"


def test_none_is_open() -> None:
    for ring in (HashRing(), HashRing(sticky=False)):
        assert ring.choose([], "k", 0.0) is None
        assert ring.choose([Lane(0, open=False)], "k", 0.0) is None
        assert ring.choose([Lane(0).holding(100)], "k", 0.0) is None


def test_the_key_of_a_call() -> None:
    assert key_of(["a", "b"], 1) == "b"
    assert key_of(["a", "b"], 1, "c") == "c"
    assert key_of(["a"], 0, None) is None, "None is a key like another"
    assert key_of([], None, 3) == 3


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (None, "it has no key, and its service routes by one .*give key=… with the call, or .*key = 0"),
        (2, "argument 2, counted from 0 .*and the call has 1 argument$"),
        (-1, "argument -1"),
    ],
)
def test_a_call_without_its_key(place: int | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        key_of(["a"], place)


NUMBERS = [
    0,
    2116437524,
    4164294576,
    3539857293,
    1612829660,
    1294154833,
    636159803,
    4038976427,
    2589306768,
    3204365704,
    3896779395,
    2671972885,
    1559087156,
    625341585,
    3635219668,
    1258953100,
]
HOMES = [2, 0, 0, 4, 3, 4, 1, 4, 1, 3, 0, 0, 2, 2, 4, 3, 4, 2, 3, 4]
WEIGHTED_HOMES = [0, 0, 0, 2, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
