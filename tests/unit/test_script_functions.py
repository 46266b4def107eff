"""Functions of a file by name: what is served of them, and what is said of a file or a config that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mlports_models.functions import Functions
from mlports_worker import Failure

FILE = '''
from math import floor
level = 3
model = None

def load(path, *, scale=1.0):
    global model
    model = path, scale

def predict(x: float, y: "int" = 2, *more) -> float:
    """The sum.

    Of all.
    """
    return x + y + sum(more)

def predict_all(xs):
    return [model for _ in xs]

def items(n):
    yield from range(n)

async def later():
    pass
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    (tmp_path / "score_of_tests.py").write_text(FILE)
    yield tmp_path / "score_of_tests.py"
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refusal(**config: Any) -> str:
    with pytest.raises(Failure) as caught:
        Functions({key: str(value) if isinstance(value, Path) else value for key, value in config.items()})
    return caught.value.message


def test_what_is_served(file: Path) -> None:
    config = {"functions": ["predict_all", "items", "predict"], "batch": ["predict_all"], "idempotent": True}
    more = {"setup": "load", "settings": {"path": "m", "scale": 2.0}}
    served = Functions({"file": str(file), **config, **more}).served
    assert {name: (one.batch, one.idempotent) for name, one in served.items()} == {
        "predict_all": (True, True),
        "items": (False, True),
        "predict": (False, True),
    }
    assert served["predict_all"].function([1]) == [("m", 2.0)]


def test_the_schema_is_the_functions_own_signature(file: Path) -> None:
    told = Functions({"file": str(file), "functions": ["predict", "items"]}).schema()
    assert told["predict"]["signature"] == "(x: float, y: 'int' = 2, *more) -> float"
    assert told["predict"]["parameters"] == [
        {"name": "x", "type": "float", "required": True},
        {"name": "y", "type": "int", "required": False, "default": "2"},
        {"name": "more", "type": None, "required": False},
    ]
    assert told["predict"]["doc"] == "The sum.\n\nOf all."
    assert (told["predict"]["stream"], told["items"]["stream"]) == (False, True)


def test_anything_that_can_be_called_is_served(file: Path) -> None:
    """Guards functions that have no signature, and those that come from elsewhere."""
    functions = Functions({"file": str(file), "function": "floor"})
    assert functions.served["floor"].function(1.5) == 1
    file.write_text("add = max")
    assert Functions({"file": str(file), "function": "add"}).schema()["add"]["signature"] is None


@pytest.mark.parametrize(
    ("config", "story"),
    [
        ({"function": "predcit"}, "has no function 'predcit'; did you mean 'predict'?"),
        ({"function": "zzz"}, "its functions are: load, predict, predict_all, items, later"),
        ({"function": "level"}, "level in score_of_tests.py is no function, but int"),
        ({}, "name what is served, either by function, a name, or by functions, a list of names"),
        ({"function": "predict", "functions": ["predict"]}, "either by function"),
        ({"functions": ["predict", "predict"]}, "functions takes names, each once"),
        ({"functions": [1]}, "functions takes names"),
        ({"function": "predict", "batch": ["items"]}, "batch names 'items', which is not served; there are: predict"),
        ({"function": "predict", "idempotent": "yes"}, "idempotent takes bool or list, not 'yes'"),
        ({"function": "predict", "settings": {"a": 1}}, "settings are for a setup function, and none is named"),
        ({"function": "predict", "setup": "load"}, "missing a required argument: 'path'; the function is load(path, *"),
        ({"function": "predict", "setup": "later"}, "the setup function later is async"),
        ({"function": "predict", "fil": "x"}, "there is no key 'fil'; did you mean 'file'?"),
    ],
)
def test_a_config_that_cannot_be_used(file: Path, config: dict[str, Any], story: str) -> None:
    assert story in refusal(file=file, **config)


@pytest.mark.parametrize(
    ("text", "story"),
    [
        ("def predict(x:\n    return x\n", "'(' was never closed"),
        (
            "\n\nimport no_such_package\n",
            f"line 3: it needs no_such_package, which is not installed for {sys.executable}",
        ),
        ("import sys\nsys.exit(3)\n", "line 2: it called sys.exit(3) when it was loaded"),
        ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError: division by zero"),
        ("x = '\0'", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_loaded(file: Path, text: str, story: str) -> None:
    file.write_text(text)
    told = refusal(file=file, function="predict")
    assert story in told
    assert file.name in told
    assert "exec(" not in told  # its own lines, not ours
    assert file.stem not in sys.modules


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "missing.py: No such file or directory" in refusal(file=tmp_path / "missing.py", function="f")
    assert "Is a directory" in refusal(file=tmp_path, function="f")
    assert "there is no file" in refusal(function="f")


def test_it_is_loaded_as_it_would_run_itself_but_not_as_main(file: Path) -> None:
    """Guards files that come in several, have dataclasses, and do something as programs."""
    file.with_name("beside_of_tests.py").write_text("value = 7\n")
    file.write_text(
        dedent("""
        from __future__ import annotations
        import beside_of_tests, dataclasses, sys

        @dataclasses.dataclass
        class Point:
            x: int = beside_of_tests.value

        def predict():
            return Point().x

        if __name__ == "__main__":
            sys.exit(1)
        """)
    )
    assert Functions({"file": str(file), "function": "predict"}).served["predict"].function() == 7


def test_a_module_of_the_same_name_is_left_alone(file: Path) -> None:
    """Guards a json.py: the standard library's json is in use by others."""
    import json

    path = file.with_name("json.py")
    path.write_text("def predict():\n    return __file__\n")
    served = Functions({"file": str(path), "function": "predict"}).served
    assert served["predict"].function() == str(path)
    assert sys.modules["json"] is json
