"""Sends digits through a pipeline of workers in all languages, each of which learned them its own way, and votes.

python -m examples.languages
python -m examples.languages --only python,ruby --rows 100

Exit status: 0 if every record came back whole, with every vote, though a worker was killed; 1 if not, or if something
that is needed is not there; 2 for a wrong option; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from mlports import Config, MlportsError, Orchestrator, PipelineConfig, load_config

from ..ending import INSTALL
from ..options import whole

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORKERS = ROOT / "workers"

TRAIN = HERE / "build" / "train.csv"  # where mlports.toml says that the workers find it
TEST = TRAIN.with_name("test.csv")

LEARNED, HELD_OUT = 1200, 597
ROWS_EACH = 10  # images in a record

VOTERS = {
    "c": "nearest centroid",
    "cpp": "ridge regression, Eigen",
    "elixir": "neural net, a process a layer",
    "erlang": "neural net, a process a neuron",
    "go": "gradient-boosted trees",
    "java": "random forest, Tribuo",
    "lua": "softmax regression",
    "node": "ridge classifier, ml-matrix",
    "perl": "Rocchio over tf-idf",
    "python": "support vectors, scikit-learn",
    "r": "logistic regression, glm",
    "ruby": "multinomial naive Bayes",
    "rust": "k-means, smartcore",
}

Record = dict[str, Any]


@dataclass
class Story:
    """What happened on the way. held: records that the killed worker had in its hands; again: those sent again."""

    victim: str
    began: float = field(default_factory=time.monotonic)
    killed_at: float = 0.0
    held: int = 0
    again: int = 0

    def tell(self, event: dict[str, Any]) -> None:
        """Listens to the orchestrator's events, and prints those that matter here."""
        name, service = event["event"], event.get("service")
        if name == "ready" and self.killed_at and service == self.victim:
            say(f"  {service} is back, and has learned again: {time.monotonic() - self.killed_at:.1f} s")
        elif name == "ready":
            say(f"  {service} is up after {time.monotonic() - self.began:.1f} s")
        elif name == "died" and not event["verdict"].get("stopped"):
            say(f"  {event['text'].splitlines()[0]}")
        elif name == "retried":
            self.again += event["calls"]


def main() -> int:
    options = arguments()
    if not WORKERS.is_dir():
        sys.exit("the workers in other languages do not come with the wheel: this example is to be run in a clone")
    try:
        images, labels = digits()
        config = panel(options.only)
        return asyncio.run(vote(config, images[: options.rows], labels[: options.rows], options.kill))
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is left running", file=sys.stderr)
        return 130
    except (MlportsError, OSError) as error:
        print(f"it did not work: {error}", file=sys.stderr)
        return 1


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.languages", description=__doc__)
    parser.add_argument("--rows", type=whole(1, HELD_OUT), default=HELD_OUT, help=f"images to vote on (all {HELD_OUT})")
    parser.add_argument("--only", metavar="LANGUAGES", default=",".join(VOTERS), help="some of them: python,ruby")
    parser.add_argument("--kill", metavar="LANGUAGE", help="whose worker is killed (default: the middle one's)")
    options = parser.parse_args(given)
    options.only = [name.strip() for name in options.only.split(",")]
    for name in options.only + ([options.kill] if options.kill else []):
        if name not in VOTERS:
            parser.error(f"there is no worker in {name!r}; there are {', '.join(VOTERS)}")
    if options.kill and options.kill not in options.only:
        parser.error(f"--kill {options.kill}: it is not among --only")
    return options


def digits() -> tuple[list[list[int]], list[int]]:
    """The images that no worker learns, rows of 64 numbers from 0 to 16, and their labels; at first writes all."""
    if not (TRAIN.exists() and TEST.exists()):
        write_digits()
    rows = [[int(number) for number in line.split(",")] for line in TEST.read_text().splitlines()]
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def write_digits() -> None:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit(f"the digits come with scikit-learn, which is not installed: {INSTALL}")
    images, labels = load_digits(return_X_y=True)
    lines = [",".join(map(str, [*row, label])) + "\n" for row, label in zip(images.astype(int), labels, strict=True)]
    TRAIN.parent.mkdir(exist_ok=True)
    for path, part in ((TRAIN, lines[:LEARNED]), (TEST, lines[LEARNED:])):
        # Whole or not at all, for whoever else runs this or reads it.
        with NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.writelines(part)
        Path(file.name).replace(path)


def panel(wanted: list[str]) -> Config:
    """mlports.toml without the languages that are not wanted, or whose worker cannot be built here."""
    say("Building what has to be built; the first time it fetches libraries, and takes minutes")
    reasons = {name: unbuilt(name) for name in VOTERS if name in wanted}
    for name, reason in reasons.items():
        if reason:
            say(f"  {name} is left out: {reason}")
    there = [name for name, reason in reasons.items() if not reason]
    if not there:
        sys.exit("no language is left: install the tools of one of them, and run this again")
    whole = load_config(HERE / "mlports.toml")
    stages = [stage for stage in whole.pipeline["panel"].stages if stage.partition(".")[0] in there]
    return Config(
        service={name: whole.service[name] for name in there},
        pipeline={"panel": PipelineConfig(stages=stages, timeout=whole.pipeline["panel"].timeout)},
        directory=whole.directory,
    )


def unbuilt(language: str) -> str:
    """Builds the worker in this language; gives the reason if that cannot be done, or nothing."""
    if not (WORKERS / language / "Makefile").exists():
        return "" if (WORKERS / language).is_dir() else f"there is no {WORKERS / language}"
    try:
        missing = make(language, "missing")
        if missing.returncode == 0 and missing.stdout.split():
            return f"not installed here: {', '.join(missing.stdout.split())}"
        build = make(language, "build")
    except FileNotFoundError:
        return "not installed here: make"
    last = (build.stderr.strip() or build.stdout.strip()).splitlines()[-1:]
    return f"make -C {WORKERS / language} build failed: {''.join(last)}" if build.returncode else ""


def make(language: str, target: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "-C", str(WORKERS / language), target]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def vote(config: Config, images: list[list[int]], labels: list[int], kill: str | None) -> int:
    """Sends the images through the pipeline, kills a worker meanwhile, and prints what came of it."""
    languages = list(config.service)
    story = Story(kill if kill in languages else languages[len(languages) // 2])
    starts = range(0, len(images), ROWS_EACH)
    records: list[Record] = [{"first": at, "x": images[at : at + ROWS_EACH], "votes": {}} for at in starts]
    say(f"Each worker learns the same {LEARNED} images")
    orchestrator = Orchestrator(config=config)
    orchestrator.event_log.listen(story.tell)
    async with orchestrator:
        for name, service in orchestrator.status()["services"].items():
            if service["state"] == "down":
                raise MlportsError(f"the worker in {name} did not start: {service['reason']}")
        say(f"{counted(len(records))}, of up to {ROWS_EACH} other images each, go through {' → '.join(languages)}")
        told = await send(orchestrator, records, story)
    return report(languages, records, told, labels, story)


async def send(orchestrator: Orchestrator, records: list[Record], story: Story) -> list[Record]:
    """The records as they come out of the pipeline; after a third of them a worker is killed with some in its hands."""

    def victim() -> dict[str, Any]:
        replica: dict[str, Any] = orchestrator.status()["services"][story.victim]["replicas"][0]
        return replica

    third = len(records) // 3
    told = await orchestrator.map("panel", records[:third])
    pid = victim()["pid"]
    os.kill(pid, signal.SIGSTOP)  # it answers nothing from here on, and so dies with whatever reaches it
    try:
        others = asyncio.ensure_future(orchestrator.map("panel", records[third:]))
        while not (story.held or others.done()):
            await asyncio.sleep(0.1)
            story.held = victim()["in_flight"]
    finally:
        os.kill(pid, signal.SIGKILL)
    story.killed_at = time.monotonic()
    say(f"kill -9 {pid}: the worker in {story.victim}, with {counted(story.held)} in its hands")
    return told + await others


def report(languages: list[str], records: list[Record], told: list[Record], labels: list[int], story: Story) -> int:
    """Prints the accuracies, and what has become of the records."""
    whole = [is_whole(record, answer, languages) for record, answer in zip(records, told, strict=True)]
    print(f"\nlanguage  {'what it does':32}right of {len(labels)}")
    votes = {name: [label for answer in told for label in answer["votes"].get(name, [])] for name in languages}
    accuracies = {name: accuracy(votes[name], labels) for name in languages}
    for name, share in accuracies.items():
        print(f"{name:10}{VOTERS[name]:32}{share:.1%}")
    # Of labels with as many votes, that of the earliest stage.
    majority = [Counter(each).most_common(1)[0][0] for each in zip(*votes.values(), strict=False)]
    print(f"{'the median of them':42}{statistics.median(accuracies.values()):.1%}")
    print(f"{'the majority of their votes':42}{accuracy(majority, labels):.1%}\n")
    print(f"{sum(whole)} of {counted(len(records))} came back whole, with the votes of all {len(languages)} languages.")
    print(f"Sent again after the kill: {counted(story.again)}. Lost: {len(whole) - sum(whole)}.")
    return 0 if all(whole) else 1


def is_whole(record: Record, answer: Record, languages: list[str]) -> bool:
    """Whether all that was sent came back as it was, with a vote of every language on every image."""
    unchanged = all(answer.get(key) == record[key] for key in ("first", "x"))
    return unchanged and {name: len(votes) for name, votes in answer["votes"].items()} == dict.fromkeys(
        languages, len(record["x"])
    )


def accuracy(found: list[int], labels: list[int]) -> float:
    """The share of the labels that were found; from 0 to 1."""
    return sum(map(int.__eq__, found, labels)) / len(labels)


def counted(records: int) -> str:
    return f"{records} record" if records == 1 else f"{records} records"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
