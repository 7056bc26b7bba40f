"""What decorators record: the graph, its laws, the digest of the code."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from salus.kernel.errors import InvalidInput, NotFound
from salus.pipelines.definition import pipeline, step
from salus.pipelines.graph import Constant, FromParameter, FromStep, ListOf
from salus.pipelines.project import load_pipeline

HERE = Path(__file__).parent


def module_of(folder: Path, name: str, text: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_a_pipeline_records_which_step_takes_what() -> None:
    graph = load_pipeline(HERE, "flows.py:summing").graph()
    assert [node.name for node in graph.steps] == ["numbers", "split", "total", "total-2", "join"]
    numbers, split, first, second, joined = graph.steps
    assert numbers.arguments == {"count": FromParameter(name="count")}
    assert split.arguments == {"values": FromStep(step="numbers")}
    assert first.arguments["values"] == FromStep(step="split", output="low")
    assert second.arguments["values"] == FromStep(step="split", output="high")
    assert joined.arguments["parts"] == ListOf(
        items=(FromStep(step="total"), FromStep(step="total-2"), Constant(value=1))
    )
    assert (numbers.cache, split.outputs) == (True, ("low", "high"))
    assert graph.result == FromStep(step="join")


def test_run_local_gives_the_result_without_a_server() -> None:
    summing = load_pipeline(HERE, "flows.py:summing")
    assert summing.run_local(count=4, factor=2) == (0 + 1) * 20 + (2 + 3) * 20 + 1
    assert summing.run_local() == summing.run_local(count=4)
    with pytest.raises(InvalidInput) as caught:
        summing.run_local(cuont=4)
    assert caught.value.path == "$.parameters.cuont"


def test_parameters_have_types_and_defaults() -> None:
    count, factor = load_pipeline(HERE, "flows.py:summing").parameters()
    assert (count.name, count.type, count.required, count.default) == ("count", "int", False, 4)
    assert (factor.name, factor.required) == ("factor", False)
    (folder,) = load_pipeline(HERE, "flows.py:breaking").parameters()
    assert (folder.type, folder.required) == ("string", True)


@pytest.mark.parametrize(
    "use",
    [
        lambda value: 1 if value else 2,
        lambda value: value + 1,
        lambda value: list(value),
        lambda value: f"{value}",
        lambda value: value > 1,
        lambda value: value["x"],
    ],
)
def test_a_value_that_is_not_there_yet_cannot_be_looked_at(use: Any) -> None:
    @step
    def one() -> int:
        return 1

    @pipeline
    def peeking(depth: int = 1) -> Any:
        use(one())
        use(depth)

    with pytest.raises(InvalidInput, match="not known while the pipeline is recorded"):
        peeking.graph()


def test_an_argument_that_json_cannot_hold_is_refused() -> None:
    @step
    def take(thing: object) -> int:
        return 1

    @pipeline
    def wrong() -> Any:
        return take(object())

    with pytest.raises(InvalidInput) as caught:
        wrong.graph()
    assert caught.value.path == "take.thing"


BASE = """
LIMIT = 3

def helper(x):
    return x + 1

def unused(x):
    return x

def work(x):
    return helper(x) * LIMIT
"""


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("x + 1", "x + 2", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("helper(x) * LIMIT", "helper(x) * LIMIT * 1", True),
        ("def unused(x):\n    return x", "def unused(x):\n    return -x", False),
        ("def work", "# a remark\n\n\ndef work", False),
    ],
)
def test_the_code_digest_covers_what_the_step_is_made_with(tmp_path: Path, old: str, new: str, changes: bool) -> None:
    before = step(module_of(tmp_path, "code_before", BASE).work)
    (tmp_path / "b").mkdir()
    text = BASE.replace(old, new)
    assert text != BASE
    after = step(module_of(tmp_path / "b", "code_before", text).work)
    assert (before.code() != after.code()) is changes


def test_options_of_the_decorator_are_no_code() -> None:
    def work() -> int:
        return 1

    assert step(retries=1)(work).code() == step(retries=5, cache=True)(work).code()


def test_declared_dependencies_are_code() -> None:
    def work() -> int:
        return 1

    assert step(work).code() != step(code_deps=[pytest])(work).code()


@pytest.mark.parametrize(
    ("entrypoint", "error"),
    [
        ("flows.py", InvalidInput),
        ("flows.py:total", InvalidInput),
        ("nothing.py:flow", NotFound),
        ("flows.py:nothing", NotFound),
        ("../pipelines.py:flow", NotFound),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(entrypoint: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        load_pipeline(HERE, entrypoint)


def test_writing_a_pipeline_needs_no_heavy_library() -> None:
    code = (
        "import sys, salus.pipelines.definition, salus.pipelines.progress; "
        "print([m for m in ('sqlalchemy', 'polars', 'numpy', 'litestar') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
