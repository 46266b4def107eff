"""mlports.toml: what a good one gives, and what each wrong one is told: the line, the key, the problem and the fix."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlports.config import (
    BackoffConfig,
    BatchConfig,
    BreakerConfig,
    Config,
    ConfigErrors,
    HeartbeatConfig,
    HedgeConfig,
    OrchestratorConfig,
    PipelineConfig,
    ProgramConfig,
    RecordConfig,
    ServiceConfig,
    ShadowConfig,
    SupervisorConfig,
    WarmUpConfig,
    load_config,
)
from mlports.core.routing import ROUTES
from mlports.errors import ConfigError
from mlports.toml_lines import Key, TomlLines, dotted


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "mlports.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refused(folder: Path, text: str | bytes) -> ConfigError:
    """The error that a file with this text gives."""
    with pytest.raises(ConfigError) as caught:
        load_config(written(folder, text))
    return caught.value


MINIMAL = '[service.digits]\ncommand = ["python", "digits.py"]\n'

FULL = """\
[orchestrator]
state_dir = "run"
log = "debug"
[supervisor]
strategy = "one_for_one"
intensity = 0
period = "1m"
auto_shutdown = "any_significant"
children = ["indexer", "db"]
parallel_start = false
backoff = {}
[supervisor.db]
strategy = "rest_for_one"
children = ["digits"]
restart = "temporary"
shutdown = "10s"
significant = true
[supervisor.db.backoff]
initial = "1s"
factor = 3
max = "1m"
jitter = 0
reset = "1h"
[program.indexer]
command = "indexer --all"
python = "venv"
restart = "transient"
shutdown = "infinity"
significant = true
cwd = "index"
env = { A = "1" }
backoff = { jitter = 1.0 }
[service.digits]
command = "python 'my digits.py' --fast"
python = "venv"
replicas = 2
standby = 1000
restart = "transient"
shutdown = "brutal_kill"
backoff = { initial = 0.5 }
start_timeout = "2m"
warm_up = [{ method = "predict", params = [[0.0], 1] }, { method = "ready" }]
heartbeat = { interval = "1s", timeout = 1 }
grace = "infinity"
memory_limit = "1.5GiB"
max_requests = 1
max_age = "24h"
preload = ["sklearn.linear_model", "numpy"]
record = { when = "always", frames = 10, bytes = "1MiB", keep = 3, redact = ["login", "*.password"] }
transport = "fd34"
route = "hash"
key = 1
weights = [1, 0.5]
shadow = { service = "a-b_2", share = 0.1, tolerance = 1e-6 }
queue = 0
concurrency = "auto"
batch = { max_size = 4096, max_wait = 0, key = 0 }
timeout = "infinity"
retries = 0
retry_budget = "infinity"
breaker = { failures = 1, of = 2, pause = "1m" }
max_frame = "64KiB"
cwd = "work"
env = { OMP_NUM_THREADS = "1" }
config = { path = "x", limits = [1, 2.5, true], when = 2030-01-31T08:00:00Z }
[service.a-b_2]
command = ["./a"]
shutdown = "infinity"
timeout = 0.25
concurrency = 8
hedge = { after = "50ms" }
[pipeline.search]
stages = ["digits.embed", "a-b_2.predict"]
timeout = "1m"
"""


def test_a_service_needs_only_a_command(tmp_path: Path) -> None:
    """Guards the defaults, which the documentation promises."""
    config = load_config(written(tmp_path, MINIMAL))
    assert config.orchestrator == OrchestratorConfig(state_dir=None, log="info")
    assert config.supervisor == SupervisorConfig(
        strategy="one_for_one",
        intensity=5,
        period=10,
        auto_shutdown="never",
        children=[],
        parallel_start=None,
        backoff=None,
    )
    assert (config.supervisors, config.program, config.pipeline) == ({}, {}, {})
    assert config.service == {
        "digits": ServiceConfig(
            command=["python", "digits.py"],
            python=None,
            replicas=1,
            standby=0,
            restart="permanent",
            shutdown=5.0,
            significant=False,
            backoff=None,
            start_timeout=30.0,
            warm_up=[],
            heartbeat=None,
            grace=5.0,
            memory_limit=None,
            max_requests=None,
            max_age=None,
            preload=[],
            record=None,
            transport="stdio",
            route="least_loaded",
            key=None,
            weights=None,
            shadow=None,
            queue=1024,
            concurrency=None,
            batch=None,
            timeout=30.0,
            retries=2,
            retry_budget=0.5,
            breaker=None,
            hedge=None,
            max_frame=64 * 2**20,
            cwd=".",
            env={},
            config={},
        )
    }
    assert (config.path, config.directory) == (tmp_path / "mlports.toml", tmp_path)


def test_what_is_given_as_an_empty_table_has_its_defaults(tmp_path: Path) -> None:
    """Guards the shortest ways to switch something on."""
    text = MINIMAL + "backoff = {}\nheartbeat = {}\nbatch = {}\nrecord = {}\nbreaker = {}\nshadow.service = 's'\n"
    text += "[service.s]\ncommand = 's'\n[supervisor.backoff]\n[program.p]\ncommand = 'p'\n"
    text += "[pipeline.twice]\nstages = ['digits.a', 'digits.a']\n"
    config = load_config(written(tmp_path, text))
    backoff = BackoffConfig(initial=0.1, factor=2.0, max=30.0, jitter=0.1, reset=60.0)
    assert (config.supervisor.backoff, config.service["digits"].backoff) == (backoff, backoff)
    digits = config.service["digits"]
    assert digits.heartbeat == HeartbeatConfig(interval=5.0, timeout=15.0)
    assert digits.batch == BatchConfig(max_size="auto", max_wait=0.002, key=None)
    assert digits.breaker == BreakerConfig(failures=0.5, of=20, pause=5.0)
    assert digits.record == RecordConfig(when="on-crash", frames=1000, bytes=2**24, keep=10, redact=False)
    assert digits.shadow == ShadowConfig(service="s", share=1.0, tolerance=0.0)
    assert config.pipeline == {"twice": PipelineConfig(stages=["digits.a", "digits.a"], timeout=None)}
    assert config.program["p"] == ProgramConfig(
        command=["p"], python=None, restart="permanent", shutdown=5.0, significant=False, backoff=None, cwd=".", env={}
    )


def test_programs_alone_will_do(tmp_path: Path) -> None:
    """Guards those who want nothing but the supervision."""
    assert list(load_config(written(tmp_path, "[program.p]\ncommand = 'p'")).program) == ["p"]


def test_everything_that_can_be_said_is_understood(tmp_path: Path) -> None:
    """Guards each key's other spelling: texts with units, a command as one text, the words for no limit."""
    config = load_config(written(tmp_path, FULL))
    assert config.orchestrator == OrchestratorConfig(state_dir="run", log="debug")
    assert (config.supervisor.intensity, config.supervisor.period) == (0, 60)
    digits, other = config.service["digits"], config.service["a-b_2"]
    assert digits.command == ["python", "my digits.py", "--fast"]
    assert (digits.shutdown, digits.start_timeout, digits.timeout, digits.max_frame) == (
        "brutal_kill",
        120,
        None,
        65536,
    )
    assert (digits.cwd, digits.python, digits.transport) == (Path("work"), "venv", "fd34")
    assert digits.preload == ["sklearn.linear_model", "numpy"]
    record = RecordConfig(when="always", frames=10, bytes=2**20, keep=3, redact=["login", "*.password"])
    assert digits.record == record
    assert digits.env == {"OMP_NUM_THREADS": "1"}
    assert digits.config["limits"] == [1, 2.5, True]
    assert (digits.standby, digits.max_requests, digits.max_age) == (1000, 1, 86_400)
    assert (digits.grace, digits.memory_limit) == (None, 3 * 2**29)
    assert digits.heartbeat == HeartbeatConfig(interval=1, timeout=1)
    assert digits.backoff == BackoffConfig(initial="500ms")
    assert digits.warm_up == [WarmUpConfig(method="predict", params=[[0.0], 1]), WarmUpConfig(method="ready")]
    root, db = config.supervisor, config.supervisors["db"]
    assert (root.auto_shutdown, root.children, root.parallel_start) == ("any_significant", ["indexer", "db"], False)
    assert root.backoff == BackoffConfig()
    assert (db.strategy, db.children, db.restart, db.shutdown, db.significant) == (
        "rest_for_one",
        ["digits"],
        "temporary",
        10,
        True,
    )
    assert db.backoff == BackoffConfig(initial=1, factor=3, max=60, jitter=0, reset="1h")
    assert config.program == {
        "indexer": ProgramConfig(
            command=["indexer", "--all"],
            python="venv",
            restart="transient",
            shutdown="infinity",
            significant=True,
            backoff=BackoffConfig(jitter=1),
            cwd="index",
            env={"A": "1"},
        )
    }
    assert (other.shutdown, other.timeout) == ("infinity", 0.25)
    assert (digits.route, digits.key, digits.weights) == ("hash", 1, [1.0, 0.5])
    assert digits.shadow == ShadowConfig(service="a-b_2", share=0.1, tolerance=1e-6)
    assert (digits.concurrency, other.concurrency, digits.retry_budget) == ("auto", 8, None)
    assert digits.batch == BatchConfig(max_size=4096, max_wait=0, key=0)
    assert digits.breaker == BreakerConfig(failures=1, of=2, pause=60)
    assert (digits.hedge, other.hedge) == (None, HedgeConfig(after=0.05))
    assert HedgeConfig(after="p99.9").after == "p99.9"
    assert config.pipeline == {"search": PipelineConfig(stages=("digits.embed", "a-b_2.predict"), timeout=60)}


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + MINIMAL.encode(), MINIMAL.replace("\n", "\r\n").encode()])
def test_what_other_editors_write_is_read(tmp_path: Path, text: bytes) -> None:
    """Guards files with a byte order mark, and with the line ends of Windows."""
    assert list(load_config(written(tmp_path, text)).service) == ["digits"]


def test_a_relative_file_name_gives_a_whole_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a program that changes its directory after it has read the file."""
    written(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    config = load_config("mlports.toml")
    assert (config.path, config.directory) == (Path.cwd() / "mlports.toml", Path.cwd())


def test_it_can_be_made_in_python() -> None:
    """Guards library users: the same spellings, and defaults for all but the services."""
    service = ServiceConfig(command=("python", "digits.py"), replicas=2, shutdown="5s", max_frame="1MiB", cwd="~")
    assert (service.command, service.shutdown, service.max_frame) == (["python", "digits.py"], 5.0, 2**20)
    assert service.cwd == Path.home()
    program = ProgramConfig(command="indexer", backoff=BackoffConfig(max="1m"))
    config = Config(
        supervisors={"db": SupervisorConfig(children=("indexer", "digits"), strategy="rest_for_one")},
        service={"digits": service},
        program={"indexer": program},
    )
    assert (config.path, config.directory, config.supervisor.period) == (None, Path.cwd(), 10)
    assert (config.supervisors["db"].children, config.program["indexer"]) == (["indexer", "digits"], program)
    warmed = ServiceConfig(command="x", warm_up=(WarmUpConfig(method="predict", params=([0.0],)),), grace=None)
    assert (warmed.warm_up[0].params, warmed.grace) == ([[0.0]], None)
    with pytest.raises(ValidationError, match="frozen"):
        service.replicas = 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"command": []}, "is empty"),
        ({"command": "x", "replicas": 0}, "greater than or equal to 1"),
        ({"command": "x", "shutdown": "soon"}, '"soon" is not a duration. Fix: write "500ms"'),
        ({"command": "x", "nope": 1}, "nope"),
        ({"command": "x", "key": 0}, 'means nothing with route = "least_loaded"'),
        ({"command": "x", "weights": (1, 2)}, "has 2 numbers, and there are 1 replica"),
        ({"command": "x", "retry_budget": -1}, "must be from 0 to 1000000, not -1"),
        ({"command": "x", "config": {"f": print}}, "builtin_function_or_method"),
    ],
)
def test_what_is_wrong_in_python_is_told_there_too(arguments: dict[str, Any], said: str) -> None:
    """Guards against values that would fail only once a worker runs."""
    with pytest.raises(ValidationError) as caught:
        ServiceConfig(**arguments)
    assert said in str(caught.value)


def test_a_config_that_holds_itself_is_refused() -> None:
    """Guards against endless recursion where the part that cannot be sent is searched."""
    circle: dict[str, Any] = {}
    circle["again"] = circle
    with pytest.raises(ValidationError, match="nested too deep, or holds itself"):
        ServiceConfig(command="x", config=circle)


D = MINIMAL
"""What a key of the service is put behind: it then stands on line 3."""

BAD = {
    # text: (line, key, part of the problem, part of the fix)
    D + "replicas = 0": (3, "service.digits.replicas", "must be at least 1, not 0", "write 1 or more"),
    D + "replicas = 1001": (3, "service.digits.replicas", "must be at most 1000, not 1001", "1000 or less"),
    D + 'replicas = "2"': (3, "service.digits.replicas", 'must be a whole number, not "2"', "without quotes"),
    D + "replicas = true": (3, "service.digits.replicas", "must be a whole number, not true", "digits alone"),
    D + "replicas = 2.0": (3, "service.digits.replicas", "must be a whole number, not 2.0", "digits alone"),
    D + f"replicas = 0x{'f' * 9000}": (3, "service.digits.replicas", "at most 1000, not a number of more than", "1000"),
    D + "queue = -1": (3, "service.digits.queue", "must be at least 0", "0 or more"),
    D + "retries = -1": (3, "service.digits.retries", "must be at least 0", "0 or more"),
    D + "replica = 2": (3, "service.digits.replica", "no such key", 'did you mean "replicas"?'),
    D + "intensity = 2": (3, "service.digits.intensity", "no such key here", "it belongs to [supervisor]"),
    D + "http = 2": (3, "service.digits.http", "no such key here", "it belongs to [orchestrator]"),
    D + "zzz = 2": (3, "service.digits.zzz", "no such key", "remove it; there are command, python, replicas"),
    D + "[service.digits.v2]\ncommand = 'x'": (3, "service.digits.v2", "no such key", "[service.digits-v2]"),
    D + 'restart = "permanant"': (
        3,
        "service.digits.restart",
        'must be "permanent", "transient" or "temporary", not "permanant"',
        'did you mean "permanent"?',
    ),
    D + "restart = 1": (3, "service.digits.restart", "not 1", 'write "permanent"'),
    D + 'shutdown = "5 seconds"': (3, "service.digits.shutdown", "is not a duration", '"brutal_kill" or "infinity"'),
    D + 'shutdown = "-1s"': (3, "service.digits.shutdown", "must be from 0 to 8760h", "500ms"),
    D + "shutdown = true": (3, "service.digits.shutdown", "must be a duration, not true", "500ms"),
    D + "shutdown = []": (3, "service.digits.shutdown", "must be a duration, not an array", "500ms"),
    D + 'start_timeout = "30"': (3, "service.digits.start_timeout", '"30" is not a duration', 'write "30s"'),
    D + "start_timeout = 0": (3, "service.digits.start_timeout", "must be longer than 0", "500ms"),
    D + 'start_timeout = "infinity"': (3, "service.digits.start_timeout", "is not a duration", "500ms"),
    D + "start_timeout = inf": (3, "service.digits.start_timeout", "must be from 0 to 8760h, a year, not inf", "2m"),
    D + "start_timeout = nan": (3, "service.digits.start_timeout", "not nan", "2m"),
    D + "timeout = 0": (3, "service.digits.timeout", "must be longer than 0", '"infinity"'),
    D + 'timeout = "8761h"': (3, "service.digits.timeout", "must be from 0 to 8760h", "500ms"),
    D + 'max_frame = "2GiB"': (3, "service.digits.max_frame", "2GiB less one", "write 2147483647 or less"),
    D + "max_frame = 0": (3, "service.digits.max_frame", "must be from 1", 'write "64MiB"'),
    D + 'max_frame = "64 kb"': (3, "service.digits.max_frame", '"64 kb" is not a size', '"64KiB"'),
    D + 'max_frame = "64"': (3, "service.digits.max_frame", "is not a size", '"64B"'),
    D + 'max_frame = "1.5B"': (3, "service.digits.max_frame", "whole number of bytes", "64KiB"),
    D + "standby = -1": (3, "service.digits.standby", "must be at least 0, not -1", "0 or more"),
    D + "standby = 1001": (3, "service.digits.standby", "must be at most 1000", "1000 or less"),
    D + "standbye = 1": (3, "service.digits.standbye", "no such key", 'did you mean "standby"?'),
    D + "grace = 0": (3, "service.digits.grace", "must be longer than 0", '"infinity" is for no limit'),
    D + "grace = 'ever'": (3, "service.digits.grace", '"ever" is not a duration', 'or "infinity"'),
    D + "max_requests = 0": (3, "service.digits.max_requests", "must be at least 1, not 0", "1 or more"),
    D + "max_requests = 'x'": (3, "service.digits.max_requests", 'a whole number, not "x"', "digits alone"),
    D + "max_age = 0": (3, "service.digits.max_age", "must be longer than 0", "or leave it out"),
    D + "max_age = 'infinity'": (3, "service.digits.max_age", "is not a duration", "or leave it out for no limit"),
    D + "memory_limit = 2": (3, "service.digits.memory_limit", "must be at least 1MiB, not 2:", 'write "2GiB"'),
    D + "memory_limit = -1": (3, "service.digits.memory_limit", "must be at least 1MiB, not -1:", '"512MiB" or'),
    D + "memory_limit = nan": (3, "service.digits.memory_limit", "must be at least 1MiB, not nan", '"512MiB"'),
    D + "memory_limit = inf": (3, "service.digits.memory_limit", "must be at most", '"512MiB"'),
    D + "memory_limit = 2000000.5": (3, "service.digits.memory_limit", "whole number of bytes", '"2GiB"'),
    D + "memory_limit = '2'": (3, "service.digits.memory_limit", '"2" is not a size', '"2GiB" or a number of bytes'),
    D + "memory_limit = 'no'": (3, "service.digits.memory_limit", "is not a size", "or leave it out for no limit"),
    D + "memory_limit = true": (3, "service.digits.memory_limit", "must be a size, not true", '"512MiB"'),
    D + "heartbeat = '5s'": (3, "service.digits.heartbeat", "must be a table", "write heartbeat = { interval = "),
    D + "record = 'maybe'": (3, "service.digits.record", 'must be "on-crash", "always" or a table', '"on-crash"'),
    D + "record = true": (3, "service.digits.record", "not true", 'write "on-crash"'),
    D + "record = { when = 'never' }": (
        3,
        "service.digits.record.when",
        'must be "on-crash" or "always"',
        '"on-crash"',
    ),
    D + "record = { frames = 0 }": (3, "service.digits.record.frames", "must be at least 1", "write 1 or more"),
    D + "record = { bytes = '2GiB' }": (3, "service.digits.record.bytes", "from 1KiB to 1GiB", '"16MiB"'),
    D + "record = { redact = 'x' }": (3, "service.digits.record.redact", "must be true, false or an array", "login"),
    D + "record = { redact = ['a', 'b.'] }": (3, "service.digits.record.redact[1]", '"b." names nothing', "login.pass"),
    D + "redact = true": (3, "service.digits.redact", "no such key here", "it belongs inside record: record = {"),
    D + "heartbeat = { timeout = 4 }": (3, "service.digits.heartbeat.timeout", "shorter than the interval, 5 s", "as"),
    D + "heartbeat = { interval = 0 }": (3, "service.digits.heartbeat.interval", "must be longer than 0", "500ms"),
    D + "[service.digits.heartbeat]\ntimout = 5": (4, "service.digits.heartbeat.timout", "no such key", '"timeout"?'),
    D + "interval = 5": (
        3,
        "service.digits.interval",
        "no such key here",
        "it belongs inside heartbeat: heartbeat = {",
    ),
    D + "initial = 5": (3, "service.digits.initial", "no such key here", "it belongs inside backoff: backoff = {"),
    D + "backoff = '1s'": (3, "service.digits.backoff", "must be a table", "write backoff = { initial ="),
    D + "backoff = { initial = '1m' }": (
        3,
        "service.digits.backoff.max",
        "shorter than the first wait, 60 s",
        "max at",
    ),
    D + "backoff.initial = 0": (3, "service.digits.backoff.initial", "must be longer than 0", "500ms"),
    D + "backoff.reset = 0": (3, "service.digits.backoff.reset", "must be longer than 0", "500ms"),
    D + "backoff.factor = 0.5": (3, "service.digits.backoff.factor", "must be at least 1, not 0.5", "1 or more"),
    D + "backoff.factor = '2'": (3, "service.digits.backoff.factor", 'must be a number, not "2"', "without quotes"),
    D + "backoff.factor = inf": (3, "service.digits.backoff.factor", "must be a number, not inf", "such as 1.5"),
    D + "backoff.jitter = 1.5": (3, "service.digits.backoff.jitter", "must be at most 1, not 1.5", "1 or less"),
    D + "backoff.jitter = -1": (3, "service.digits.backoff.jitter", "must be at least 0, not -1", "0 or more"),
    D + "backoff.delay = 1": (
        3,
        "service.digits.backoff.delay",
        "no such key",
        "there are initial, factor, max, jitter",
    ),
    D + "warm_up = 'predict'": (3, "service.digits.warm_up", "must be an array", 'warm_up = [{ method = "predict"'),
    D + "warm_up = ['predict']": (3, "service.digits.warm_up[0]", "must be a table", 'write { method = "predict" }'),
    D + "warm_up = [{}]": (3, "service.digits.warm_up[0].method", "is missing", 'add method = "predict"'),
    D + "warm_up = [{ method = '' }]": (3, "service.digits.warm_up[0].method", "is empty", '"predict"'),
    D + "warm_up = [{ method = '$/ping' }]": (3, "service.digits.warm_up[0].method", "the protocol's own", '"predict"'),
    D + "warm_up = [\n{ method = 'a' },\n{ method = 'a', params = 1 }]": (
        5,
        "service.digits.warm_up[1].params",
        "must be an array, not 1",
        "write params = [[0.0]]",
    ),
    D + "warm_up = [{ method = 'a', params = [1, 08:00:00] }]": (
        3,
        "service.digits.warm_up[0].params[1]",
        "without an offset",
        "quotes",
    ),
    D + "[[service.digits.warm_up]]\nmethod = 'a'\nparam = []": (
        5,
        "service.digits.warm_up[0].param",
        "no such key",
        'did you mean "params"?',
    ),
    D + "children = []": (3, "service.digits.children", "no such key here", "it belongs to [supervisor]"),
    D + "auto_shutdown = 'never'": (
        3,
        "service.digits.auto_shutdown",
        "no such key here",
        "it belongs to [supervisor]",
    ),
    D + "cwd = 1": (3, "service.digits.cwd", "must be a path, not 1", "quotes"),
    D + 'cwd = ""': (3, "service.digits.cwd", "is empty", "write a path"),
    D + 'cwd = "\\u0000"': (3, "service.digits.cwd", "NUL", "remove it"),
    D + "python = 3.11": (3, "service.digits.python", "must be a string, not 3.11", '"3.11"'),
    D + 'python = ""': (3, "service.digits.python", "is empty", "write a path"),
    D + "env = { A = '1', B = 8080 }": (3, "service.digits.env.B", "must be a string, not 8080", '"8080"'),
    D + "[service.digits.env]\nA = '1'\nB = true": (5, "service.digits.env.B", "not true", '"true"'),
    D + "env.'A=B' = 'x'": (3, 'service.digits.env."A=B"', "cannot be a variable's name", "NAME ="),
    D + "env.'' = 'x'": (3, 'service.digits.env.""', "cannot be a variable's name", "NAME ="),
    D + 'env.A = "\\u0000"': (3, "service.digits.env.A", "NUL", "remove it"),
    D + "preload = 'numpy'": (3, "service.digits.preload", "must be an array", 'write preload = ["'),
    D + "preload = ['numpy', 'my-module']": (3, "service.digits.preload[1]", '"my-module" is no module', "import"),
    D + "preload = ['']": (3, "service.digits.preload[0]", "is no module's name", "import"),
    "[service.digits]\ncommand = 'Rscript digits.R'\npreload = ['numpy']": (
        3,
        "service.digits.preload",
        'is for Python programs, and the command "Rscript digits.R" runs none',
        "remove preload",
    ),
    D + "env = []": (3, "service.digits.env", "must be a table, not an array", "write [service.digits.env]"),
    D + "config = 1": (3, "service.digits.config", "must be a table, not 1", "write [service.digits.config]"),
    D + "config.day = 2030-01-31": (3, "service.digits.config.day", "without an offset", "2030-01-31T08:00:00Z"),
    D + "config.a = [\n1,\n{ at = 08:00:00 },\n]": (5, "service.digits.config.a[1].at", "without an offset", "quotes"),
    D + "config.now = 2030-01-31T08:00:00": (3, "service.digits.config.now", "without an offset", "Z"),
    D + "config.big = 0xfffffffffffffffff": (3, "service.digits.config.big", "beyond 64 bits", "MessagePack"),
    '[service.digits]\ncommand = ""': (2, "service.digits.command", "is empty", '["python", "worker.py"]'),
    "[service.digits]\ncommand = []": (2, "service.digits.command", "is empty", '["python", "worker.py"]'),
    "[service.digits]\ncommand = ['']": (2, "service.digits.command", "is empty", '["python", "worker.py"]'),
    '[service.digits]\ncommand = "x \'y"': (2, "service.digits.command", "no closing quotation", "close it"),
    "[service.digits]\ncommand = 1": (2, "service.digits.command", "must be an array of strings", '["python"'),
    "[service.digits]\ncommand = [\n  'x',\n  1,\n]": (4, "service.digits.command[1]", "not 1", 'quotes: "1"'),
    '[service.digits]\ncommand = [\n"x",\n"\\u0000"]': (4, "service.digits.command[1]", "NUL", "remove it"),
    "[service.digits]\nreplicas = 2": (
        1,
        "service.digits.command",
        "is missing",
        'add command = ["python", "worker.py"]',
    ),
    "[service]\ndigits = 'x'": (2, "service.digits", 'must be a table, not "x"', "write [service.digits]"),
    "[[service.digits]]\ncommand = 'x'": (1, "service.digits", "must be a table, not an array", "[service.digits]"),
    "service = 1": (1, "service", "must be a table", "write [service]"),
    "": (None, "service", "there are no services", "add [service.NAME]"),
    "[orchestrator]": (None, "service", "there are no services", "add [service.NAME]"),
    "\n[service]": (2, "service", "there are no services", "add [service.NAME]"),
    "[service.Digits]\ncommand = 'x'": (1, "service.Digits", "cannot be a service's name", "[service.digits]"),
    "[service.'a.b']\ncommand = 'x'": (1, 'service."a.b"', "cannot be a service's name", "[service.a-b]"),
    "[service.2]\ncommand = 'x'": (1, "service.2", "cannot be a service's name", "[service.digits]"),
    "[digits]\ncommand = 'x'\n" + D: (1, "digits", "no such table", "[service.digits]"),
    "[services.a]\ncommand = 'x'\n" + D: (1, "services", "no such key", 'did you mean "service"?'),
    "replicas = 2\n" + D: (1, "replicas", "no such key here", "it belongs to [service.NAME]"),
    "zzz = 2\n" + D: (1, "zzz", "no such key", "remove it; there are orchestrator, supervisor, service, program"),
    "path = 'x'\n" + D: (1, "path", "no such key", "remove it"),
    "directory = 'x'\n" + D: (1, "directory", "no such key", "remove it"),
    D + "[orchestrator]\nlog = 'warn'": (4, "orchestrator.log", 'not "warn"', 'did you mean "warning"?'),
    D + "[orchestrator]\nstate_dir = 1": (4, "orchestrator.state_dir", "must be a path, not 1", "quotes"),
    D + "[supervisor]\nintensity = -1": (4, "supervisor.intensity", "at least 0", "0 or more"),
    D + "[supervisor]\nperiod = 0": (4, "supervisor.period", "at least 1, not 0", '"10s"'),
    D + "[supervisor]\nperiod = '1.5s'": (4, "supervisor.period", "whole number of seconds", '"10s"'),
    D + "[supervisor]\nperiod = 'x'": (4, "supervisor.period", "is not a duration", "500ms"),
    D + "[supervisor]\nbackoff = 1": (4, "supervisor.backoff", "must be a table, not 1", "write backoff = {"),
    D + "[supervisor.backoff]\nmax = '1ms'": (4, "supervisor.backoff.max", "shorter than the first wait", "as long as"),
    D + "[supervisor]\nreplicas = 2": (4, "supervisor.replicas", "no such key here", "it belongs to [service.NAME]"),
    D + "supervisor = 1": (3, "service.digits.supervisor", "no such key", "remove it"),
}


P = D + "[pipeline.search]\n"
"""What a key of a pipeline is put behind: it then stands on line 4."""

BAD |= {
    D + "route = 'round-robin'": (3, "service.digits.route", 'not "round-robin"', 'did you mean "round_robin"?'),
    D + "route = 'random'": (3, "service.digits.route", '"hash" or "broadcast", not', 'write "least_loaded"'),
    D + "key = 0": (3, "service.digits.key", 'means nothing with route = "least_loaded"', 'write route = "hash"'),
    D + "route = 'hash'\nkey = -1": (4, "service.digits.key", "must be at least 0", "0 or more"),
    D + "route = 'hash'\nkey = 'id'": (4, "service.digits.key", 'a whole number, not "id"', "digits alone"),
    D + "weights = 3": (3, "service.digits.weights", "must be an array, not 3", "write weights = [3, 1]"),
    D + "weights = []": (3, "service.digits.weights", "is empty", "[3, 1]"),
    D + "weights = [1, 2]": (3, "service.digits.weights", "has 2 numbers, and there are 1 replica", "one for each"),
    D + "weights = [\n'1']": (4, "service.digits.weights[0]", 'must be a number, not "1"', "without quotes"),
    D + "weights = [0]": (3, "service.digits.weights", "all weights are 0", "another weight"),
    D + "weights = [-1]": (3, "service.digits.weights", "must be 0, or from 0.001 to 1000000, not -1.0", "[3, 1]"),
    D + "weights = [nan]": (3, "service.digits.weights", "not nan", "[3, 1]"),
    D + "hedge = { after = '1s' }\nroute = 'hash'": (3, "service.digits.hedge", "no other replica", "remove hedge"),
    D + "hedge = { after = 'p95' }\nroute = 'broadcast'": (3, "service.digits.hedge", "no other", "another route"),
    D + "weights = [1]\nroute = 'broadcast'": (3, "service.digits.weights", "every replica", "remove weights"),
    D + "shadow = 'new'": (3, "service.digits.shadow", "must be a table", 'write shadow = { service = "candidate"'),
    D + "shadow = {}": (3, "service.digits.shadow.service", "is missing", 'add service = "candidate"'),
    D + "shadow.service = 'digits'": (3, "service.digits.shadow.service", "its own shadow", "another service"),
    D + "shadow.service = 'new'": (3, "service.digits.shadow.service", 'no service "new"', "add a [service.NAME]"),
    D + "shadow.service = 'text'\n[service.texts]\ncommand = 'x'": (
        3,
        "service.digits.shadow.service",
        'no service "text"',
        'did you mean "texts"?',
    ),
    D + "shadow = { service = 'digits', share = 2 }": (3, "service.digits.shadow.share", "at most 1, not 2", "1 or"),
    D + "shadow = { service = 'digits', share = nan }": (3, "service.digits.shadow.share", "not nan", "or"),
    D + "shadow = { service = 'digits', tolerance = -1 }": (3, "service.digits.shadow.tolerance", "least 0", "or more"),
    D + "tolerance = 1": (3, "service.digits.tolerance", "no such key here", "it belongs inside shadow: shadow = {"),
    D + "concurrency = 0": (3, "service.digits.concurrency", "from 1", 'a number such as 8, or "auto"'),
    D + "concurrency = 'aut'": (3, "service.digits.concurrency", 'or "auto", not "aut"', "leave it out for no limit"),
    D + "concurrency = true": (3, "service.digits.concurrency", "not true", '"auto"'),
    D + "batch = 64": (3, "service.digits.batch", "must be a table, not 64", "write batch = { max_size = 64"),
    D + "batch.max_size = 4097": (3, "service.digits.batch.max_size", "from 1 to 4096, or", 'such as 64, or "auto"'),
    D + "batch.max_size = 2.0": (3, "service.digits.batch.max_size", "must be a whole number", "64"),
    D + "batch.max_wait = '11s'": (3, "service.digits.batch.max_wait", "from 0 to 10 s", '"2ms"'),
    D + "batch.max_wait = '2'": (3, "service.digits.batch.max_wait", "is not a duration", '"2s"'),
    D + "batch.key = -1": (3, "service.digits.batch.key", "must be at least 0", "0 or more"),
    D + "batch.size = 1": (3, "service.digits.batch.size", "no such key", 'did you mean "max_size"?'),
    D + "max_wait = 1": (3, "service.digits.max_wait", "no such key here", "it belongs inside batch: batch = {"),
    D + "retry_budget = -0.1": (3, "service.digits.retry_budget", "must be from 0 to 1000000, not -0.1", "0.5"),
    D + "retry_budget = nan": (3, "service.digits.retry_budget", "not nan", '"infinity" for no limit'),
    D + "retry_budget = 'none'": (3, "service.digits.retry_budget", 'must be a number, not "none"', '"infinity"'),
    D + "breaker = true": (3, "service.digits.breaker", "must be a table", "write breaker = { failures = 0.5"),
    D + "breaker.failures = 0": (3, "service.digits.breaker.failures", "must be more than 0, not 0", "0.5"),
    D + "breaker.failures = 50": (3, "service.digits.breaker.failures", "must be at most 1, not 50", "1 or less"),
    D + "breaker.of = 1": (3, "service.digits.breaker.of", "must be at least 2", "2 or more"),
    D + "breaker.of = 10001": (3, "service.digits.breaker.of", "at most 10000, not 10001", "10000 or less"),
    D + "breaker.pause = 0": (3, "service.digits.breaker.pause", "must be longer than 0", "500ms"),
    D + "hedge = {}": (3, "service.digits.hedge.after", "is missing", 'add after = "p95"'),
    D + "hedge = '50ms'": (3, "service.digits.hedge", "must be a table", 'write hedge = { after = "p95" }'),
    D + "hedge.after = 'p49'": (3, "service.digits.hedge.after", 'from "p50" to "p99.9", not "p49"', '"p95"'),
    D + "hedge.after = 'p100'": (3, "service.digits.hedge.after", 'from "p50" to "p99.9"', '"p95"'),
    D + "hedge.after = 0": (3, "service.digits.hedge.after", "must be longer than 0", 'or "p95"'),
    P: (3, "pipeline.search.stages", "is missing", 'add stages = ["embed.run", "score.predict"]'),
    P + "stages = []": (4, "pipeline.search.stages", "is empty", "at least one"),
    P + "stages = 'digits.a'": (4, "pipeline.search.stages", "must be an array", "write stages = ["),
    P + "stages = [1]": (4, "pipeline.search.stages[0]", "must be a string, not 1", "quotes"),
    P + "stages = [\n'digits']": (5, "pipeline.search.stages[0]", '"digits" is no stage', '"embed.run"'),
    P + "stages = ['digits.a', 'digits.']": (4, "pipeline.search.stages[1]", "is no stage", '"embed.run"'),
    P + "stages = ['digits.$/ping']": (4, "pipeline.search.stages[0]", "the protocol's own", '"embed.run"'),
    P + "stages = ['digit.a']": (4, "pipeline.search.stages[0]", 'no service "digit"', 'did you mean "digits.a"?'),
    P + "stages = ['zzz.a']": (4, "pipeline.search.stages[0]", 'no service "zzz"', "name one of digits"),
    P + "stages = ['search.run']": (
        4,
        "pipeline.search.stages[0]",
        '"search" is a pipeline, which cannot be a stage',
        "stages here",
    ),
    P + "stages = ['digits.a']\ntimeout = 0": (5, "pipeline.search.timeout", "longer than 0", '"infinity"'),
    P + "stages = ['digits.a']\nretries = 1": (5, "pipeline.search.retries", "here", "it belongs to [service.NAME]"),
    D + "stages = ['digits.a']": (3, "service.digits.stages", "no such key here", "it belongs to [pipeline.NAME]"),
    D + "[pipeline.digits]\nstages = ['digits.a']": (
        3,
        "pipeline.digits",
        "there is a service of this name",
        "[pipeline.digits-1]",
    ),
    D + "[pipeline.Search]\nstages = ['digits.a']": (
        3,
        "pipeline.Search",
        "cannot be a pipeline's name",
        "[pipeline.search]",
    ),
    D + "[pipeline.mlports]\nstages = ['digits.a']": (3, "pipeline.mlports", "the root supervisor's", "mlports-1"),
    D + "[program.p]\ncommand = 'p'\n[pipeline.p]\nstages = ['digits.a']": (
        5,
        "pipeline.p",
        "there is a program of this name",
        "[pipeline.p-1]",
    ),
    D + "[pipelines.a]\nstages = ['digits.a']": (3, "pipelines", "no such key", 'did you mean "pipeline"?'),
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_file_names_the_line_the_key_and_the_fix(tmp_path: Path, text: str) -> None:
    """Guards the promise made to whoever edits the file by hand."""
    line, key, problem, fix = BAD[text]
    error = refused(tmp_path, text)
    assert not isinstance(error, ConfigErrors), error
    assert (error.line, error.key) == (line, key)
    assert problem in error.message
    assert fix in str(error.fix)
    place = f"{tmp_path / 'mlports.toml'}" + (f":{line}" if line else "")
    assert str(error) == f"{place}: {key}: {error.message}. Fix: {error.fix}"


LATER = {
    D + "[orchestrator]\nhttp = '127.0.0.1:8080'": (4, "orchestrator.http"),
    D + "[orchestrator]\ngrpc = '127.0.0.1:8080'": (4, "orchestrator.grpc"),
    D + "[orchestrator]\nauth_token_file = 'x'": (4, "orchestrator.auth_token_file"),
}


@pytest.mark.parametrize("text", LATER)
def test_what_a_later_version_will_do_is_refused_as_such(tmp_path: Path, text: str) -> None:
    """Guards against a setting that is silently ignored, and against a user who takes a planned one for misspelt."""
    error = refused(tmp_path, text)
    assert (error.line, error.key) == LATER[text]
    assert "is known, but this version of mlports does not have it yet" in error.message
    assert "remove" in str(error.fix)


NOT_TOML = {
    # text: (line, key, part of the problem, part of the fix)
    D + D: (3, "service.digits", "is given twice: line 1 has it already", "remove one of the two"),
    D + "command = 'y'": (3, "service.digits.command", "is given twice: line 2", "remove one of the two"),
    D + "queue = 1\n\n# queue = 2\nqueue = '''\n3\n'''\n": (6, "service.digits.queue", "line 3 has it", "remove one"),
    D + "env.A = 'x'\n[service.digits.env]\n": (4, "service.digits.env", "line 3 has it", "under one name"),
    D + "env = {}\nenv.A = 'x'\nqueue = 1": (4, "service.digits.env.A", "is given twice", "under one name"),
    D + "env = { A = '1', A = '2' }": (3, "service.digits.env.A", "is given twice: it is there already", "remove one"),
    D + "timeout = 5s": (3, None, "is not TOML, in column 12 of timeout = 5s: expected newline", "in quotes"),
    D + "timeout = five": (3, None, "invalid value", "stands in quotes"),
    D + "cwd = 'x\nqueue = 1": (3, None, "the text that begins here does not end", "with a quote on the same line"),
    D + "cwd = 'x\npython = 'y'": (3, None, "invalid character", "close the text with a quote"),
    D + 'cwd = "x\nqueue = 1': (3, None, "illegal character", "close the text with a quote"),
    D + 'cwd = "C:\\work"': (3, None, "unescaped", "single quotes"),
    D + "cwd = '''x\n\nqueue = 1": (3, None, "the text that begins here does not end", "three quotes"),
    D + 'cwd = """x\n\nqueue = 1': (3, None, "the text that begins here does not end", "three quotes"),
    D + "env = { A = 'x'": (3, None, "at the file's end: unclosed inline table", "on one line"),
    D + "[orchestrator\nlog = 'info'": (3, None, "is not TOML", "close the table's name with ]"),
    D + "queue 1": (3, None, "expected '='", "write key = value"),
    D + "= 1": (3, None, "invalid statement", "write key = value"),
    "[service.digits]\ncommand = ['a',\nqueue = 1": (3, None, "is not TOML", "text stands in quotes"),
    "[service.digits]\ncommand = ['a'\nqueue = 1": (3, None, "unclosed array", "close it with ]"),
    D + f"queue = {'9' * 5000}\nretries = 1": (3, None, "thousands of digits", "shorter"),
    D.encode() + b"# caf\xe9\n": (3, None, "is not UTF-8: byte 0xe9", "save the file as UTF-8"),
}


@pytest.mark.parametrize("text", NOT_TOML)
def test_what_is_not_toml_names_the_line_and_the_fix(tmp_path: Path, text: str | bytes) -> None:
    """Guards against a parser's own words, such as "Cannot overwrite a value (at end of document)"."""
    line, key, problem, fix = NOT_TOML[text]
    error = refused(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert problem in error.message
    assert fix in str(error.fix)


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    """Guards against a recursion error in the parser, which is no ConfigError."""
    error = refused(tmp_path, "x = " + "[" * 100_000)
    assert "nested too deep" in error.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Guards the first thing that a new user meets."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "mlports.toml")
    assert str(caught.value) == f'{tmp_path}/mlports.toml: there is no such file. Fix: "mlports init" makes one'


def test_a_directory_and_what_cannot_be_read(tmp_path: Path) -> None:
    """Guards errors of the operating system, which would come as a traceback."""
    with pytest.raises(ConfigError, match=r"is a directory\. Fix: name the file in it, such as .*mlports\.toml"):
        load_config(tmp_path)
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    with pytest.raises(ConfigError, match=r"cannot be read: .*Fix: make it readable"):
        load_config(loop)
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        load_config("\0")


def test_a_file_that_is_not_ours_to_read(tmp_path: Path) -> None:
    """Guards a configuration that belongs to another user."""
    file = written(tmp_path, MINIMAL)
    file.chmod(0)
    root = os.geteuid() == 0
    if root:  # who may read everything, until it is somebody else
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            load_config(file)
    finally:
        if root:
            os.seteuid(0)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Guards against mending a file one error at a time: all of them, in the file's order, one a line."""
    error = refused(tmp_path, "x = 1\n" + D + "timeout = 'x'\nreplica = 1\n[orchestrator]\nlog = 'x'\n")
    assert isinstance(error, ConfigErrors)
    assert [(each.line, each.key) for each in error.errors] == [
        (1, "x"),
        (4, "service.digits.timeout"),
        (5, "service.digits.replica"),
        (7, "orchestrator.log"),
    ]
    assert str(error).split("\n") == [str(each) for each in error.errors]
    assert (error.line, error.key, error.message) == (1, "x", "there is no such key")


TRAPS = '''\
# [service.comment] is not there
[service . "digits"]   # nor is [this] = 1
command = ["a]", 'b[', """
[service.inside]
replicas = 1 \\"""
""", # ]
  \'\'\'
[service.literal]'\'\'\', "#"]
env = { "A # ]" = "}", B = '{' }
config.first."x.y" = [[1, [2]], { a = [
  { b = 1 },
] }]
config.first.z = 1.5
[[service.digits.config.models]]
name = "m"
[service.digits.config.models.deep]
x = 08:00:00
[[service.digits.config.models]]
name = """ends with a quote"""""
[service."quo\\u0074ed"]
command = "x"'''

AT = {
    "service": 2,
    "service.digits": 2,
    "service.digits.command": 3,
    "service.digits.command[0]": 3,
    "service.digits.command[1]": 3,
    "service.digits.command[2]": 3,
    "service.digits.command[3]": 7,
    "service.digits.command[4]": 8,
    "service.digits.env": 9,
    'service.digits.env."A # ]"': 9,
    "service.digits.env.B": 9,
    "service.digits.config": 10,
    "service.digits.config.first": 10,
    'service.digits.config.first."x.y"': 10,
    'service.digits.config.first."x.y"[0]': 10,
    'service.digits.config.first."x.y"[0][0]': 10,
    'service.digits.config.first."x.y"[0][1]': 10,
    'service.digits.config.first."x.y"[0][1][0]': 10,
    'service.digits.config.first."x.y"[1]': 10,
    'service.digits.config.first."x.y"[1].a': 10,
    'service.digits.config.first."x.y"[1].a[0]': 11,
    'service.digits.config.first."x.y"[1].a[0].b': 11,
    "service.digits.config.first.z": 13,
    "service.digits.config.models": 14,
    "service.digits.config.models[0]": 14,
    "service.digits.config.models[0].name": 15,
    "service.digits.config.models[0].deep": 16,
    "service.digits.config.models[0].deep.x": 17,
    "service.digits.config.models[1]": 18,
    "service.digits.config.models[1].name": 19,
    "service.quoted": 20,
    "service.quoted.command": 21,
}


def test_lines_are_not_led_astray_by_strings_and_comments() -> None:
    """Guards the scanner: brackets, hashes and whole tables inside texts are no syntax."""
    tomllib.loads(TRAPS)
    assert {dotted(key): line for key, line in TomlLines(TRAPS).first.items()} == AT


def test_a_key_that_is_not_written_has_the_line_of_the_table_around_it() -> None:
    """Guards the place of what is missing."""
    lines = TomlLines("[a]\n[a.b]\n")
    assert (lines.line(("a", "b", "c", 0)), lines.line(("a", "x")), lines.line(("x",))) == (2, 1, None)


def keys_of(value: object, at: Key = ()) -> set[Key]:
    """The way to each value inside a parsed TOML value."""
    parts: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    return {way for name, part in parts for way in {(*at, name)} | keys_of(part, (*at, name))}


words = st.sampled_from(["a", "b", "service", "digits", "1", '"a"', "'b c'", '"]"', '"#\\""'])
names = st.lists(words, min_size=1, max_size=3).map(" . ".join)
values = st.recursive(
    st.sampled_from(
        [
            "1",
            "-1.5",
            "true",
            "1979-05-27 07:32:00",
            '"]"',
            "'{#'",
            '"""\n[a]\n\\""""""',
            "'''\nb = '' 2'''",
            '"\\\\"',
            "''",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[ # ]\n" + ",\n".join(parts) + "]"),
        st.lists(st.tuples(words, inner), max_size=2).map(lambda p: "{" + ", ".join(f"{k} = {v}" for k, v in p) + "}"),
    ),
    max_leaves=6,
)
statements = st.one_of(
    st.tuples(names, values).map(" = ".join),
    names.map("[{}] # [x]".format),
    names.map("[[ {} ]]".format),
    st.sampled_from(["", "# a = [", "\t"]),
)


@given(st.lists(statements, max_size=8).map("\n".join))
@settings(max_examples=200, deadline=None)
def test_the_lines_are_those_of_exactly_the_keys_that_there_are(text: str) -> None:
    """Guards the scanner against any mixture of what TOML has: it must see the keys that tomllib sees, no others."""
    lines = TomlLines(text)
    try:
        keys = keys_of(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return
    assert set(lines.first) == keys
    rows = text.split("\n")
    for key, line in lines.first.items():
        if isinstance(key[-1], str):
            assert key[-1].strip('"') in rows[line - 1].replace("\\", "")


settings_of_a_service = st.tuples(
    st.sampled_from([*ServiceConfig.model_fields, *SupervisorConfig.model_fields, "http", "stages", "path", "x.y"]),
    st.one_of(
        values,
        st.integers().map(str),
        st.floats().map(str),
        st.from_regex(r'"-?[0-9.]{1,4}(ms|s|h|KiB|GB|x)?"', fullmatch=True),
        st.sampled_from(['"infinity"', '"brutal_kill"', '"temporary"', '"one_for_all"', '"inline"', "{ A = '1' }"]),
        st.sampled_from(["[]", "{}", "['a']", "['s', 'a']", "[{ method = 'm' }]", "{ max = '1ms' }", "{ s = {} }"]),
        st.sampled_from(["'hash'", "'auto'", "[1]", "['a.m']", "{ after = 'p95' }", "{ service = 'a' }", "{ of = 2 }"]),
    ),
).map(" = ".join)
tables = st.sampled_from(
    [
        *("[orchestrator]", "[supervisor]", "[supervisor.s]", "[supervisor.backoff]", "[[supervisor.s]]"),
        *(
            "[service.a]",
            "[service.B]",
            "[service.a.env]",
            "[service.a.backoff]",
            "[program.p]",
            "[pipeline.l]",
            "[supervisors]",
            "[x]",
        ),
    ]
)


@given(
    st.one_of(
        st.lists(st.one_of(settings_of_a_service, tables, statements), max_size=8).map("\n".join).map(str.encode),
        st.lists(settings_of_a_service, max_size=4).map(lambda rows: (D + "\n".join(rows)).encode()),
        st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(),
    )
)
@settings(max_examples=300, deadline=None)
def test_any_file_gives_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    """Guards against tracebacks: whatever the file holds, the user is told about it."""
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(text)
    try:
        assert isinstance(load_config(file), Config)
    except ConfigError as error:
        for each in error.errors if isinstance(error, ConfigErrors) else [error]:
            assert each.file == str(file)
            assert each.fix
            assert each.line is None or 1 <= each.line <= text.count(b"\n") + 1
            assert each.line is not None or each.key == "service" or "nested" in each.message


numbers = st.decimals(0, 1000, places=3, allow_nan=False).map(str)
UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}


@given(numbers, st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_of_units(number: str, unit: str) -> None:
    """Guards rounding: the nearest float to the exact value, and the same again from the number alone."""
    seconds = ServiceConfig(command="x", shutdown=number + unit).shutdown
    assert seconds == float(Fraction(number) * UNITS[unit])
    assert ServiceConfig(command="x", shutdown=seconds).shutdown == seconds


@given(st.integers(1, 2**11), st.sampled_from([("B", 0), ("KiB", 10), ("MiB", 20)]))
def test_a_size_is_its_number_of_units(number: int, unit: tuple[str, int]) -> None:
    """Guards the units in powers of two; those in powers of ten are smaller."""
    name, shift = unit
    if (number << shift) >= 2**31:
        return
    assert ServiceConfig(command="x", max_frame=f"{number}{name}").max_frame == number << shift
    ten = name.replace("i", "")
    assert ServiceConfig(command="x", max_frame=f"{number}{ten}").max_frame == number * 1000 ** (shift // 10)


INLINE = {
    "command = ['ruby', 'w.rb']": ("command", '"ruby" cannot run within the orchestrator'),
    "command = 'python'": ("command", "cannot run within the orchestrator"),
    "command = 'python -u w.py'": ("command", 'the option "-u" cannot be had'),
    "command = 'python -m'": ("command", 'the option "-m" cannot be had'),
    "command = 'python w.py --fast'": ("command", '"--fast" cannot be handed over'),
    "command = 'python -m w fast'": ("command", "cannot be had"),
    "command = 'python w.py'\npython = 'venv'": ("python", "another interpreter's"),
    "command = 'python w.py'\nmemory_limit = '1GiB'": ("memory_limit", "its memory is the orchestrator's"),
    "command = 'python w.py'\nheartbeat = {}": ("heartbeat", "says nothing of a thread"),
    "command = 'python w.py'\nmax_frame = '1MiB'": ("max_frame", "there are no frames"),
    "command = 'python w.py'\nrecord = 'always'": ("record", "there are no frames"),
    "command = 'python w.py'\ncwd = 'work'": ("cwd", "it is the orchestrator's"),
    "command = 'python w.py'\nenv = { A = 'b' }": ("env", "it is the orchestrator's"),
}


@pytest.mark.parametrize("text", INLINE)
def test_what_an_inline_worker_cannot_have_is_refused(tmp_path: Path, text: str) -> None:
    """Guards against a limit that is silently none, and against a command that would be run as another."""
    error = refused(tmp_path, f"[service.digits]\ntransport = 'inline'\n{text}")
    key, told = INLINE[text]
    assert error.key == f"service.digits.{key}"
    assert told in error.message
    assert error.fix is not None
    assert 'transport = "stdio"' in error.fix


def test_what_an_inline_worker_can_have(tmp_path: Path) -> None:
    """Guards the keys that mean the same for a thread, and those that are given as they are anyway."""
    for command in ("python w.py", "python3 -m w", [sys.executable, "w.py"]):
        more: dict[str, Any] = {"replicas": 2, "standby": 1, "max_requests": 5, "max_age": "1h", "cwd": ".", "env": {}}
        assert ServiceConfig(command=command, transport="inline", **more).transport == "inline"


def test_a_word_stands_for_the_table_of_what_is_recorded() -> None:
    for when in ("on-crash", "always"):
        assert ServiceConfig(command="x", record=when).record == RecordConfig(when=when)


def test_shared_memory_is_a_yes_or_no() -> None:
    assert ServiceConfig(command="x").shared_memory is True
    assert ServiceConfig(command="x", shared_memory=False).shared_memory is False
    for wrong in ("no", 0, None):
        with pytest.raises(ValueError, match="shared_memory"):
            ServiceConfig(command="x", shared_memory=wrong)  # type: ignore[arg-type]


def test_the_choices_are_those_of_the_documentation() -> None:
    """Guards the messages, which list a field's choices from its type."""
    choices = {name: get_args(field.annotation) for name, field in ServiceConfig.model_fields.items()}
    assert choices["restart"] == ("permanent", "transient", "temporary")
    assert choices["transport"] == ("stdio", "fd34", "inline")
    assert choices["route"] == ROUTES


def test_reading_a_config_brings_in_nothing_heavy() -> None:
    """Guards the start-up time of the command line."""
    code = "import sys, mlports.config; print({'asyncio', 'numpy', 'typer', 'difflib', 'shlex'} & set(sys.modules))"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
