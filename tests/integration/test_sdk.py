"""The Python SDK as an orchestrator of any make meets it: frames over pipes, and nothing of ours at the other end."""

from __future__ import annotations

import ast
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlports_protocol
import mlports_worker
from tests.integration.raw_worker import RawWorker
from tests.workers import marks, program, until_blocking

RAW = """
@worker.method
def echo(x):
    return x

@worker.method(idempotent=True)
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    return "cancelled" if current().cancelled else "went on"

@worker.method
def blocks(seconds):
    # One C call, which lets other threads go on, as most of numpy and torch do.
    time.sleep(seconds)
    return "done"

@worker.method
def computes(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"

@worker.method
def count(n):
    yield from range(n)

@worker.method(batch=True)
def roots(xs):
    return [x ** 0.5 if x >= 0 else ValueError("negative") for x in xs]

@worker.method
def prints(text):
    print(text)
    sys.stdout.write(text + "\\n")
    os.write(1, text.encode() + b"\\n")
    libc = ctypes.CDLL(None)
    libc.printf(text.encode() + b"\\n")
    libc.fflush(None)
    subprocess.run(["echo", text])
    return "printed"

@worker.method
def reads():
    return [sys.stdin.read(), subprocess.run(["cat"], capture_output=True).stdout]

@worker.method
def exits(status):
    sys.exit(status)

@worker.method
def note(path, text):
    mark(path, text)

@worker.method
def fails():
    raise KeyError("k")

@worker.method
def environment():
    return [os.environ.get("MLPORTS_WORKER"), os.environ.get("MLPORTS_TRANSPORT")]
"""


@pytest.fixture
def raw(tmp_path: Path) -> Callable[..., RawWorker]:
    """Starts the worker above, or one of another program."""

    def start(body: str = RAW, **more: Any) -> RawWorker:
        return RawWorker(program(tmp_path, body, "raw"), stderr=tmp_path / "stderr", **more)

    return start


def test_hello(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        answer = worker.hello(a_key_of_a_later_version=1)
        assert answer["protocol"] == 1
        assert (answer["name"], answer["language"]) == ("raw", "python")
        assert answer["sdk"] == f"mlports_worker {mlports_worker.__version__}"
        assert answer["concurrency"] == 1
        assert {"ping", "cancel", "stream", "batch"} <= set(answer["features"])
        assert answer["methods"]["echo"] == {"batch": False, "stream": False, "idempotent": False}
        assert answer["methods"]["count"]["stream"]
        assert answer["methods"]["roots"]["batch"]
        assert answer["methods"]["hold"]["idempotent"]


def test_calls_in_order(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "echo", "x") == [None, "x"]
        assert worker.call(2**53 - 1, "echo", [1, None]) == [None, [1, None]]
        worker.send(*([0, number, "echo", [number]] for number in range(10, 500)))
        assert [worker.receive()[:4] for _ in range(10, 500)] == [[1, n, None, n] for n in range(10, 500)]


def test_frames_in_the_smallest_pieces(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        for byte in b"\x00\x00\x00\x0a\x94\x00\x07\xa4echo\x91\x2a":
            worker.send_bytes(bytes([byte]))
        assert worker.receive()[:4] == [1, 7, None, 42]


@pytest.mark.parametrize("handler", ["blocks", "computes"])
def test_a_ping_is_answered_while_a_handler_is_at_work(raw: Callable[..., RawWorker], handler: str) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, handler, [1.2]])
        for number in range(2, 6):
            began = time.monotonic()
            worker.send([0, number, "$/ping", []])
            assert worker.receive() == [1, number, None, None]
            assert time.monotonic() - began < 0.5
        assert worker.receive()[:4] == [1, 1, None, "done"]


def test_a_ping_is_answered_after_a_long_rest(raw: Callable[..., RawWorker]) -> None:
    """The watching thread sleeps when there was no work for about a second."""
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "echo", 1) == [None, 1]
        assert worker.is_silent(1.3)
        worker.send([0, 2, "blocks", [1.0]], [0, 3, "$/ping", []])
        began = time.monotonic()
        assert worker.receive() == [1, 3, None, None]
        assert time.monotonic() - began < 0.5
        assert worker.receive()[:4] == [1, 2, None, "done"]


def test_a_cancel_is_read_while_a_handler_is_at_work(raw: Callable[..., RawWorker], tmp_path: Path) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "hold", [str(tmp_path)]])
        until_blocking((tmp_path / "at-work").exists, "it is at work")
        worker.send([2, "$/cancel", [1]])
        assert worker.receive()[:4] == [1, 1, None, "cancelled"]


def test_a_cancelled_call_that_waits_is_answered_without_being_run(
    raw: Callable[..., RawWorker], tmp_path: Path
) -> None:
    with raw() as worker:
        worker.hello()
        record = str(tmp_path / "record")
        worker.send([0, 1, "hold", [str(tmp_path)]], [0, 2, "note", [record, "two"]], [0, 3, "note", [record, "three"]])
        until_blocking((tmp_path / "at-work").exists, "it is at work")
        worker.send([2, "$/cancel", [2]], [2, "$/cancel", [99]])
        number, error = worker.receive()[1:3]
        assert (number, error["code"]) == (2, "cancelled"), "at once, and not when its turn would have come"
        (tmp_path / "go-on").touch()
        answers = {message[1]: message[2:4] for message in (worker.receive() for _ in range(2))}
        assert answers[1] == [None, "went on"]
        assert answers[3] == [None, None]
        assert marks(tmp_path / "record") == ["three"]


def test_an_async_call_that_is_cancelled_before_it_begins_is_answered(raw: Callable[..., RawWorker]) -> None:
    body = """
    @worker.method
    async def naps(seconds):
        await asyncio.sleep(seconds)
        return "slept"
    """
    with raw(body) as worker:
        worker.hello()
        for number in range(1, 50):
            worker.send([0, number, "naps", [30]], [2, "$/cancel", [number]])
        answers = [worker.receive() for _ in range(1, 50)]
        assert sorted(message[1] for message in answers) == list(range(1, 50))
        assert {message[2]["code"] for message in answers} == {"cancelled"}
        assert worker.call(50, "naps", 0) == [None, "slept"]


def test_a_cancel_after_the_answer_is_ignored(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "echo", 1) == [None, 1]
        worker.send([2, "$/cancel", [1]])
        assert worker.call(2, "echo", 2) == [None, 2]


def test_expired_work_is_answered_without_being_run(raw: Callable[..., RawWorker], tmp_path: Path) -> None:
    with raw() as worker:
        worker.hello()
        record = str(tmp_path / "record")
        worker.send(
            [0, 1, "blocks", [0.2], {}],
            [0, 2, "note", [record, "late"], {"deadline_ms": 50}],
            [0, 3, "note", [record, "in time"], {"deadline_ms": 10_000}],
            [0, 4, "note", [record, "at once"], {"deadline_ms": 0}],
        )
        answers = {message[1]: message[2] for message in (worker.receive() for _ in range(4))}
        assert answers[1] is None
        assert answers[2]["code"] == answers[4]["code"] == "deadline_exceeded"
        assert answers[3] is None
        assert marks(tmp_path / "record") == ["in time"]


# Its end.


def test_the_end_of_input_ends_it(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        began = time.monotonic()
        worker.end_input()
        assert worker.status() == 0
        assert time.monotonic() - began < 1


def test_the_end_of_input_before_hello(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.end_input()
        assert worker.status() == 0


def test_the_end_of_input_leaves_time_to_answer(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "blocks", [0.3]], [0, 2, "echo", ["too"]])
        worker.end_input()
        assert worker.receive()[:4] == [1, 1, None, "done"]
        assert worker.receive()[:4] == [1, 2, None, "too"]
        assert worker.status() == 0


def test_stop_lets_it_finish_what_it_has(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "blocks", [0.3]], [0, 2, "echo", ["too"]], [2, "$/stop", ["because"]])
        assert worker.receive()[:4] == [1, 1, None, "done"]
        assert worker.receive()[:4] == [1, 2, None, "too"]
        # Its input is still open.
        assert worker.status() == 0


def test_stop_when_it_has_nothing(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([2, "$/stop", [""]])
        assert worker.status() == 0


def test_nobody_left_to_answer(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "blocks", [0.2]])
        assert worker.process.stdout is not None
        worker.process.stdout.close()
        worker.end_input()
        assert worker.status() == 0
        assert "Traceback" not in worker.stderr()


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 0), (None, 0), ("out of memory", 1)])
def test_sys_exit_in_a_handler(raw: Callable[..., RawWorker], status: Any, expected: int) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "exits", [status]])
        assert worker.status() == expected
        if isinstance(status, str):
            assert worker.stderr() == "out of memory\n"


def test_setup_that_fails(raw: Callable[..., RawWorker]) -> None:
    body = """
    @worker.setup
    def load(config):
        raise FileNotFoundError("model.skops")
    """
    with raw(body) as worker:
        worker.send([0, 0, "$/hello", [{"protocol": {"min": 1, "max": 1}, "config": {}}]])
        assert worker.status() == 1
        with pytest.raises(EOFError):
            worker.receive()
        assert "Traceback (most recent call last):" in worker.stderr()
        assert 'raise FileNotFoundError("model.skops")' in worker.stderr()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_setup_is_given_the_configuration_before_hello_is_answered(raw: Callable[..., RawWorker], kind: str) -> None:
    body = f"""
    @worker.setup
    {kind} load(config):
        time.sleep(0.1)
        worker.loaded = config

    @worker.method
    def loaded():
        return [worker.loaded, current().config]
    """
    with raw(body) as worker:
        worker.hello(config={"model": "m"})
        assert worker.call(1, "loaded") == [None, [{"model": "m"}, {"model": "m"}]]


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\xc0\xc0", b"hello\n"],
    ids=["empty frame", "too large", "no value", "two values", "text"],
)
def test_an_orchestrator_that_breaks_the_protocol(raw: Callable[..., RawWorker], data: bytes) -> None:
    with raw() as worker:
        worker.hello()
        worker.send_bytes(data)
        worker.end_input()
        assert worker.status() == 1
        assert "raw: the orchestrator broke the protocol: " in worker.stderr()
        assert "Traceback" not in worker.stderr()


# What is not its own.


def test_an_unknown_notification_is_ignored(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([2, "$/weather", ["rain", {"cm": 3}]], [2, "$/", []], [2, "nothing", [1]])
        assert worker.receive()[:2] == [2, "$/log"]  # about the cast to what it does not have
        assert worker.call(1, "echo", 1) == [None, 1]


@pytest.mark.parametrize("method", ["$/weather", "$/"])
def test_an_unknown_request_of_the_protocol(raw: Callable[..., RawWorker], method: str) -> None:
    with raw() as worker:
        worker.hello()
        error, result = worker.call(1, method)
        assert (error["code"], result) == ("unimplemented", None)
        assert worker.call(2, "echo", 1) == [None, 1]


def test_a_method_that_it_does_not_have(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        error, _ = worker.call(1, "ecko", 1)
        assert error["code"] == "unimplemented"
        assert "the worker raw has no method 'ecko'; it has: blocks, computes," in error["message"]


def test_meta_that_it_does_not_know_is_ignored(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "echo", 1, weather="rain", traceparent="00-1-2-3") == [None, 1]
        worker.send([0, 2, "echo", [2], {}, "a sixth element"])
        assert worker.receive()[:4] == [1, 2, None, 2]


# Batches and streams.


def test_a_batch(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        error, result = worker.call(1, "echo", ["a"], ["b", "too many"], ["c"], batch=3)
        assert error is None
        assert [result[0], result[2]] == [[None, "a"], [None, "c"]]
        assert (result[1][0]["code"], result[1][1]) == ("invalid_argument", None)
        error, result = worker.call(2, "roots", [4.0], [-1.0], [9.0], batch=3)
        assert [pair[1] for pair in result] == [2.0, None, 3.0]
        assert result[1][0]["message"] == "ValueError: negative"
        assert worker.call(3, "echo", batch=0) == [None, []]
        error, _ = worker.call(4, "echo", [1], batch=2)
        assert error["code"] == "invalid_argument"


def test_a_stream_within_its_credit(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "count", [5], {"credit": 2}])
        assert [worker.receive() for _ in range(2)] == [[2, "$/item", [1, 0]], [2, "$/item", [1, 1]]]
        assert worker.is_silent(0.1)
        worker.send([0, 2, "$/ping", []])
        assert worker.receive()[:2] == [1, 2]
        worker.send([2, "$/credit", [1, 100]])
        assert [worker.receive()[2] for _ in range(3)] == [[1, 2], [1, 3], [1, 4]]
        assert worker.receive()[:4] == [1, 1, None, None]


def test_a_stream_of_no_credit_that_is_cancelled(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "count", [5], {"credit": 0}])
        assert worker.is_silent(0.1)
        worker.send([2, "$/cancel", [1]])
        message = worker.receive()
        assert message[:2] == [1, 1]
        assert message[2]["code"] == "cancelled"


# Standard streams, signals and the environment.


@pytest.mark.parametrize("marked", [True, False], ids=["started by an orchestrator", "by anything else"])
def test_standard_output_is_protected(raw: Callable[..., RawWorker], marked: bool) -> None:
    with raw(env={} if marked else {"MLPORTS_WORKER": ""}) as worker:
        worker.hello()
        assert worker.call(1, "prints", "loss: 0.25") == [None, "printed"]
        assert worker.call(2, "echo", 1) == [None, 1]
        assert worker.stderr().splitlines() == ["loss: 0.25"] * 5


def test_what_is_printed_before_the_worker_runs(raw: Callable[..., RawWorker]) -> None:
    with raw("print('loading')\nctypes.CDLL(None).puts(b'the model')\n" + RAW) as worker:
        worker.hello()
        assert worker.call(1, "echo", 1) == [None, 1]
        worker.end_input()
        assert worker.status() == 0
        assert sorted(worker.stderr().splitlines()) == ["loading", "the model"]


def test_standard_input_is_empty(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "reads") == [None, ["", b""]]


def test_programs_that_it_starts_are_no_workers(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "environment") == [None, [None, None]]


def test_ctrl_c_is_the_orchestrators_affair(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.send([0, 1, "blocks", [0.2]])
        worker.process.send_signal(signal.SIGINT)
        assert worker.receive()[:4] == [1, 1, None, "done"]
        worker.process.send_signal(signal.SIGINT)
        assert worker.call(2, "echo", 1) == [None, 1]


def test_sigterm_ends_it(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.status() == -signal.SIGTERM


def test_at_a_terminal_it_explains_itself(tmp_path: Path) -> None:
    host, terminal = pty.openpty()
    try:
        ended = subprocess.run(
            program(tmp_path, RAW, "raw"), stdin=terminal, capture_output=True, text=True, timeout=20, check=False
        )
    finally:
        os.close(host)
        os.close(terminal)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "raw is a worker: it speaks frames with an orchestrator, not with a person at a terminal." in ended.stderr
    assert "mlports run" in ended.stderr


def test_an_answer_does_not_wait_for_the_next_call(raw: Callable[..., RawWorker]) -> None:
    """Quick answers may wait for company, but not while a slow handler runs."""
    with raw() as worker:
        worker.hello()
        worker.send(*([0, number, "echo", [number]] for number in range(1, 20)), [0, 20, "blocks", [1.2]])
        began = time.monotonic()
        assert [worker.receive()[1] for _ in range(19)] == list(range(1, 20))
        assert time.monotonic() - began < 0.8
        assert worker.receive()[:4] == [1, 20, None, "done"]


def test_it_sleeps_while_it_has_nothing_to_do(raw: Callable[..., RawWorker]) -> None:
    with raw() as worker:
        worker.hello()
        assert worker.call(1, "echo", 1) == [None, 1]
        assert worker.is_silent(1.2)
        before = _processor_seconds(worker.process.pid)
        assert worker.is_silent(1.0)
        assert _processor_seconds(worker.process.pid) - before <= 0.03


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_slow_reader_is_waited_for(raw: Callable[..., RawWorker]) -> None:
    """Its answers fill the pipe; nothing is lost, and it works on when they are taken."""
    with raw() as worker:
        worker.hello()
        body = "x" * 100_000
        assert worker.process.stdin is not None
        requests = 40
        sent = 0
        os.set_blocking(worker.process.stdin.fileno(), True)
        for number in range(1, requests + 1):
            if not select.select([], [worker.process.stdin], [], 0.2)[1]:
                break
            worker.send([0, number, "count", [3]])
            worker.send([0, number + 1000, "echo", [body]])
            sent += 1
            if sent * len(body) > 1_000_000:
                break
        answers = [worker.receive() for _ in range(2 * sent)]
        assert [message[3] for message in answers] == [[0, 1, 2], body] * sent


# Other people's Pythons.


@pytest.mark.parametrize("package", [mlports_worker, mlports_protocol], ids=lambda package: package.__name__)
def test_it_is_written_in_the_syntax_of_python_3_9(package: Any) -> None:
    files = sorted(Path(package.__file__).parent.glob("*.py"))
    assert files
    for file in files:
        ast.parse(file.read_text(), str(file), feature_version=(3, 9))


def test_it_needs_msgpack_alone(tmp_path: Path) -> None:
    script = tmp_path / "imports.py"
    script.write_text(
        "import sys\n"
        "import mlports_worker\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(roots - set(sys.stdlib_module_names) - {'__main__'}))\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=20)
    found = {name for name in run.stdout.split() if not name.startswith(("_", "sitecustomize"))}
    found -= {"cython_runtime"}  # of msgpack's own extension module
    assert found == {"mlports_protocol", "mlports_worker", "msgpack"}
