"""The graph of a pipeline: steps, what each takes, the laws; and a step's key.

Light to import: whoever only writes a pipeline needs no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from salus.kernel.errors import InvalidInput
from salus.kernel.structs import Line, Record, Short, Value, digest_of

ParameterType = Literal["int", "float", "string", "bool", "json"]

LONGEST_S = 30 * 86_400.0
"""The longest that a step may take or wait, in seconds: thirty days."""

_PYTHON: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,), "bool": (bool,)}


class Constant(Value, tag="constant"):
    """An argument that is known when the graph is made."""

    value: Any


class FromParameter(Value, tag="parameter"):
    """An argument that is a parameter of the run."""

    name: str


class FromStep(Value, tag="step"):
    """An argument that is an output of an earlier step."""

    step: str
    output: str = "result"


class ListOf(Value, tag="list"):
    """A list with bindings in it."""

    items: tuple[Constant | FromParameter | FromStep | ListOf, ...]


Binding = Constant | FromParameter | FromStep | ListOf


class StepNode(Value):
    """One step of a graph.

    `function` is `module:name` in the project, `code` the digest of its source and of the code it declares to
    depend on. `retries` are further attempts after a failure, `timeout_s` bounds each. `cache`: a result
    with the same key, of any run, stands for this one.
    """

    name: str
    function: str
    code: str
    arguments: dict[str, Binding] = {}
    outputs: tuple[str, ...] = ("result",)
    cache: bool = False
    retries: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] | None = None
    backoff_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_S)] = 1.0
    concurrency_key: Short | None = None
    concurrency_limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None

    @property
    def upstream(self) -> frozenset[str]:
        """The steps whose outputs it takes."""
        return frozenset(ref.step for ref in references(self.arguments.values()) if isinstance(ref, FromStep))


class Graph(Value):
    """Steps in an order in which each comes after those whose outputs it takes; `result` names what a run
    gives."""

    steps: tuple[StepNode, ...]
    result: Binding | None = None


class Parameter(Value):
    """A parameter of a pipeline; without a default it must be given."""

    name: str
    type: ParameterType = "json"
    required: bool = True
    default: Any = None


class PutPipeline(Value):
    """A pipeline to deploy: its graph, recorded from `entrypoint` (`path.py:function`) in `project`."""

    entrypoint: Line
    graph: Graph
    parameters: tuple[Parameter, ...] = ()
    project: Line = ""
    description: str = ""


class OutputRef(Record):
    """A step's output: where it is, and how it is read. `executable`: reading it runs code (a pickle)."""

    digest: str
    codec: str
    size_bytes: int
    type: str = ""
    executable: bool = False


class BoundOutput(Record, tag="output"):
    """An argument of a step task that is read from a blob."""

    ref: OutputRef


class BoundValue(Record, tag="value"):
    """An argument of a step task that is a JSON value."""

    value: Any


class BoundList(Record, tag="list"):
    """An argument of a step task that is a list."""

    items: tuple[BoundOutput | BoundValue | BoundList, ...]


Bound = BoundOutput | BoundValue | BoundList


class StepTask(Record):
    """All that a worker needs to run a step: the payload of its job."""

    run: str
    pipeline: str
    step: str
    key: str
    function: str
    code: str
    arguments: dict[str, Bound]
    outputs: tuple[str, ...]


def references(bindings: Iterable[Binding]) -> Iterator[FromParameter | FromStep]:
    """The parameters and outputs that `bindings` take, at any depth."""
    for binding in bindings:
        if isinstance(binding, ListOf):
            yield from references(binding.items)
        elif not isinstance(binding, Constant):
            yield binding


def check_graph(graph: Graph, parameters: Sequence[Parameter]) -> None:
    """The laws of a graph: unique names; a step takes only parameters that exist and outputs of earlier
    steps.

    Raises:
        InvalidInput: one is broken; `path` says where.
    """
    if not graph.steps:
        raise InvalidInput("a pipeline has at least one step, got none", path="$.graph.steps")
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise InvalidInput(f"parameter names must be unique, got {', '.join(names)}", path="$.parameters")
    outputs: dict[str, tuple[str, ...]] = {}
    for index, step in enumerate(graph.steps):
        path = f"$.graph.steps[{index}]"
        if step.name in outputs:
            raise InvalidInput(f"step names must be unique, got {step.name!r} twice", path=f"{path}.name")
        if not step.outputs or len(set(step.outputs)) < len(step.outputs):
            raise InvalidInput(
                f"a step has one output or more, with unique names, got {list(step.outputs)}",
                path=f"{path}.outputs",
            )
        _check_references(step.arguments.values(), set(names), outputs, f"{path}.arguments")
        outputs[step.name] = step.outputs
    if graph.result is not None:
        _check_references([graph.result], set(names), outputs, "$.graph.result")


def _check_references(bindings: Any, names: set[str], outputs: Mapping[str, tuple[str, ...]], path: str) -> None:
    for reference in references(bindings):
        if isinstance(reference, FromParameter):
            if reference.name not in names:
                raise InvalidInput(f"there is no parameter {reference.name!r}", path=path)
        elif reference.output not in outputs.get(reference.step, ()):
            raise InvalidInput(
                f"no earlier step has the output {reference.step}.{reference.output}",
                path=path,
                remedy="A step may take only outputs of steps that come before it.",
            )


def check_parameters(declared: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all declared parameters: given ones of the right type, defaults for the rest.

    Raises:
        InvalidInput: one is unknown, missing or of another type; `path` names it.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"there is no parameter {name!r}",
                path=f"$.parameters.{name}",
                remedy=f"The pipeline takes: {', '.join(known) or 'none'}.",
            )
    values = {}
    for parameter in declared:
        if parameter.name not in given and parameter.required:
            raise InvalidInput(f"the parameter {parameter.name!r} is required", path=f"$.parameters.{parameter.name}")
        value = given.get(parameter.name, parameter.default)
        if parameter.name in given:
            _check_type(parameter, value)
        values[parameter.name] = value
    return values


def _check_type(parameter: Parameter, value: Any) -> None:
    lawful = _PYTHON.get(parameter.type)
    if lawful is None or (value is None and not parameter.required and parameter.default is None):
        return
    if not isinstance(value, lawful) or (isinstance(value, bool) and parameter.type != "bool"):
        raise InvalidInput(f"expected {parameter.type}, got {value!r}", path=f"$.parameters.{parameter.name}")


def bind(binding: Binding, parameters: Mapping[str, Any], outputs: Mapping[str, Mapping[str, OutputRef]]) -> Bound:
    """`binding` with what is known by now: parameter values, and outputs by step and name."""
    match binding:
        case Constant(value=value):
            return BoundValue(value=value)
        case FromParameter(name=name):
            return BoundValue(value=parameters[name])
        case FromStep(step=step, output=output):
            return BoundOutput(ref=outputs[step][output])
        case ListOf(items=items):
            return BoundList(items=tuple(bind(item, parameters, outputs) for item in items))


def step_key(function: str, code: str, outputs: Sequence[str], arguments: Mapping[str, Bound]) -> str:
    """What a step's result depends on, as one digest: its name, its code, and the digests and values it
    takes.

    Two steps with the same key have the same result, in this run and in any other.

    >>> key = step_key("flows:train", "sha256:1", ["result"], {"depth": BoundValue(value=3)})
    >>> key == step_key("flows:train", "sha256:2", ["result"], {"depth": BoundValue(value=3)})
    False
    """
    taken = {name: _essence(bound) for name, bound in arguments.items()}
    return digest_of({"function": function, "code": code, "outputs": list(outputs), "arguments": taken})


def _essence(bound: Bound) -> Any:
    match bound:
        case BoundOutput(ref=ref):
            return {"output": [ref.digest, ref.codec, ref.type]}
        case BoundValue(value=value):
            return {"value": msgspec.to_builtins(value)}
        case BoundList(items=items):
            return {"list": [_essence(item) for item in items]}
