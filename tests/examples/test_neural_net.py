"""The example neural_net, run as a reader runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tests.examples.running import findings


def test_it_learns_what_can_be_learned_scales_and_streams(tmp_path: Path) -> None:
    found = findings("neural_net", tmp_path, "--rows", "100000", timeout=170)
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
    assert seconds[-1] / seconds[1] < 2 * widths[-1] / widths[1]

    many = found["million"]
    assert many["rows"] == 100_000
    assert many["accuracy"] > 0.9
    if find_spec("matplotlib"):
        assert (tmp_path / "neural_net.png").read_bytes().startswith(b"\x89PNG")
