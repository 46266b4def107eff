"""Which calls are copied, when two results are the same, and what is kept of those that are not."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from mlports.core.routing import Difference, Shadow, difference

NAN = float("nan")


class Unequal:
    """What cannot be compared or shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (None, None),
        (1, 1.0),
        (NAN, float("-nan")),
        (0.0, -0.0),
        ("é", "é"),
        ([1, (2, [3])], (1, [2, (3,)])),
        ({"a": 1, "b": [NAN]}, {"b": [float("nan")], "a": 1}),
        (10**400, 10**400),
        (complex(NAN, 1), complex(NAN, 1)),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (np.array([1.0, NAN]), np.array([1.0, NAN])),
        (np.array([1, 2], "<i4"), np.array([1, 2], "<f8")),
        (np.zeros((2, 0)), np.zeros((2, 0))),
        (np.array(NAN), np.array(NAN)),
        (np.array(["a", "b"]), np.array(["a", "b"])),
        (np.array(["2024-01-01", "NaT"], "M8[D]"), np.array(["2024-01-01", "NaT"], "M8[D]")),
        (np.array([{"a": NAN}, [1]], object), np.array([{"a": NAN}, [1]], object)),
        (np.array([(1, NAN)], "i4,f8"), np.array([(1, NAN)], "i4,f8")),
        ({"y": [np.arange(3)]}, {"y": [np.arange(3)]}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
    ],
)
def test_equal_results(one: object, two: object) -> None:
    assert difference(one, two) is None
    assert difference(two, one) is None


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (1, 2, ("", "1", "2")),
        (1, True, ("", "1", "True")),
        (0, None, ("", "0", "None")),
        ("1", 1, ("", "'1'", "1")),
        ("a", b"a", ("", "'a'", "b'a'")),
        (0.5, 0.5 + 2**-40, ("", "0.5", "0.5000000000009095")),
        (1.0, NAN, ("", "1.0", "nan")),
        ([1, 2], [1], ("", "2 items", "1 item")),
        ([[1, 2], [3, 4]], [[1, 2], [3, 5]], ("[1][1]", "4", "5")),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, ("['a']['b'][0]", "1", "2")),
        ({"a": 1}, {}, ("['a']", "1", "nothing")),
        ({"a": None}, {}, ("['a']", "None", "nothing")),
        ({}, {"a": 1}, ("['a']", "nothing", "1")),
        ({}, [], ("", "{}", "[]")),
        (np.zeros(2), [0.0, 0.0], ("", "array([0., 0.])", "[0.0, 0.0]")),
        (np.zeros((2, 3)), np.zeros((3, 2)), ("", "shape (2, 3)", "shape (3, 2)")),
        (np.zeros((1, 3)), np.zeros(3), ("", "shape (1, 3)", "shape (3,)")),
        (np.array([True]), np.array([1]), ("", "dtype bool", "dtype int64")),
        (np.array(["1"]), np.array([1]), ("", "dtype <U1", "dtype int64")),
        ([np.array([[1, 2], [3, 4]])], [np.array([[1, 2], [0, 4]])], ("[0][1, 0]", "3", "0")),
        (np.array(1.5), np.array(2.5), ("", "1.5", "2.5")),
        (np.array([1.0, math.inf]), np.array([1.0, NAN]), ("[1]", "inf", "nan")),
        (np.array([{"a": 1}], object), np.array([{"a": 2}], object), ("[(0,)]['a']", "1", "2")),
        (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 3.0)], "i4,f8"), ("[(0,)][1]", "2.0", "3.0")),
        (b"x" * 1000, b"y" * 1000, ("", "1000 bytes", "1000 bytes")),
    ],
)
def test_the_first_difference_is_told(one: object, two: object, expected: tuple[str, str, str]) -> None:
    found = difference(one, two)
    assert found is not None
    assert (found.place, found.one, found.two) == expected
    back = difference(two, one)
    assert back is not None
    assert back.place == found.place


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        (1.0, 1.0 + 1e-7, True),
        (1e9, 1e9 + 100, True),
        (1e9, 1e9 + 10_000, False),
        (0.0, 1e-7, True),
        (1.0, 1.1, False),
        (1, 1.0000001, True),
        (1, 2, False),
        (10**9, 10**9 + 1, False),
        (10**400, 1.0, False),
        (math.inf, 1e308, False),
        (math.inf, math.inf, True),
        (1 + 0j, complex(1.0 + 1e-7, 1e-7), True),
        (1 + 0j, 1 + 1j, False),
        (True, 1.0, False),
    ],
)
def test_floats_within_a_tolerance(one: Any, two: Any, equal: bool) -> None:
    """And as numbers, so as elements of arrays."""
    assert (difference(one, two, 1e-6) is None) is equal
    assert (difference([one], [two], 1e-6) is None) is equal
    if one != 10**400:
        assert (difference(np.array([one]), np.array([two]), 1e-6) is None) is equal


def test_a_large_tolerance() -> None:
    assert difference([1.0, 5.0], [2.0, 6.0], 2.0) is None
    assert difference(np.array([1.0, 5.0]), np.array([2.0, 6.0]), 2.0) is None


@pytest.mark.parametrize("tolerance", [-1.0, NAN, math.inf])
def test_a_tolerance_that_means_nothing(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be a finite number of at least 0"):
        difference(1, 1, tolerance)
    with pytest.raises(ValueError, match="tolerance must be"):
        Shadow(0.5, tolerance)


def test_what_cannot_be_compared_or_shown_is_different() -> None:
    shadow = Shadow(1.0)
    assert shadow.settled("f", [Unequal()], [Unequal()]) == "different"
    assert shadow.last[0].place == "[0]"
    assert "Unequal" in shadow.last[0].primary


def test_what_never_ends_is_different() -> None:
    one: list[Any] = []
    two: list[Any] = []
    one.append(one)
    two.append(two)
    found = difference(one, two)
    assert found == Difference("[0][0][0]…", "nested too deep to compare", "nested too deep to compare")


def test_a_long_value_is_shown_in_short() -> None:
    found = difference({"text": "x" * 10**6, "n": 10**5000}, {"text": "y" * 10**6, "n": 10**5000})
    assert found is not None
    assert len(found.one) <= 120
    found = difference(10**5000, 1)
    assert found is not None
    assert found.one == "<int>"
    found = difference([list(range(10**5))], [{}])
    assert found is not None
    assert len(found.one) <= 120


def test_numpy_is_not_imported() -> None:
    code = (
        "import sys; from mlports.core.routing import difference; "
        "assert difference([1.0, {'a': (2,)}], [1.0, {'a': [3]}]).place == \"[1]['a'][0]\"; "
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_share_of_the_calls_is_copied() -> None:
    shadow = Shadow(0.25)
    assert [shadow.copies(random) for random in (0.0, 0.2499, 0.25, 0.9)] == [True, True, False, False]
    assert shadow.copied == 2


def test_none_and_all() -> None:
    assert not Shadow(0).copies(0.0)
    assert Shadow(1).copies(math.nextafter(1.0, 0.0))


@pytest.mark.parametrize("share", [-0.1, 1.1, NAN, True, "0.1", None])
def test_a_share_that_means_nothing(share: Any) -> None:
    with pytest.raises(ValueError, match="share must be a number from 0 to 1"):
        Shadow(share)


def test_outcomes_are_counted() -> None:
    shadow = Shadow(1.0, tolerance=1e-6)
    assert shadow.settled("predict", [0.5], [0.5 + 1e-9]) == "same"
    assert shadow.settled("predict", {"y": [0.5]}, {"y": [0.7]}) == "different"
    assert shadow.settled("predict", 1, RuntimeError("no model")) == "failed"
    assert shadow.settled("predict", ValueError("bad"), 1) == "different"
    assert shadow.settled("predict", ValueError("bad"), ValueError("bad")) == "failed"
    assert shadow.as_dict() == {
        "share": 1.0,
        "copied": 0,
        "same": 1,
        "different": 2,
        "failed": 2,
        "last": [
            {"method": "predict", "kind": "different", "place": "['y'][0]", "primary": "0.5", "shadow": "0.7"},
            {
                "method": "predict",
                "kind": "failed",
                "place": "",
                "primary": "1",
                "shadow": "RuntimeError('no model')",
            },
            {"method": "predict", "kind": "different", "place": "", "primary": "ValueError('bad')", "shadow": "1"},
            {
                "method": "predict",
                "kind": "failed",
                "place": "",
                "primary": "ValueError('bad')",
                "shadow": "ValueError('bad')",
            },
        ],
    }


def test_the_last_differences_alone_are_kept() -> None:
    shadow = Shadow(1.0)
    for number in range(50):
        shadow.settled("f", number, -1)
    assert shadow.different == 50
    assert [seen.primary for seen in shadow.last] == [str(number) for number in range(30, 50)]
