"""Who may import whom, read from the source of everything that is shipped, and what an import brings in when run."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "mlports_protocol": ROOT / "protocol",
    "mlports": ROOT / "orchestrator",
    "mlports_worker": ROOT / "workers" / "python",
    "mlports_models": ROOT / "workers" / "python",
}
"""The packages that the distribution ships, and the folder that each stands in."""

# `from mlports import core` names a part of mlports, not a thing of its public API.
PARTS = frozenset(
    f"mlports.{part}"
    for part in (
        *("core", "runtime", "flow", "ml", "gateway", "cluster", "cli", "testing"),
        *("config", "control", "errors", "replay", "telemetry", "toml_lines", "tree"),
    )
)
NOT_SHIPPED = {"tests", "benchmarks", "examples"}
PURE = frozenset({"asyncio", "os", "time", "threading", "socket", "subprocess"})
SAYS_NOTHING = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}


@dataclass(frozen=True)
class Rule:
    """What the modules of one layer may import besides their own layer.

    ours: modules of ours, with all that is below them; but "mlports" stands for the public API only, and no part of it.
    third_party: other people's packages; None allows all. at_use: those allowed only where they are used, in a function
        or under TYPE_CHECKING.
    banned: modules of the standard library.
    """

    ours: frozenset[str] = frozenset()
    third_party: frozenset[str] | None = None
    at_use: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()


def _rule(
    ours: str = "",
    *,
    third_party: frozenset[str] | None = None,
    at_use: frozenset[str] = frozenset(),
    banned: frozenset[str] = frozenset(),
) -> Rule:
    return Rule(frozenset(ours.split()), third_party, at_use, banned)


MSGPACK, NUMPY = frozenset({"msgpack"}), frozenset({"numpy"})
NEWER = frozenset({"tomllib"})
"""What the standard library has only since Python 3.10 or later, and two of the packages run on 3.9."""

RULES: Mapping[str, Rule] = {
    "mlports_protocol": _rule(third_party=MSGPACK, at_use=NUMPY, banned=PURE | NEWER | {"logging"}),
    "mlports_worker": _rule("mlports_protocol", third_party=MSGPACK, at_use=NUMPY, banned=NEWER),
    "mlports_models": _rule("mlports_worker"),
    "mlports.core": _rule("mlports_protocol mlports.errors", banned=PURE | {"random"}),
    # An error carries the verdict on the worker that died; the import is for types alone, or it would be a circle.
    "mlports.errors": _rule("mlports_protocol mlports.core.verdict"),
    "mlports.config": _rule("mlports_protocol mlports.core mlports.errors mlports.toml_lines"),
    "mlports.toml_lines": _rule("mlports.errors"),
    "mlports.telemetry": _rule("mlports_protocol mlports.core mlports.errors mlports.config"),
    "mlports.tree": _rule("mlports.core mlports.config"),
    "mlports.runtime": _rule(
        "mlports_protocol mlports.core mlports.errors mlports.config mlports.telemetry mlports.tree"
        " mlports.runtime.inline"
    ),
    # It stands for a worker's process, so it knows the worker's side of the connection.
    "mlports.runtime.inline": _rule(
        "mlports_protocol mlports.core mlports.errors mlports.runtime mlports_worker.inline"
    ),
    "mlports.replay": _rule("mlports_protocol mlports.core mlports.errors mlports.runtime"),
    "mlports.flow": _rule("mlports mlports.core.flow"),
    # It is run by the workers of a stage, and is a worker program.
    "mlports.flow.worker_program": _rule("mlports_worker"),
    "mlports.ml": _rule("mlports"),
    "mlports.cluster": _rule("mlports"),
    "mlports.gateway": _rule("mlports mlports.config mlports.errors"),
    # The conformance kit is public API too, and `mlports check` runs it.
    "mlports.cli": _rule("mlports mlports.config mlports.control mlports.errors mlports.replay mlports.testing"),
    "mlports.__main__": _rule("mlports.cli"),
    # The public API's own modules: they put the layers together, and know nothing of what is built on them.
    "mlports": _rule(
        "mlports_protocol mlports.core mlports.runtime mlports.errors mlports.config mlports.telemetry mlports.tree"
    ),
}
"""By layer; a module belongs to the longest name that it is at or below."""


@dataclass(frozen=True)
class Import:
    """One imported module, on which line, and whether it is imported only at use: in a function, or for types alone."""

    target: str
    line: int
    at_use: bool


def layer(module: str) -> str:
    """The key of RULES that a module belongs to; for a module that has no rule, its top package."""
    name = module
    while name not in RULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def imports(tree: ast.Module, module: str, is_package: bool, known: frozenset[str]) -> Iterator[Import]:
    """Every import of a module, relative ones resolved; `known` are the modules that `from x import y` may mean."""
    package = module if is_package else module.rpartition(".")[0]

    def walk(node: ast.AST, at_use: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_use)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(full if full in known else base, node.lineno, at_use)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statement in node.body:
                yield from walk(statement, True)
            for statement in node.orelse:
                yield from walk(statement, at_use)
        else:
            deeper = at_use or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, deeper)

    yield from walk(tree, False)


def _allows(rule: Rule, target: str) -> bool:
    """Whether a rule lets in a module of ours; "mlports" lets in the package itself and no part of it."""
    return any(target == name or (name != "mlports" and target.startswith(f"{name}.")) for name in rule.ours)


def violations(module: str, source: str, *, is_package: bool = False, known: frozenset[str] = PARTS) -> list[str]:
    """What a module's source imports against the rules, one line each, and [] for a good one."""
    rule, own = RULES[layer(module)], layer(module)
    found = []
    for imported in imports(ast.parse(source), module, is_package, known):
        target, top = imported.target, imported.target.partition(".")[0]
        why = None
        if top in NOT_SHIPPED:
            why = "is not shipped"
        elif top in SOURCES:
            if layer(target) != own and not _allows(rule, target):
                why = f"is not for {own} to know"
        elif top in sys.stdlib_module_names:
            if top in rule.banned:
                why = f"has no place in {own}"
        elif rule.third_party is not None and top not in rule.third_party:
            if top not in rule.at_use:
                why = f"is a package that {own} does without"
            elif not imported.at_use:
                why = f"may be imported in {own} only inside a function"
        if why:
            found.append(f"{module}:{imported.line}: {target} {why}")
    return found


def shipped() -> dict[str, Path]:
    """Every module that the distribution ships, by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SHIPPED = shipped()


@pytest.mark.parametrize("package", SOURCES)
def test_every_package_is_found(package: str) -> None:
    """Guards the other tests, which would pass on an empty list, and the mark that tells type checkers of our types."""
    assert package in SHIPPED
    assert (SOURCES[package] / package / "py.typed").is_file()


@pytest.mark.parametrize("module", SHIPPED)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    """Guards the architecture: decisions without I/O, SDKs that install anywhere, a command line without back doors."""
    path = SHIPPED[module]
    known = frozenset(SHIPPED) | PARTS
    assert not violations(module, path.read_text("utf-8"), is_package=path.name == "__init__.py", known=known)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mlports_protocol.session", "import asyncio"),
        ("mlports_protocol.session", "def f():\n    import os.path"),
        ("mlports_protocol.session", "from logging import getLogger"),
        ("mlports_protocol.session", "from time import monotonic"),
        ("mlports_protocol.session", "import mlports_worker"),
        ("mlports_protocol.session", "from mlports.errors import MlportsError"),
        ("mlports_protocol.codec", "import numpy as np"),
        ("mlports_protocol.codec", "try:\n    import numpy\nexcept ImportError:\n    numpy = None"),
        ("mlports_protocol.codec", "if TYPE_CHECKING:\n    pass\nelse:\n    import numpy"),
        ("mlports_protocol.codec", "class A:\n    import numpy"),
        ("mlports_worker.worker", "import mlports"),
        ("mlports_worker.worker", "from mlports_models import digits"),
        ("mlports_worker.worker", "import pydantic"),
        ("mlports_worker.worker", "def f():\n    import pydantic"),
        ("mlports_worker.worker", "from numpy import ndarray"),
        ("mlports_worker.worker", "import tomllib"),
        ("mlports_models.estimator", "from mlports_protocol import Codec"),
        ("mlports_models.estimator", "from mlports import Orchestrator"),
        ("mlports.core.batching", "import asyncio"),
        ("mlports.core.batching", "from random import random"),
        ("mlports.core.batching", "import time"),
        ("mlports.core.batching", "from mlports.runtime import port"),
        ("mlports.core.batching", "from ..runtime.port import Port"),
        ("mlports.core.batching", "from .. import runtime"),
        ("mlports.core.batching", "from mlports import Orchestrator"),
        ("mlports.core.batching", "from ..config import ServiceConfig"),
        ("mlports.errors", "from mlports.config import ServiceConfig"),
        ("mlports.runtime.port", "from mlports.cli import main"),
        ("mlports.runtime.port", "from mlports import Orchestrator"),
        ("mlports.runtime.port", "if TYPE_CHECKING:\n    from mlports.gateway import http"),
        ("mlports.runtime.port", "from mlports_worker import Worker"),
        ("mlports.runtime.port", "from tests.leaks import snapshot"),
        ("mlports.flow.stage", "from mlports.core import batching"),
        ("mlports.flow.stage", "from mlports import runtime"),
        ("mlports.ml.train", "import mlports.errors"),
        ("mlports.cluster.ray", "from mlports.config import ServiceConfig"),
        ("mlports.gateway.http", "from mlports.runtime.service import Service"),
        ("mlports.gateway.http", "from mlports.cli import main"),
        ("mlports.cli.call", "from ..runtime import port"),
        ("mlports.cli.call", "import mlports.core.supervision"),
        ("mlports.gateway.http", "from mlports.testing import FakePort"),
        ("mlports.config", "from .runtime.port import Port"),
        ("mlports.orchestrator", "from .cli import main"),
        ("mlports", "from .gateway import http"),
        ("mlports", "import mlports_models"),
        ("mlports_models.digits", "def f():\n    from tests import leaks"),
        ("mlports.cli.bench", "import benchmarks"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    """Guards the check itself: each of these breaks one rule."""
    (found,) = violations(module, source, is_package="." not in module)
    assert found.startswith(f"{module}:")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mlports_protocol.codec", "import struct, msgpack\nfrom .errors import ProtocolError"),
        ("mlports_protocol.codec", "def f():\n    import numpy as np"),
        ("mlports_protocol.codec", "if TYPE_CHECKING:\n    import numpy as np"),
        (
            "mlports_worker.worker",
            "import asyncio, os\nfrom mlports_protocol.session import Session\nfrom . import stdio",
        ),
        ("mlports_models.estimator", "import numpy, sklearn\nfrom mlports_worker import Worker"),
        ("mlports.core.batching", "import heapq\nfrom mlports.errors import MlportsError\nfrom . import routing"),
        ("mlports.core.batching", "from ..errors import MlportsError\nfrom mlports_protocol import CODES"),
        (
            "mlports.runtime.port",
            "import asyncio\nfrom ..core.supervision import Supervisor\nfrom mlports import errors",
        ),
        ("mlports.flow.stage", "import mlports\nfrom mlports import Orchestrator\nfrom .demand import Demand"),
        ("mlports.gateway.http", "from mlports import Orchestrator, config\nfrom mlports.errors import Overloaded"),
        ("mlports.cli", "import typer\nfrom mlports.cli.call import call\nfrom .. import connect"),
        ("mlports", "from .runtime.service import Service\nfrom .config import ServiceConfig"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    """Guards against a check that finds fault with everything."""
    assert violations(module, source, is_package=module in {"mlports", "mlports.cli"}) == []


def _parses_as_python_3_9(source: str) -> bool:
    try:
        ast.parse(source, feature_version=(3, 9))
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("module", [name for name in SHIPPED if layer(name) in {"mlports_protocol", "mlports_worker"}])
def test_what_runs_elsewhere_keeps_to_the_syntax_of_python_3_9(module: str) -> None:
    """Guards workers in environments that are older than the orchestrator's."""
    assert _parses_as_python_3_9(SHIPPED[module].read_text("utf-8"))


def test_newer_syntax_is_found() -> None:
    """Guards the check itself."""
    assert not _parses_as_python_3_9("match x:\n    case 1:\n        pass")
    assert not _parses_as_python_3_9("try:\n    pass\nexcept* ValueError:\n    pass")


def _brought_in(statement: str) -> set[str]:
    """The top names of the modules that a statement brings into a fresh interpreter."""
    report = "print(json.dumps(sorted(set(sys.modules) - before)))"
    code = f"import json, sys\nbefore = set(sys.modules)\n{statement}\n{report}"
    path = os.pathsep.join(dict.fromkeys(map(str, SOURCES.values())))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT / "tests", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tops = {name.partition(".")[0] for name in json.loads(done.stdout)}
    # Cython shares its types through modules that no file stands behind.
    return {name for name in tops if not name.lstrip("_").startswith("cython_")}


def test_the_protocol_and_the_sdk_bring_in_msgpack_alone() -> None:
    """Guards other people's environments: an SDK that needs more than msgpack cannot go everywhere."""
    foreign = _brought_in("import mlports_protocol, mlports_worker") - set(sys.stdlib_module_names)
    assert foreign == {"mlports_protocol", "mlports_worker", "msgpack"}


def test_what_an_import_brings_in_is_seen() -> None:
    """Guards the check itself: a dependency of a dependency counts."""
    assert {"pydantic", "pydantic_core"} <= _brought_in("import pydantic")


def test_the_library_leaves_what_is_heavy_for_when_it_is_used() -> None:
    """Guards start-up time: who imports mlports pays for configuration, terminal and arrays when using them."""
    brought_in = _brought_in("import mlports")
    assert "mlports" in brought_in
    assert not brought_in & {"pydantic", "typer", "rich", "numpy", "uvloop"}


def _names_that_say_nothing(paths: list[Path]) -> list[Path]:
    return [path for path in paths if SAYS_NOTHING & {path.stem, *path.parent.parts}]


def test_modules_are_named_for_what_they_are_about() -> None:
    """Guards against the drawer for everything: what such a name would hold has a noun of its own."""
    folders = ["protocol", "orchestrator", "workers", "tests", "benchmarks", "examples"]
    everything = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert not _names_that_say_nothing(everything)
    assert _names_that_say_nothing([Path("orchestrator/mlports/utils.py"), Path("tests/common/port.py")])
