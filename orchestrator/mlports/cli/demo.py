"""`mlports demo`: a model trained and served by workers, one of them killed at work, and nobody missing an answer.

A worker learns scikit-learn's digits and saves what it learned; two others load it and answer for every image of the
test set, each a request of its own. In the midst of that one of the two is killed. What came of it is then compared
with what has to come of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from mlports import CallError, MlportsError, Orchestrator, ServiceConfig
from mlports.cli.demo_display import Display
from mlports.cli.exit_codes import ExitCode
from mlports.cli.output import put, say

if TYPE_CHECKING:
    import numpy as np

COMMAND = ["python", "-m", "mlports_models.estimator"]
ESTIMATOR, PARAMS = "SVC", {"gamma": 0.001}
REPLICAS = 2
CONCURRENCY = 64
LEAST_ACCURACY = 0.95
_LEAST_ROUNDS = 8
_QUIET = 32  # answers from others, with none from a stopped worker: it has nothing left on the way
_LONGEST = 40.0  # seconds that requests are sent before the demo is given up
_SHUTDOWN = 1.0  # seconds; a worker that is still importing reads no request to stop
_START_TIMEOUT = 60.0  # seconds; scikit-learn's import takes two on a quiet machine, and this one may be busy
_STEP = 0.1  # seconds between two pictures

Event = dict[str, Any]


class Check(NamedTuple):
    """One thing that has to hold."""

    check: str
    held: bool
    detail: str


@dataclass
class Outcome:
    """What the demo measured: times in seconds unless they are named ms, accuracies from 0 to 1."""

    model: str = ""
    accuracy: float = 0.0
    accuracy_in_process: float = 0.0
    images: int = 0
    rounds: int = 0
    requests: int = 0
    answered: int = 0
    failed: int = 0
    answered_once: bool = False
    same_answers: bool = False
    replicas: int = REPLICAS
    concurrency: int = CONCURRENCY
    seconds: float = 0.0
    calls_per_second: float = 0.0
    calls_per_second_before_kill: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    killed: dict[str, Any] = field(default_factory=dict)
    deaths: list[dict[str, Any]] = field(default_factory=list)
    restarted: dict[str, Any] = field(default_factory=dict)
    retried: int = 0
    leftovers: list[str] = field(default_factory=list)
    first_error: str | None = None

    def checks(self) -> list[Check]:
        """Everything that has to hold, and whether it did."""
        death = self.deaths[0] if len(self.deaths) == 1 else None
        in_flight = len(death["in_flight"]) if death is not None else 0
        return [
            Check("the model is good", self.accuracy >= LEAST_ACCURACY, f"accuracy {self.accuracy:.4f} on held-out"),
            Check(
                "the workers answer what the model answers in process",
                self.same_answers and self.accuracy == self.accuracy_in_process,
                f"accuracy {self.accuracy:.4f} from workers, {self.accuracy_in_process:.4f} in process",
            ),
            Check(
                "every request was answered exactly once",
                self.answered_once and not self.failed and self.answered == self.requests > 0,
                f"{self.requests:,} requests, {self.answered:,} answered once, {self.failed:,} failed"
                + (f", the first with: {self.first_error}" if self.first_error else ""),
            ),
            Check(
                "a worker was killed with requests in flight",
                self.killed.get("in_flight", 0) > 0 and in_flight > 0,
                f"it held {self.killed.get('in_flight', 0)}; its verdict names {in_flight}",
            ),
            Check(
                "that was the only death, and its verdict says SIGKILL",
                death is not None and death["name"] == "SIGKILL" and death["pid"] == self.killed.get("pid"),
                f"deaths: {', '.join(each['name'] for each in self.deaths) or 'none'}",
            ),
            Check(
                "the calls it held were sent to another worker",
                in_flight == self.retried > 0,
                f"{self.retried} retried",
            ),
            Check(
                "it was restarted, and answers again",
                self.restarted.get("answered", 0) > 0,
                f"ready after {self.restarted['seconds']:.2f} s, {self.restarted.get('answered', 0):,} answers since"
                if self.restarted
                else "it never came back",
            ),
            Check("nothing is left behind", not self.leftovers, ", ".join(self.leftovers) or "no process, no file"),
        ]


def run_demo(json: bool) -> int:
    """Shows the demo on stdout, as text or as one JSON document; gives the exit status.

    0: everything held; 1: something did not, and is named; 2: a package is missing; 130: interrupted by Ctrl-C.
    Raises `OutputFailed` when stdout cannot be written on.
    """
    missing = [name for name in ("numpy", "sklearn", "skops", "mlports_models") if find_spec(name) is None]
    if missing:
        text = f"the demo needs {', '.join(missing)}, not installed for {sys.executable}: pip install 'mlports[models]'"
        return _failed(text, ExitCode.USAGE, json, {})
    outcome = Outcome()
    display = Display(quiet=json)
    try:
        with display:
            _run(_demo(outcome, display))
    except KeyboardInterrupt:
        say("interrupted: the workers are stopped")
        return ExitCode.INTERRUPTED
    except MlportsError as error:
        return _failed(f"the demo failed: {error}", ExitCode.FAILED, json, asdict(outcome))
    checks = outcome.checks()
    ok = all(check.held for check in checks)
    if json:
        put(dumps({"ok": ok, **asdict(outcome), "checks": [check._asdict() for check in checks]}, indent=2))
    else:
        display.result(outcome, checks)
    for check in checks:
        if not check.held:
            say(f"did not hold: {check.check} ({check.detail})")
    if display.failed is not None:
        raise display.failed
    return ExitCode.OK if ok else ExitCode.FAILED


def _failed(text: str, status: int, json: bool, measured: dict[str, Any]) -> int:
    say(text)
    if json:
        put(dumps({"ok": False, "error": text, **measured}, indent=2))
    return status


def _run(main: Coroutine[Any, Any, None]) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if find_spec("uvloop"):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


async def _demo(outcome: Outcome, display: Display) -> None:
    arguments = ", ".join(f"{name}={value!r}" for name, value in PARAMS.items())
    outcome.model = f"{ESTIMATOR}({arguments})"
    pids: set[int] = set()

    def note_pid(event: Event) -> None:
        if "pid" in event:
            pids.add(event["pid"])

    with TemporaryDirectory(prefix="mlports-demo-") as folder:
        images, labels, expected = await _train(outcome, display, Path(folder), note_pid)
        outcome.images = len(images)
        outcome.accuracy_in_process = float((expected == labels).mean())
        service = ServiceConfig(
            command=COMMAND,
            replicas=REPLICAS,
            shutdown=_SHUTDOWN,
            start_timeout=_START_TIMEOUT,
            config={"model": "digits.skops", "models_dir": folder},
        )
        display.say(f"{REPLICAS} workers load the model")
        orchestrator = Orchestrator({"digits": service})
        orchestrator.event_log.listen(note_pid)
        async with orchestrator:
            load = Load(orchestrator, images, display)
            await load.run()
        load.tell(outcome, labels, expected)
    outcome.leftovers = [f"process {pid}" for pid in sorted(pids) if _exists(pid)]
    if await asyncio.to_thread(os.path.exists, folder):
        outcome.leftovers.append(f"folder {folder}")


async def _train(
    outcome: Outcome, display: Display, folder: Path, listener: Callable[[Event], None]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Has a worker fit and save the model. Gives the test images, their labels and what the model says in process."""
    display.say(f"A worker learns the digits: {outcome.model}")
    service = ServiceConfig(
        command=COMMAND,
        shutdown=_SHUTDOWN,
        start_timeout=_START_TIMEOUT,
        timeout="60s",
        config={"estimator": ESTIMATOR, "params": PARAMS, "models_dir": str(folder)},
    )
    # Both import scikit-learn, which takes longer than the rest.
    data = asyncio.create_task(asyncio.to_thread(_digits))
    trainer = Orchestrator({"trainer": service})
    trainer.event_log.listen(listener)
    try:
        async with trainer:
            train_images, test_images, train_labels, test_labels = await data
            began = time.perf_counter()
            await trainer.call("trainer.fit", train_images, train_labels)
            seconds = time.perf_counter() - began
            saved = await trainer.call("trainer.save", "digits.skops")
    finally:
        data.cancel()
    display.say(f"  fitted to {len(train_images):,} images in {seconds:.2f} s, saved: {saved['bytes']:,} bytes")
    expected = await asyncio.to_thread(_predict_in_process, folder / "digits.skops", test_images)
    return test_images, test_labels, expected


def _digits() -> list[np.ndarray[Any, Any]]:
    # For _predict_in_process: it takes long, and here nobody has to wait for it.
    import skops.io  # noqa: F401
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    split: list[Any] = train_test_split(images, labels, test_size=0.3, stratify=labels, random_state=0)
    return split


def _predict_in_process(path: Path, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import skops.io

    labels: np.ndarray[Any, Any] = skops.io.load(path).predict(images)
    return labels


class Load:
    """Every image as a request of its own, 64 at a time, over and over until a killed worker is back at work."""

    def __init__(self, orchestrator: Orchestrator, images: np.ndarray[Any, Any], display: Display) -> None:
        self._orchestrator = orchestrator
        self._images = list(images)
        self._display = display
        self._wanted = _LEAST_ROUNDS * len(images)
        self._next = 0
        self._settled: Counter[int] = Counter()  # by request: how often its caller was given an answer or an error
        self._labels: dict[int, Any] = {}
        self._errors: list[CallError] = []
        self._latencies: list[float] = []  # seconds
        self._began = self._ended = 0.0
        self._rate_before_kill = 0.0
        self._condition: Callable[[], bool] | None = None
        self._reached = asyncio.Event()
        self._killed: dict[str, Any] = {}
        self._killed_at = 0.0
        self._deaths: list[dict[str, Any]] = []
        self._retried = 0
        self._back_after: float | None = None
        self._replicas: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Sends, kills, and goes on sending until the worker is back, or for 40 s."""
        end = self._orchestrator.event_log.listen(self._on_event)
        self._display.say(
            f"Each of the {len(self._images)} held-out images is a request of its own, {CONCURRENCY} at a time"
        )
        self._began = time.perf_counter()
        aside = [asyncio.create_task(self._kill_one()), asyncio.create_task(self._draw())]
        try:
            await asyncio.gather(*(self._send() for _ in range(CONCURRENCY)))
            self._ended = time.perf_counter()
            self._replicas = self._status()["replicas"]
            self._picture()
        finally:
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)
            end()

    async def _send(self) -> None:
        while (number := self._take_number()) is not None:
            began = time.perf_counter()
            answer = self._orchestrator.call("digits.predict", self._images[number % len(self._images)])
            answer.add_done_callback(partial(self._count, number))
            try:
                self._labels[number] = await answer
            except CallError as error:
                self._errors.append(error)
            self._latencies.append(time.perf_counter() - began)
            if self._condition is not None and self._condition():
                self._condition = None
                self._reached.set()

    def _count(self, number: int, _: asyncio.Future[Any]) -> None:
        self._settled[number] += 1

    def _take_number(self) -> int | None:
        """The next request's number; None when there are enough. Requests come in whole rounds of the images."""
        given_up = len(self._errors) > CONCURRENCY or time.perf_counter() - self._began > _LONGEST
        if self._next >= self._wanted:
            if self._back_after is not None or given_up:
                return None
            self._wanted += len(self._images)
        elif given_up and self._next % len(self._images) == 0:
            return None
        self._next += 1
        return self._next - 1

    # -- the kill

    async def _kill_one(self) -> None:
        await self._until(self._in_mid_flight)
        victim = max(self._status()["replicas"], key=lambda replica: replica["in_flight"])
        number, pid = victim["replica"], victim["pid"]
        self._rate_before_kill = len(self._latencies) / (time.perf_counter() - self._began)
        # A stopped worker answers nothing. Once what it had answered before is here, all that it holds is unanswered
        # for certain, which of a worker at full speed nobody can know.
        os.kill(pid, signal.SIGSTOP)
        await self._until(self._silence_of(number))
        in_flight = self._status()["replicas"][number]["in_flight"]
        os.kill(pid, signal.SIGKILL)
        self._killed_at = time.perf_counter()
        self._killed = {"replica": number, "pid": pid, "in_flight": in_flight, "after_requests": len(self._latencies)}
        self._display.say(f"kill -9 {pid}: worker digits/{number}, with {in_flight} requests in flight")

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, which is looked at after every answer."""
        self._reached.clear()
        self._condition = condition
        await self._reached.wait()

    def _in_mid_flight(self) -> bool:
        if len(self._latencies) < 2 * len(self._images):
            return False
        return all(replica["in_flight"] for replica in self._status()["replicas"])

    def _silence_of(self, number: int) -> Callable[[], bool]:
        answered, since = -1, 0

        def silent() -> bool:
            nonlocal answered, since
            replica = self._status()["replicas"][number]
            if replica["answered"] != answered:
                answered, since = replica["answered"], len(self._latencies)
            return len(self._latencies) - since >= _QUIET and replica["in_flight"] > 0

        return silent

    def _on_event(self, event: Event) -> None:
        kind = event["event"]
        if kind == "died":
            self._deaths.append(event["verdict"])
            self._display.say(f"  verdict: {event['text'].splitlines()[0]}")
        elif kind == "retried":
            self._retried += event["calls"]
            self._display.say(f"  {event['calls']} calls sent again, to the other worker")
        elif kind == "restarting":
            self._display.say(f"  restarting worker digits/{event['replica']}")
        elif kind == "ready" and self._killed:
            self._back_after = time.perf_counter() - self._killed_at
            self._display.say(
                f"  worker digits/{event['replica']} is back (pid {event['pid']}): {self._back_after:.2f} s"
            )
            # One whole round more, for it to do its share of.
            self._wanted = max(self._wanted, (self._next // len(self._images) + 2) * len(self._images))

    # -- what came of it

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._orchestrator.status()["services"]["digits"]
        return status

    async def _draw(self) -> None:
        while True:
            self._picture()
            await asyncio.sleep(_STEP)

    def _picture(self) -> None:
        seconds = time.perf_counter() - self._began
        self._display.picture(len(self._latencies), seconds, self._latencies[-2000:], self._status())

    def tell(self, outcome: Outcome, labels: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
        """Writes down what was measured; `labels` are right, `expected` is what the model says in process."""
        images = len(self._images)
        right = sum(bool(label == labels[number % images]) for number, label in self._labels.items())
        times = sorted(self._latencies)
        outcome.rounds = self._next // images
        outcome.requests = self._next
        outcome.answered = sum(count == 1 for count in self._settled.values()) - len(self._errors)
        outcome.failed = len(self._errors)
        outcome.first_error = str(self._errors[0]) if self._errors else None
        outcome.answered_once = self._settled == Counter(range(self._next))
        outcome.accuracy = right / len(self._labels) if self._labels else 0.0
        outcome.same_answers = all(label == expected[number % images] for number, label in self._labels.items())
        outcome.seconds = self._ended - self._began
        outcome.calls_per_second = len(times) / outcome.seconds
        outcome.calls_per_second_before_kill = self._rate_before_kill
        outcome.p50_ms, outcome.p99_ms = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
        outcome.killed = self._killed
        outcome.deaths = self._deaths
        outcome.retried = self._retried
        if self._back_after is not None:
            back = self._replicas[self._killed["replica"]]
            outcome.restarted = {**back, "seconds": self._back_after}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, who was given the number of one of ours
        return False
    return True
