"""`mlports call`: one call, a stream, or a call for each line of stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, WrongUsage, as_map, resolve
from mlports.cli.exit_codes import ExitCode, exit_code
from mlports.cli.output import harmless, is_terminal, put, say

if TYPE_CHECKING:
    from mlports import BlockingOrchestrator, Client
    from mlports.cli.progress import ProgressBar

    Caller = BlockingOrchestrator | Client


def call(
    target: Annotated[str, typer.Argument(metavar="SERVICE.METHOD|PIPELINE")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON]...", help="JSON values; @FILE for a file of JSON; - for a value a line of stdin."
        ),
    ] = None,
    config: ConfigOption = CONFIG,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1e9, metavar="SECONDS", help="The longest that a call may take. [default: the service's own]"
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print each item of a streaming method as it comes.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the call is routed by, where its service routes by key.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Calls that wait are sent in this order, higher ones first.")] = 0,
    tag: Annotated[str, typer.Option(help="Whose call it is: tags that wait take turns.")] = "",
    json: JsonOption = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="[default: at a terminal]", show_default=False)
    ] = None,
) -> None:
    """Call a method and print its result as JSON.

    Uses the running orchestrator, if there is one; otherwise starts the service that is called, and no other, and stops
    it again. With - the method is called for each line of stdin, and the results come in the same order, one a line;
    the first that fails ends it, but with --json stands as {"error": ...} in its place. JSON's gaps are filled by
    {"$bytes": BASE64} and {"$float": "nan"}.
    """
    from mlports.cli.values import read, read_argument

    service, dot, method = target.rpartition(".")
    if not (service and dot and method) and not _is_pipeline(resolve(config), target):
        raise WrongUsage(f"{target!r} names no method: write SERVICE.METHOD, as in model.predict, or a pipeline's name")
    if timeout is not None and timeout != timeout:
        raise WrongUsage("--timeout: nan is no span of time")
    texts = arguments or []
    from_stdin = texts == ["-"]
    if "-" in texts and not from_stdin:
        raise WrongUsage("- reads the arguments from stdin, a value a line, and stands alone")
    if from_stdin and stream:
        raise WrongUsage("--stream does not go with -: a stream is the answer to one call")
    options: dict[str, Any] = {"priority": priority} if priority else {}
    if tag:
        options["tag"] = tag
    if key is not None:
        options["key"] = read(key, "--key", shell=True)
    if from_stdin and options:
        raise WrongUsage("--key, --priority and --tag do not go with -: they are those of one call")
    params = [] if from_stdin else [read_argument(text, number) for number, text in enumerate(texts, 1)]
    limit: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    wanted = is_terminal(sys.stderr) if progress is None else progress
    with _caller(resolve(config), service or target, target, quiet=json) as caller, _bar(wanted, target) as bar:
        if from_stdin:
            raise typer.Exit(_map(caller, target, limit, bar, json))
        if stream:
            for item in caller.stream(target, *params, **limit, **options):
                _show(item, bar)
        else:
            told: dict[str, Any] = {} if bar is None else {"progress": bar.show}
            result = caller.call(target, *params, **limit, **told, **options)
            if bar is not None:
                bar.close()
            _show(result, None, pretty=not json and is_terminal(sys.stdout))


def _show(value: Any, bar: ProgressBar | None, pretty: bool = False) -> None:
    from mlports.cli.values import write

    text = write(value, pretty)
    if bar is not None and is_terminal(sys.stdout):
        bar.print(text)
    else:
        put(text)


def _is_pipeline(config: Path, name: str) -> bool:
    from mlports import load_config

    return not config.is_dir() and name in load_config(config).pipeline


@contextmanager
def _caller(config: Path, service: str, target: str, quiet: bool) -> Iterator[Caller]:
    """The running orchestrator, or one of our own with the service, or a pipeline's services, alone."""
    from mlports import NoOrchestrator, connect

    try:
        client = connect(config)
    except NoOrchestrator:
        if config.is_dir():
            raise
    else:
        with client:
            yield client
        return
    from mlports import BlockingOrchestrator, Orchestrator, UnknownService, load_config

    whole = load_config(config)
    if service in whole.pipeline:
        pipelines = {service: whole.pipeline[service]}
        wanted = {stage.rpartition(".")[0] for stage in pipelines[service].stages}
    elif service in whole.service:
        pipelines, wanted = {}, {service}
    else:
        known = ", ".join(sorted((*whole.service, *whole.pipeline)))
        raise UnknownService(f"{config} has no service {service!r}; it has: {known}", service=service)
    services = {name: one for name, one in whole.service.items() if name in wanted}
    orchestrator = Orchestrator(config=whole.model_copy(update={"service": services, "pipeline": pipelines}))
    ready = False

    def on_event(event: dict[str, Any]) -> None:
        # What is said before is part of the error, if it does not come up.
        nonlocal ready
        ready = ready or event["event"] == "ready"
        if ready and event["event"] == "log":
            level = "" if event["level"] == "stderr" else f"{event['level']}: "
            say(harmless(f"{event['service']}/{event['replica']} | {level}{event['text']}"))

    if not quiet:
        orchestrator.event_log.listen(on_event)
    with BlockingOrchestrator(orchestrator) as own:
        yield own


@contextmanager
def _bar(wanted: bool, target: str) -> Iterator[ProgressBar | None]:
    if not wanted:
        yield None
        return
    from mlports.cli.progress import ProgressBar

    bar = ProgressBar(target)
    try:
        yield bar
    finally:
        bar.close()


def _map(caller: Caller, target: str, limit: dict[str, Any], bar: ProgressBar | None, as_json: bool) -> int:
    """Calls for each line of stdin; gives the exit status."""
    from mlports.cli.stdin_values import StdinValues

    values = StdinValues()
    done, status = 0, ExitCode.OK
    for chunk in values.chunks():

        def advance(count: float, _total: float | None, text: str, before: int = done) -> None:
            if bar is not None:
                bar.show(before + count, values.total, text)

        results = caller.map(target, [value for _, value in chunk], **limit, return_exceptions=True, progress=advance)
        for (line, _), result in zip(chunk, results, strict=True):
            if not isinstance(result, Exception):
                _show(result, bar)
                continue
            status = exit_code(result)
            if not as_json:
                say(f"line {line} of stdin:")
                raise result
            _show({"error": as_map(result)}, bar)  # type: ignore[arg-type]  # they are all of them ours
        done += len(chunk)
    return status
