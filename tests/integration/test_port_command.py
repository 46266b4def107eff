"""`mlports port`: a host that speaks the protocol has a whole orchestrator at the other end of two pipes."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mlports_protocol import (
    Answered,
    Event,
    Greeted,
    InputCreditGiven,
    Item,
    Logged,
    MethodInfo,
    OrchestratorSession,
    Progressed,
)
from tests.integration.command_line import CONFIG, PATIENCE, Command, mlports, project, start

E = TypeVar("E")

PIPELINE = CONFIG + '[pipeline.twice]\nstages = ["test.echo", "test.count"]\n'
INPUT_WORKER = """
import time
from mlports_worker import Worker

worker = Worker("sums")


@worker.method(input=True)
def total(numbers):
    return sum(numbers)


@worker.method
def sleep(seconds):
    time.sleep(seconds)
    return seconds


marks = []


@worker.method
def mark(value):
    marks.append(value)


@worker.method(name="marks")
def all_marks():
    return marks


worker.run()
"""


class Host:
    """The program that opened the port: blocking, one thing after the other."""

    def __init__(self, process: Command) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.session = OrchestratorSession()
        self.seen: list[Event] = []
        self._to, self._from = process.stdin.fileno(), process.stdout.fileno()

    def send(self, buffers: list[Any]) -> None:
        data = b"".join(buffers)
        while data:
            data = data[os.write(self._to, data) :]

    def hello(self) -> Greeted:
        self.send(self.session.hello("host", 0, {}))
        return self.wait_for(Greeted)

    def ask(self, method: str, *params: Any, **meta: Any) -> int:
        self.send(self.session.request(method, list(params), meta or None))
        return self.session.last_id

    def call(self, method: str, *params: Any, **meta: Any) -> Answered:
        number = self.ask(method, *params, **meta)
        return self.wait_for(Answered, lambda answer: answer.id == number)

    def wait_for(self, kind: type[E], wanted: Callable[[E], bool] = lambda _: True) -> E:
        """The first event of a kind that is wanted; those before it are kept in `seen`."""
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            while True:
                while (event := self.session.next_event()) is not None:
                    if isinstance(event, kind) and wanted(event):
                        return event
                    self.seen.append(event)
                assert selector.select(end - time.monotonic()), f"no {kind.__name__} came; there were {self.seen}"
                data = os.read(self._from, 65536)
                assert data, f"the port ended before {kind.__name__}; there were {self.seen}"
                self.session.feed(data)


@contextmanager
def opened(folder: Path, greet: bool = True) -> Iterator[Host]:
    """A port of this folder's configuration."""
    with start("port", cwd=folder, stdin=subprocess.PIPE) as process:
        host = Host(process)
        if greet:
            host.hello()
        yield host


def ended(host: Host) -> tuple[int, str]:
    """The port's exit status and what it wrote on standard error, once it has ended; what else it says is read."""
    assert host.process.stdout is not None
    assert host.process.stderr is not None
    while os.read(host.process.stdout.fileno(), 65536):
        pass
    return host.process.wait(PATIENCE), host.process.stderr.read()


def test_a_host_has_every_service_through_one_port(tmp_path: Path) -> None:
    with opened(project(tmp_path, PIPELINE), greet=False) as host:
        peer = host.hello().peer
        assert peer.name == "mlports"
        assert peer.methods is not None
        assert peer.methods["test.echo"] == MethodInfo(idempotent=True)
        assert peer.methods["test.count"].stream
        assert peer.methods["twice.run"].stream

        assert host.call("$/ping").error is None
        assert host.call("test.add", 2, 3).result == 5
        assert host.call("twice.run", 3).result == [0, 1, 2]
        failed = host.call("test.fail", "as asked").error
        assert failed is not None
        assert (failed["code"], failed["message"]) == ("unknown", "test.fail: ValueError: as asked")
        for target, code in (("nobody.echo", "not_found"), ("test.nothing", "unimplemented"), ("$/x", "unimplemented")):
            error = host.call(target, 1).error
            assert error is not None
            assert error["code"] == code
        late = host.call("test.hang", "late", deadline_ms=50).error
        assert late is not None
        assert late["code"] == "deadline_exceeded"

        pairs = host.call("test.echo", [1], [2], [], batch=3).result
        assert pairs[:2] == [[None, 1], [None, 2]]
        assert pairs[2][0]["code"] == "invalid_argument"
        assert host.call("test.add", [1, 2], [3, 4], batch=2).result == [[None, 3], [None, 7]]

        assert host.call("test.report", 2, progress=True).result == 2
        assert [event.done for event in host.seen if isinstance(event, Progressed)] == [1, 2]

        host.send(host.session.notify("$/stop", ["done"]))
        host.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        assert ended(host)[0] == 0


def test_streams_both_ways_keep_to_their_credit(tmp_path: Path) -> None:
    folder = project(tmp_path, CONFIG + '[service.sums]\ncommand = ["python", "sums.py"]\n')
    (folder / "sums.py").write_text(INPUT_WORKER)
    with opened(folder) as host:
        number = host.ask("test.count", 5, credit=2)
        assert [host.wait_for(Item).value for _ in range(2)] == [0, 1]
        assert host.call("$/ping").error is None
        assert not [event for event in host.seen if isinstance(event, Item)]
        host.send(host.session.give_credit(number, 10))
        assert [host.wait_for(Item).value for _ in range(3)] == [2, 3, 4]
        assert host.wait_for(Answered).error is None

        answer = host.call("test.add", 1, 2, credit=1)
        assert answer.result == 3  # it gives no stream, and answers as if none had been asked for

        number = host.ask("sums.total", input=True)
        for value in range(5):
            while not host.session.input_allowance(number):
                host.wait_for(InputCreditGiven)
            host.send(host.session.input(number, value))
        host.send(host.session.end_input(number))
        assert host.wait_for(Answered).result == 10

        number = host.ask("test.hang", "me")
        host.send(host.session.cancel(number))
        cancelled = host.wait_for(Answered).error
        assert cancelled is not None
        assert cancelled["code"] == "cancelled"

        host.send(host.session.notify("sums.mark", ["a"]))
        host.send(host.session.notify("sums.nothing", ["a"]))
        assert host.call("sums.marks").result == ["a"]
        assert any(isinstance(event, Logged) and "sums.nothing" in event.text for event in host.seen)


def test_a_crash_inside_is_an_error_and_a_log_line_outside(tmp_path: Path) -> None:
    with opened(project(tmp_path)) as host:
        crashed = host.call("test.crash").error
        assert crashed is not None
        assert crashed["code"] == "unavailable"
        assert "status 7" in crashed["message"]
        host.wait_for(Logged, lambda log: log.text.startswith("ready"))
        logs = [(event.level, event.text) for event in host.seen if isinstance(event, Logged)]
        assert ("info", "my last words") in logs
        assert any(level == "warning" and text.startswith("died: ") for level, text in logs)
        assert host.call("test.echo", 1).result == 1


def test_stop_answers_what_was_asked_and_refuses_the_rest(tmp_path: Path) -> None:
    folder = project(tmp_path, '[service.sums]\ncommand = ["python", "sums.py"]\n')
    (folder / "sums.py").write_text(INPUT_WORKER)
    with opened(folder) as host:
        number = host.ask("sums.sleep", 0.3)
        host.send(host.session.notify("$/stop", []))
        late = host.call("sums.sleep", 0).error
        assert late is not None
        assert (late["code"], late["retryable"]) == ("unavailable", True)
        assert host.wait_for(Answered, lambda answer: answer.id == number).result == 0.3
        assert ended(host)[0] == 0


@pytest.mark.parametrize("end", ["eof", "sigterm", "mlports stop", "cut frame", "second hello"])
def test_every_end_takes_the_workers_along(tmp_path: Path, end: str) -> None:
    """That they are gone is what every test's check for leaks says."""
    with opened(project(tmp_path)) as host:
        host.ask("test.hang", "still at it")
        host.wait_for(Logged, lambda log: log.text == "hanging still at it")
        if end == "eof":
            host.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        elif end == "sigterm":
            host.process.send_signal(signal.SIGTERM)
        elif end == "mlports stop":
            assert mlports("stop", cwd=tmp_path).returncode == 0
        elif end == "cut frame":
            host.send([b"\0\0\0\x09abc"])
            host.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        elif end == "second hello":
            host.send(OrchestratorSession().hello("host", 0, {}))
        status, err = ended(host)
    told = {"cut frame": "TruncatedFrame", "second hello": "DuplicateId|HandshakeExpected"}
    assert status == (1 if end in told else 0)
    assert any(name in err for name in told.get(end, "").split("|"))


def test_a_host_that_reads_no_more_ends_it(tmp_path: Path) -> None:
    with opened(project(tmp_path)) as host:
        assert host.process.stdout is not None
        host.process.stdout.close()
        assert host.process.wait(PATIENCE) == 1
        assert "reads no more" in host.process.stderr.read()  # type: ignore[union-attr]  # it is a pipe


def test_what_cannot_start_says_why_and_answers_nothing(tmp_path: Path) -> None:
    broken = CONFIG + "config = { broken = true }\n"
    with opened(project(tmp_path, broken), greet=False) as host:
        host.send(host.session.hello("host", 0, {}))
        with pytest.raises(AssertionError, match="the port ended before Greeted"):
            host.wait_for(Greeted)
        status, err = ended(host)
        assert status == 5
        assert "no service could be started" in err
        assert "there is no model here" in err


def test_a_port_is_for_programs(tmp_path: Path) -> None:
    project(tmp_path)
    with start("port", cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "not pipes" in err


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with opened(project(tmp_path)) as host:
        second = mlports("port", cwd=tmp_path)
        assert second.returncode == 3
        assert f"pid {host.process.pid}" in second.stderr
        assert mlports("call", "test.echo", "1", cwd=tmp_path).stdout == "1\n"
