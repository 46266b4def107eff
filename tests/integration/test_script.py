"""`run_script`: programs of any language, run once."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from mlports import ScriptFailed, ScriptTimedOut, run_script
from tests.workers import until_blocking

LANGUAGES = [  # file name, interpreter, text: each prints its two arguments with a + between them
    ("script.py", None, "import sys\nprint(sys.argv[1] + '+' + sys.argv[2])\n"),
    ("script.sh", "sh", 'echo "$1+$2"\n'),
    ("script.pl", "perl", 'print "$ARGV[0]+$ARGV[1]\\n";\n'),
    ("script.js", "node", "console.log(process.argv[2] + '+' + process.argv[3])\n"),
    ("script.mjs", "node", "import process from 'node:process'; console.log(process.argv.slice(2).join('+'))\n"),
    ("script.rb", "ruby", "puts ARGV.join('+')\n"),
    ("script.lua", "lua", "print(arg[1] .. '+' .. arg[2])\n"),
    ("script.R", "Rscript", "cat(paste(commandArgs(TRUE), collapse='+'), '\\n', sep='')\n"),
    ("script.exs", "elixir", 'IO.puts(Enum.join(System.argv(), "+"))\n'),
    (
        "script.escript",
        "escript",
        '#!/usr/bin/env escript\nmain(Args) -> io:format("~ts~n", [lists:join("+", Args)]).\n',
    ),
    (
        "Script.java",
        "java",
        'public class Script { public static void main(String[] a) { System.out.println(a[0] + "+" + a[1]); } }\n',
    ),
]


def script(directory: Path, text: str, name: str = "script.py") -> Path:
    path = directory / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "interpreter", "text"), LANGUAGES, ids=[case[0] for case in LANGUAGES])
def test_a_language(tmp_path: Path, name: str, interpreter: str | None, text: str) -> None:
    path = script(tmp_path, text, name)
    if interpreter is not None and shutil.which(interpreter) is None:
        with pytest.raises(ScriptFailed, match=f"its interpreter {interpreter} is not installed"):
            run_script(path)
        pytest.skip(f"{interpreter} is not installed here")
    result = run_script(path, "learning rate", "0.1", timeout=50)
    assert (result.status, result.stdout, result.stderr) == (0, "learning rate+0.1\n", "")
    assert result.command[-3:] == (str(path), "learning rate", "0.1")
    assert result.seconds > 0


def test_a_program_of_its_own(tmp_path: Path) -> None:
    path = script(tmp_path, '#!/bin/sh\necho "$0 says $1"\n', "program")
    path.chmod(0o755)
    assert run_script(path, "hello").stdout == f"{path} says hello\n"


def test_python_is_this_interpreter(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; print(sys.executable)")
    assert run_script(path).stdout == f"{sys.executable}\n"
    path.chmod(0o755)  # and no other, because of a #! line
    assert run_script(path).stdout == f"{sys.executable}\n"


# What it is given.


def test_input(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; print(sys.stdin.read()[::-1], end='')")
    assert run_script(path, input="abc").stdout == "cba"
    assert run_script(path).stdout == ""
    large = "x" * 3_000_000
    assert run_script(path, input=large).stdout == large


def test_env_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "inherited")
    path = script(tmp_path, "import os; print(os.environ.get('OURS'), os.environ.get('THEIRS'), 'PATH' in os.environ)")
    assert run_script(path).stdout == "inherited None True\n"
    assert run_script(path, env={"THEIRS": "added"}).stdout == "inherited added True\n"
    assert run_script(path, env={"OURS": "changed"}).stdout == "changed None True\n"


def test_cwd(tmp_path: Path) -> None:
    path = script(tmp_path, "import os; print(os.getcwd())")
    place = tmp_path / "place"
    place.mkdir()
    assert run_script(path, cwd=place).stdout == f"{place.resolve()}\n"
    with pytest.raises(ScriptFailed, match="No such file"):
        run_script(path, cwd=tmp_path / "nowhere")


# How it ends.


def test_a_status_that_is_not_0(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; print('so far'); sys.stderr.write('a\\nb\\n'); sys.exit(3)")
    with pytest.raises(ScriptFailed) as caught:
        run_script(path)
    error = caught.value
    assert str(error) == "script.py exited with status 3; its last words on stderr:\n  | a\n  | b"
    assert (error.status, error.stdout, error.stderr) == (3, "so far\n", "a\nb\n")
    result = run_script(path, check=False)
    assert (result.status, result.stdout, result.stderr) == (3, "so far\n", "a\nb\n")


def test_a_signal(tmp_path: Path) -> None:
    path = script(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ScriptFailed, match=r"script\.py was killed by SIGSEGV") as caught:
        run_script(path)
    assert caught.value.status == -signal.SIGSEGV


def test_output_that_is_no_text(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; sys.stdout.buffer.write(b'caf\\xe9')")
    assert run_script(path).stdout == "caf\\xe9"


def test_without_capture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, "import sys; print('out'); print('err', file=sys.stderr)")
    result = run_script(path, capture=False)
    assert (result.stdout, result.stderr) == ("", "")
    assert capfd.readouterr() == ("out\n", "err\n")


GRANDCHILD = """
import os, subprocess, sys, time
print("so far", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={away})
with open(sys.argv[1], "w") as file:
    file.write(str(child.pid))
{then}
"""


def pid_in(path: Path) -> int:
    until_blocking(lambda: path.exists() and path.read_text(), "the grandchild runs")
    return int(path.read_text())


def test_a_timeout_ends_it_and_all_that_it_started(tmp_path: Path) -> None:
    path = script(tmp_path, GRANDCHILD.format(away=False, then="time.sleep(60)"))
    began = time.monotonic()
    with pytest.raises(ScriptTimedOut) as caught:
        run_script(path, str(tmp_path / "pid"), timeout=1)
    assert time.monotonic() - began < 5
    assert isinstance(caught.value, TimeoutError)
    assert str(caught.value) == "script.py took longer than 1 s and was killed"
    assert caught.value.stdout == "so far\n"
    # That the grandchild is gone is what every test's check for leaks says.
    assert pid_in(tmp_path / "pid")


def test_a_timeout_with_a_grandchild_that_went_away_and_holds_the_output(tmp_path: Path) -> None:
    """It left the process group, so it is not killed; nobody waits for it either."""
    path = script(tmp_path, GRANDCHILD.format(away=True, then="time.sleep(60)"))
    began = time.monotonic()
    try:
        with pytest.raises(ScriptTimedOut) as caught:
            run_script(path, str(tmp_path / "pid"), timeout=1)
        assert time.monotonic() - began < 10
        assert caught.value.stdout == "so far\n"
    finally:
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)


# What cannot be run.


def test_what_cannot_be_run(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "missing.py", "it does not exist"),
        (tmp_path, "it is a directory"),
        (script(tmp_path, "loss = 0.25", "notes.txt"), r"it is not executable \(chmod \+x\), and its kind is none of "),
    ):
        with pytest.raises(ScriptFailed, match=why):
            run_script(path)
    broken = script(tmp_path, "#!/no/such/interpreter\n", "broken")
    broken.chmod(0o755)
    with pytest.raises(ScriptFailed, match="No such file or directory"):
        run_script(broken)
