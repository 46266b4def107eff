"""A file larger than the memory: the same as pandas says, in bounded memory, and sentences where something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import need

need("pyarrow", "pandas", "numpy")

from examples.large_data.__main__ import LIMIT, ROOT, agree, run  # noqa: E402
from examples.large_data.generating import ROWS, block_of  # noqa: E402


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 64 MiB, of one block again and again: what is in it matters to nobody here."""
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    block = block_of(0, seed=1)
    with path.open("wb") as file:
        file.write(b"time,store,items,amount\n")
        for _ in range(64 * 2**20 // len(block)):
            file.write(block)
    return path


def test_a_flow_says_what_pandas_says_within_its_limit(sales: Path, tmp_path: Path) -> None:
    flow, pandas = run("flow", sales, LIMIT), run("pandas", sales)
    assert agree(flow.stores, pandas.stores)
    assert sum(store[0] for store in flow.stores.values()) % ROWS == 0
    assert flow.peak_mib <= LIMIT
    small = tmp_path / "small.csv"
    with sales.open("rb") as file:
        small.write_bytes(file.read(16 * 2**20).rpartition(b"\n")[0] + b"\n")
    # The file is 48 MiB larger, and twice that in memory.
    assert flow.peak_mib - run("flow", small, LIMIT).peak_mib < 30
    with pytest.raises(SystemExit, match="flow needs more than the 100 MiB that it was given"):
        run("flow", small, 100)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty: a CSV file begins with a line of column names"),
        ("time,store,items,amount\n", "has a header and no rows"),
        ("time,store,items,amount\n1,a,1,2.5\n1,a,1,lots\n", "row 2: column 'amount' is of double, and this is 'lots'"),
        ("time,store,items,amount\n1,a,1,2.5\n1,a", "row 2: 2 values, and 4 columns"),
        ("shop,sum\na,1\n", "has no column 'store'; its columns are: shop, sum"),
    ],
)
def test_files_that_are_no_good(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    with pytest.raises(SystemExit, match=told):
        run("flow", path, LIMIT)


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The kernel's own limit on the size of a file stands for a disk: EFBIG for ENOSPC."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from examples.large_data.generating import generate\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))\n"
        "generate(Path(sys.argv[1]), 2 * 2**20)\n"
    )
    path = tmp_path / "sales.csv"
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{path} could not be written, and is gone again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not path.exists()
