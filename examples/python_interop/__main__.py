"""Runs programs of seven languages once each: results, failures, an end to their time, and what their starts cost.

python -m examples.python_interop
python -m examples.python_interop --rounds 10
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ..options import positive, whole
from .calling import LANGUAGES, failure, in_each_language, time_out, train
from .costs import compare
from .dataset import write_dataset


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.python_interop", description=__doc__)
    parser.add_argument("--rounds", type=whole(1), default=1, help="how often the program and the worker are compared")
    parser.add_argument("--timeout", type=positive, default=1.0, help="seconds that the program that hangs is given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = tell(Path(folder), options.rounds, options.timeout)
    if wrong:
        sys.exit(f"this should not be so: {'; '.join(wrong)}")


def tell(folder: Path, rounds: int, timeout: float) -> list[str]:
    """Does it all, prints what happens, and gives what is not as it should be."""
    wrong: list[str] = []
    data = folder / "dataset.csv"
    print(f"dataset.csv: {write_dataset(data)} lines")
    trained = train(data)
    print(f"train_model.py --data dataset.csv printed {trained.result}, in {trained.seconds:.2f} s")
    refused = failure(folder / "missing.csv")
    print(f"with a file that is not there: {refused}".replace(str(folder), "…"))
    if refused.status != 2:
        wrong.append(f"its status was {refused.status}, not 2")
    late, left = time_out(timeout)
    print(f"{late}, and the two programs that it had started: {len(left)} of the three left")
    if left:
        wrong.append(f"processes {left} outlived the timeout")

    answers = in_each_language(data)
    for suffix, answer in answers.items():
        told = f"{answer.result}, in {answer.seconds:.2f} s" if answer else f"{LANGUAGES[suffix]} is not installed here"
        print(f"  centroid.{suffix:5}{told}")
    if len({str(answer.result) for answer in answers.values() if answer}) > 1:
        wrong.append("the languages do not agree")

    costs = compare(data, rounds)
    if any(result != trained.result for result in costs.results):
        wrong.append("the worker and the program do not agree")
    print(
        f"train() again and again: {costs.program * 1e3:,.0f} ms as a program, {costs.worker * 1e3:,.0f} ms as a call "
        f"to a worker, {costs.program / costs.worker:,.0f} to 1; its start and first call: {costs.start * 1e3:,.0f} ms"
    )
    if costs.worker >= costs.program:
        wrong.append("a call took as long as a program's whole life")
    return wrong


if __name__ == "__main__":
    main()
