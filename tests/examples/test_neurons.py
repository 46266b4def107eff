"""Neuron by neuron: a process for each learns what arrays learn, and costs many times as much."""

from __future__ import annotations

import pytest

from tests.extras import need

need("numpy")

from examples.neurons.__main__ import compare, holds  # noqa: E402
from examples.neurons.ways import casts  # noqa: E402


async def test_four_ways_learn_the_same_and_processes_cost_most() -> None:
    found = await compare(2, 5, with_processes=True)
    assert found.neurons == 3
    assert found.apart < 1e-9
    assert holds([found])
    assert found.seconds["coroutines"] > found.seconds["arrays"]


async def test_a_finding_that_is_another_does_not_hold() -> None:
    found = await compare(2, 2, with_processes=False)
    assert not holds([found])  # nothing is known of processes
    quick = {"worker": 1.0, "processes": 1.0}
    assert not holds([found._replace(seconds=quick)])
    slow = {"worker": 1.0, "processes": 30.0}
    assert holds([found._replace(seconds=slow)])
    assert not holds([found._replace(seconds=slow, apart=1e-6)])


@pytest.mark.parametrize(("sizes", "count"), [([5, 150, 1], 1202), ([5, 5, 1], 42), ([1, 1, 1], 6)])
def test_a_step_is_so_many_casts(sizes: list[int], count: int) -> None:
    assert casts(sizes) == count
