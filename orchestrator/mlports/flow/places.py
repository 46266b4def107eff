"""Where a stage's function runs: on threads of this process, or in worker processes of the stage's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mlports.core.flow import FAR, MAX_DEMAND, QUICK, Demand
from mlports.flow.concurrent_stages import Concurrent, Settle, kept, results, unfolded
from mlports.flow.errors import FlowError
from mlports.flow.plan import Assembly
from mlports.flow.serving import Served

Place = Literal["threads", "workers"]

_LANES_EACH = 2  # chunks for each thread or worker: one at work, and one that it begins next


def function_name(f: Callable[..., Any]) -> str:
    """ "module:name", by which a worker can import the function. Raises `FlowError` for one that has no such name."""
    module, name = getattr(f, "__module__", None), getattr(f, "__qualname__", None)
    fix = "Define it at the top of a module, or run it on threads"
    if not module or not name:
        raise FlowError(f"{f!r} has no name by which a worker could import it. {fix}")
    if "<" in name:
        raise FlowError(f"{name} is defined within a function, where a worker cannot import it from. {fix}")
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is None:
            raise FlowError(f"{name} was defined at a prompt, where a worker cannot import it from. {fix}")
        module = Path(file).stem
    found: Any = sys.modules.get(f.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not f:
        raise FlowError(f"{module}:{name} is something else than {f!r} by now: a worker would run the wrong one. {fix}")
    return f"{module}:{name}"


def concurrent(
    assembly: Assembly,
    label: str,
    kind: Literal["map", "filter", "flat_map"],
    f: Callable[[Any], Any],
    on: Place,
    workers: int,
    ordered: bool,
    demand: tuple[int | None, int | None],
) -> Concurrent:
    """The stage for a function that runs elsewhere."""
    settle: Settle = {"map": results, "filter": kept, "flat_map": unfolded}[kind]
    lanes = workers * _LANES_EACH
    start = _on_threads if on == "threads" else _in_workers
    return Concurrent(
        label,
        start(assembly, f, workers, kind == "flat_map"),
        assembly.setting.failures,
        assembly.setting.stopped,
        lanes=lanes,
        demand=Demand(max(lanes, MAX_DEMAND) if demand[0] is None else demand[0], demand[1]),
        ordered=ordered,
        quick=FAR if on == "workers" else QUICK,
        settle=settle,
    )


def _on_threads(assembly: Assembly, f: Callable[[Any], Any], workers: int, unfold: bool) -> Any:
    pool = assembly.setting.threads(workers, "stage")

    def work(chunk: list[Any]) -> list[Any]:
        outcomes: list[Any] = []
        for item in chunk:
            try:
                made: Any = f(item)
                outcomes.append(list(made) if unfold else made)
            except Exception as error:
                outcomes.append(error)
        return outcomes

    return lambda chunk, together: pool.submit(work, chunk)


def _in_workers(assembly: Assembly, f: Callable[[Any], Any], workers: int, unfold: bool) -> Any:
    from mlports import Config, ServiceConfig, SupervisorConfig

    setting = assembly.setting
    setting.guard_against_itself()
    config = {"function": function_name(f), "path": _search_path(), "unfold": unfold}
    command = [sys.executable, "-m", "mlports.flow.worker_program"]
    environment = {"PYTHONPATH": os.pathsep.join(config["path"])}  # type: ignore[arg-type]
    service = ServiceConfig(
        command=command, replicas=workers, config=config, env=environment, cwd=Path.cwd(), timeout=None
    )
    # An item that kills its worker is one item's failure; only where nearly all do is there no point in going on.
    supervisor = SupervisorConfig(intensity=100, period=10)
    served = Served(Config(service={"flow": service}, supervisor=supervisor))
    setting.exits.callback(served.close)
    return lambda chunk, together: served.map("flow.apply", chunk, together)


def _search_path() -> list[str]:
    """Where this process finds modules: the script's own folder is among them."""
    return [str(Path(entry).absolute()) for entry in sys.path]


def name_of(f: Callable[..., Any]) -> str:
    """What `explain()` calls a function."""
    name = getattr(f, "__qualname__", None) or type(f).__qualname__
    return str(name).rpartition("<locals>.")[2]
