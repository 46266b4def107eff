"""The example neural_net, run as a reader runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tests.examples.running import findings


def test_it_learns_what_can_be_learned_scales_and_agrees_neuron_by_neuron(tmp_path: Path) -> None:
    found = findings("neural_net", tmp_path, timeout=170)
    tests = found["tests"]
    assert tests["1 alternating"]["new"] >= 0.99
    assert tests["2 two bases and noise"]["new"] >= 0.95

    odd = tests["3 odd number of words"]
    assert odd["base"] == 0.5
    assert odd["interval"][0] <= odd["new"] <= odd["interval"][1]
    assert odd["known"] > 0.99  # learned by heart: it is no fault of the learning
    assert odd["factors"] > 1000

    floor, basket = (tests[f"4 simulated shots, {how}"] for how in ("inches on the floor", "distance and angle"))
    assert basket["new"] > basket["base"]
    assert basket["p"] < 0.01
    assert basket["new"] > floor["new"]
    assert basket["new"] < 0.64  # no more than the zones' own rates let anyone know

    widths, seconds = found["width"]["widths"], found["width"]["seconds"]
    assert widths[-1] == 4096
    assert seconds[-1] / seconds[1] < widths[-1] / widths[1]

    casting = found["casting"]
    assert casting["away"] < 1e-9
    assert casting["coroutines"][-1] > 10 * casting["arrays"][-1]
    assert casting["few"]["processes"] > casting["few"]["worker"]
    if find_spec("matplotlib"):
        for name in ("width.png", "neurons.png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
