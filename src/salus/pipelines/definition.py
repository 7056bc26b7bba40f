"""Pipelines as one writes them: functions marked as steps, called inside a function marked as a pipeline.

```python
import salus


@salus.step(cache=True)
def prepare(rows: int) -> list[int]:
    return list(range(rows))


@salus.step(retries=2, timeout_s=600)
def train(data: list[int], depth: int) -> float:
    return sum(data) / depth


@salus.pipeline
def flow(rows: int = 10, depth: int = 3):
    return train(prepare(rows), depth)


flow.run_local(depth=5)
```

The pipeline's function runs once, when it is deployed: it calls no step but records which step takes what.
Steps run later, in workers. Outside a pipeline a step is a plain function.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

import msgspec

from salus.kernel.errors import InvalidInput
from salus.pipelines.code import code_digest
from salus.pipelines.graph import (
    Binding,
    Constant,
    FromParameter,
    FromStep,
    Graph,
    ListOf,
    Parameter,
    ParameterType,
    PutPipeline,
    StepNode,
    check_graph,
    check_parameters,
)

P = ParamSpec("P")
R = TypeVar("R")

_TYPES: dict[Any, ParameterType] = {int: "int", float: "float", str: "string", bool: "bool"}


class Pending:
    """A value that is not there yet: a parameter or a step's output, while a pipeline is recorded."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding

    def _refuse(self, *_: Any) -> NoReturn:
        what = self.binding.name if isinstance(self.binding, FromParameter) else getattr(self.binding, "step", "?")
        raise InvalidInput(
            f"the value of {what!r} is not known while the pipeline is recorded",
            path=str(what),
            remedy="Use it inside a step: a pipeline's function only passes values from step to step.",
        )

    __bool__ = __iter__ = __len__ = __getitem__ = __contains__ = _refuse
    __str__ = __format__ = __int__ = __float__ = __index__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


class Recording:
    """The graph that a pipeline's function draws while it runs."""

    def __init__(self) -> None:
        self.nodes: list[StepNode] = []

    def add(self, step: Step[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Puts a call of `step` into the graph and gives its outputs, which are still to come."""
        bound = inspect.signature(step.function).bind(*args, **kwargs)
        parameters = inspect.signature(step.function).parameters
        if any(parameters[name].kind in (_VARIADIC, _KEYWORDS) for name in bound.arguments):
            raise InvalidInput(f"a step takes named arguments only, {step.name} takes *args", path=step.name)
        taken = [node.name for node in self.nodes]
        count = sum(1 for name in taken if name == step.name or name.startswith(f"{step.name}-"))
        name = step.name if count == 0 else f"{step.name}-{count + 1}"
        arguments = {key: _binding(value, f"{name}.{key}") for key, value in bound.arguments.items()}
        self.nodes.append(step.node(name, arguments))
        pending = tuple(Pending(FromStep(step=name, output=output)) for output in step.outputs)
        return pending[0] if len(pending) == 1 else pending


_VARIADIC, _KEYWORDS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_recording: ContextVar[Recording | None] = ContextVar("salus_recording", default=None)


def _binding(value: Any, path: str) -> Binding:
    if isinstance(value, Pending):
        return value.binding
    if isinstance(value, list | tuple) and any(isinstance(item, Pending) for item in value):
        return ListOf(items=tuple(_binding(item, f"{path}[{i}]") for i, item in enumerate(value)))
    return Constant(value=_json(value, path))


def _json(value: Any, path: str) -> Any:
    try:
        plain = msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, msgspec.MsgspecError) as error:
        raise InvalidInput(
            f"an argument of a step is a parameter, an output of a step, or a JSON value, got {type(value).__name__}",
            path=path,
            remedy="Make the value in a step.",
        ) from error
    return plain


class Step(Generic[P, R]):
    """A function that a pipeline runs as a step; see `step` for the options."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None,
        outputs: Sequence[str],
        cache: bool,
        retries: int,
        timeout_s: float | None,
        backoff_s: float,
        concurrency: tuple[str, int] | None,
        code_deps: Sequence[Any],
    ) -> None:
        if retries < 0:
            raise InvalidInput(f"retries must be at least 0, got {retries}", path="retries")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.outputs = tuple(outputs)
        self.cache = cache
        self.retries = retries
        self.timeout_s = timeout_s
        self.backoff_s = backoff_s
        self.concurrency = concurrency
        self.code_deps = tuple(code_deps)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Inside a pipeline: records the call. Anywhere else: calls the function."""
        recording = _recording.get()
        if recording is None:
            value = self.function(*args, **kwargs)
            return value if len(self.outputs) == 1 else tuple(self.by_output(value).values())  # type: ignore[return-value]
        return recording.add(self, args, kwargs)  # type: ignore[no-any-return]

    def code(self) -> str:
        """The digest of the step's source and of what it depends on."""
        return code_digest(self.function, self.code_deps)

    def node(self, name: str, arguments: dict[str, Binding]) -> StepNode:
        """The step as a node of a graph."""
        return StepNode(
            name=name,
            function=f"{self.function.__module__}:{self.function.__qualname__}",
            code=self.code(),
            arguments=arguments,
            outputs=self.outputs,
            cache=self.cache,
            retries=self.retries,
            timeout_s=self.timeout_s,
            backoff_s=self.backoff_s,
            concurrency_key=None if self.concurrency is None else self.concurrency[0],
            concurrency_limit=None if self.concurrency is None else self.concurrency[1],
        )

    def by_output(self, value: Any) -> dict[str, Any]:
        """What the function returned, by the names of the step's outputs. Raises `InvalidInput`."""
        if self.outputs == ("result",):
            return {"result": value}
        if isinstance(value, Mapping) and set(value) == set(self.outputs):
            return {name: value[name] for name in self.outputs}
        if isinstance(value, tuple) and len(value) == len(self.outputs):
            return dict(zip(self.outputs, value, strict=True))
        raise InvalidInput(
            f"the step {self.name} declares the outputs {', '.join(self.outputs)}; it returned {type(value).__name__}",
            path=self.name,
            remedy="Return a tuple in that order, or a dict with those keys.",
        )


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *,
    name: str | None = None,
    outputs: Sequence[str] = ("result",),
    cache: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
    backoff_s: float = 1.0,
    concurrency: tuple[str, int] | None = None,
    code_deps: Sequence[Any] = (),
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    outputs: Sequence[str] = ("result",),
    cache: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
    backoff_s: float = 1.0,
    concurrency: tuple[str, int] | None = None,
    code_deps: Sequence[Any] = (),
) -> Any:
    """Marks a function as a step.

    Args:
        outputs: names of what it returns, where it returns several things (as a tuple or dict).
        cache: a result with the same code and inputs, from any run, stands for a new one. Only for functions
        whose
            result depends on nothing else.
        retries: how often it is tried again after an error.
        timeout_s: an attempt that takes longer is ended, and counts as failed.
        backoff_s: the wait before the first retry; it doubles.
        concurrency: `(key, limit)`: at most `limit` steps with this key run at once in the workspace.
        code_deps: functions, classes or modules whose source belongs to the step's, beside those of its own
        module
            that it names.
    """

    def mark(marked: Callable[..., Any]) -> Step[Any, Any]:
        return Step(
            marked,
            name=name,
            outputs=outputs,
            cache=cache,
            retries=retries,
            timeout_s=timeout_s,
            backoff_s=backoff_s,
            concurrency=concurrency,
            code_deps=code_deps,
        )

    return mark if function is None else mark(function)


class PipelineFunction:
    """A function that draws a graph of steps; see `pipeline`."""

    def __init__(self, function: Callable[..., Any], name: str | None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__.replace("_", "-")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function with its steps as plain functions."""
        return self.function(*args, **kwargs)

    def parameters(self) -> tuple[Parameter, ...]:
        """The function's arguments, as parameters of the pipeline."""
        hints = typing.get_type_hints(self.function)
        return tuple(
            Parameter(
                name=name,
                type=_TYPES.get(hints.get(name), "json"),
                required=argument.default is argument.empty,
                default=None if argument.default is argument.empty else _json(argument.default, name),
            )
            for name, argument in inspect.signature(self.function).parameters.items()
        )

    def graph(self) -> Graph:
        """The graph that the function draws. Raises `InvalidInput` where it breaks a law of graphs."""
        parameters = self.parameters()
        recording = Recording()
        token = _recording.set(recording)
        try:
            result = self.function(**{p.name: Pending(FromParameter(name=p.name)) for p in parameters})
        finally:
            _recording.reset(token)
        graph = Graph(steps=tuple(recording.nodes), result=None if result is None else _binding(result, "$.result"))
        check_graph(graph, parameters)
        return graph

    def definition(self, project: Path | None = None) -> PutPipeline:
        """The pipeline as it is deployed; `entrypoint` is relative to `project` (default: the working
        directory)."""
        project = (project or Path.cwd()).resolve()
        path = Path(inspect.getfile(self.function)).resolve()
        shown = path.relative_to(project) if path.is_relative_to(project) else path
        return PutPipeline(
            entrypoint=f"{shown.as_posix()}:{self.function.__name__}",
            graph=self.graph(),
            parameters=self.parameters(),
            project=project.name,
            description=inspect.cleandoc(self.function.__doc__ or ""),
        )

    def run_local(self, **parameters: Any) -> Any:
        """Runs all steps here and now, without a server, and returns what the pipeline's function returns."""
        values = check_parameters(self.parameters(), parameters)
        return self.function(**values)


@overload
def pipeline(function: Callable[..., Any], /) -> PipelineFunction: ...


@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[..., Any]], PipelineFunction]: ...


def pipeline(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Marks a function as a pipeline; its name is the function's, with `-` for `_`."""

    def mark(marked: Callable[..., Any]) -> PipelineFunction:
        return PipelineFunction(marked, name)

    return mark if function is None else mark(function)
