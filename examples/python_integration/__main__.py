"""One Python model behind five kinds of ports, three of them a real Erlang node's: all answers are the same.

python -m examples.python_integration
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from .hosts import Answer, by_erlang, by_mlports, erlang_is_missing
from .wine import train

NEAR = 1e-9
"""How far a probability may be from scikit-learn's own: the sums are done in another order."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.python_integration", description=__doc__)
    parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wrong = tell(Path(folder) / "model.json")
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        sys.exit(f"it did not work: {error}")
    if wrong:
        sys.exit(f"this should not be so: {'; '.join(wrong)}")


def tell(model: Path) -> list[str]:
    """Does it all, prints what happens, and gives what is not as it should be."""
    rows, likely = train(model)
    asked = [*rows, [1.0, 2.0]]  # the last one is no wine
    print(f"a model of {len(rows)} wines; each of them is asked about, and a row that is no wine")
    ways = asyncio.run(by_mlports(asked, model))
    missing = erlang_is_missing()
    if missing:
        print(f"the Erlang node is left out: {missing}")
    else:
        ways |= by_erlang(asked, model)
    for way, answers in ways.items():
        results = [result for _, result in answers if result is not None]
        errors = [": ".join(error) for error, _ in answers if error is not None]
        print(f"  {way:18}{len(results)} results, the first of them label {results[0]['label']}; {', '.join(errors)}")
    return differences(ways, rows, likely.tolist())


def differences(ways: dict[str, list[Answer]], rows: list[list[float]], likely: list[list[float]]) -> list[str]:
    """Which ways differ from the first one in any bit of any answer, and whether that one differs from scikit-learn."""
    (first, reference), *others = ways.items()
    wrong = [f"{way} differs from {first}" for way, answers in others if answers != reference]
    furthest = max(
        abs(ours - theirs)
        for (_, answer), each in zip(reference[: len(rows)], likely, strict=True)
        for ours, theirs in zip(answer["likely"], each, strict=True)
    )
    print(f"{len(ways)} ways, {len(wrong)} of them with other answers; from scikit-learn at most {furthest:.0e}")
    return wrong + ([f"{furthest} from scikit-learn"] if furthest > NEAR else [])


if __name__ == "__main__":
    main()
