"""A flow's memory does not grow with what goes through it: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import resource, sys
from mlports.flow import Flow

directory = sys.argv[1]


def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def all_of_it(path, out):
    rows = Flow.from_file(path, converters={"amount": float})
    rows.partition(lambda row: row["user"]).reduce(float, lambda total, row: total + row["amount"]).run()
    rows.flat_map(lambda row: (row["n"] for _ in range(2))).map(str, on="threads").to_jsonl(out).run()
    rows.window(time=100, at=lambda row: float(row["n"])).run()
    rows.join(rows, key=lambda row: row["n"], within=10, at=lambda row: float(row["n"])).run()


all_of_it(f"{directory}/small.csv", f"{directory}/small.jsonl")
before = largest()
all_of_it(f"{directory}/large.csv", f"{directory}/large.jsonl")
print(largest() - before)
"""


def test_a_file_fifteen_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    for name, count in (("small", 3_000), ("large", 45_000)):
        rows = "".join(f"{n},user {n % 50},{n / 4},{'x' * 60}\n" for n in range(count))
        (tmp_path / f"{name}.csv").write_text("n,user,amount,text\n" + rows)
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    # As dicts the large one is more than 25 MiB.
    assert int(done.stdout) < 6 * 2**20
