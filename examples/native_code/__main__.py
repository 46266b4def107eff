"""The same native code inline and as a process: what a call costs, and what a segmentation fault costs.

python -m examples.native_code
python -m examples.native_code --rounds 50
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from ..options import whole
from .building import NoCompiler, compiled
from .risking import Fate, crashed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.native_code", description=__doc__)
    parser.add_argument("--rounds", type=whole(1), default=5, help="how often everything is measured, in turn")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wrong = tell(compiled(Path(folder)), options.rounds)
    except NoCompiler as error:
        sys.exit(f"it did not work: {error}")
    if wrong:
        sys.exit(f"this should not be so: {'; '.join(wrong)}")


def tell(library: Path, rounds: int) -> list[str]:
    """Does it all, prints what happens, and gives what is not as it should be."""
    from .measuring import SIZES, Case, measure

    measured = asyncio.run(measure(library, rounds))
    print(f"µs a call {'inline':>16}{'process':>12}   process : inline")
    for method in ("in_python", "in_c"):
        for size in SIZES:
            inline, process = (measured.micros[Case(method, size, service)] for service in ("inline", "process"))
            print(f"{method:10}{size:10}{inline:>6,.0f}{process:>12,.0f}{process / inline:>14.1f} : 1")
    print(f"all results are numpy's, to {measured.furthest:.0e}")
    wrong = [] if measured.furthest < 1e-9 else [f"a result is {measured.furthest} from numpy's"]
    inline, process = (measured.micros[Case("in_c", "64 bytes", service)] for service in ("inline", "process"))
    if inline >= process:
        wrong.append("inline was not the faster one")
    print("and a segmentation fault:")
    return wrong + judged(crashed(library, "inline"), crashed(library, "process"))


def judged(inline: Fate, process: Fate) -> list[str]:
    """Prints what became of the two programs, and gives what is not as it should be."""
    wrong = []
    print(f"  inline: the whole program ended with {_named(inline.status)}; its last words: {inline.said[-1:]}")
    if inline.status != -signal.SIGSEGV or [each["moment"] for each in inline.said] != ["before"]:
        wrong.append("a crash inline did not end the program")
    print(f"  process: the program ended with {_named(process.status)}")
    for each in process.said[1:]:
        print(f"    {each}")
    if process.status != 0 or [each["moment"] for each in process.said] != ["before", "crash", "after"]:
        wrong.append("a crash of a process cost more than one call")
    return wrong


def _named(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


if __name__ == "__main__":
    main()
