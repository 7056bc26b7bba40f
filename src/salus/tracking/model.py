"""What tracking is about: experiments hold runs; a run has parameters, metrics, tags, artifacts and a context."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import msgspec

from salus.kernel.errors import InvalidInput
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Short, Value

RunState = Literal["running", "finished", "failed", "killed"]

MAX_KEY = 250
MAX_VALUE = 8_000
MAX_POINTS = 10_000
MAX_STEP = 2**63 - 1
_PATH = re.compile(r"[\w .+@=,()-]+(/[\w .+@=,()-]+)*", re.ASCII)


class Experiment(Record):
    """A question that runs try to answer."""

    id: str
    workspace: str
    name: str
    created_ms: int


class RunContext(Record):
    """Where a run came from: enough to do it again."""

    git_commit: str | None = None
    git_dirty: bool | None = None
    command: str | None = None
    host: str | None = None
    python: str | None = None
    packages: dict[str, str] = {}
    inputs: list[Short] = []
    pipeline_run: str | None = None


class Run(Record):
    """One execution: what went in, what came out, how long it took."""

    id: str
    workspace: str
    experiment_id: str
    name: str
    state: RunState
    created_by: str
    parent_run_id: str | None
    started_ms: int
    ended_ms: int | None
    context: RunContext

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state != "running"


class LatestMetric(Record):
    """A metric's last value (the one of the greatest step, then time) and its extremes so far."""

    key: str
    value: float | None
    step: int
    at_ms: int
    low: float | None
    high: float | None
    points: int


class Artifact(Record):
    """A file that belongs to a run."""

    path: str
    digest: str
    size_bytes: int
    created_ms: int


class RunDetails(Record):
    """A run with all that hangs on it."""

    run: Run
    experiment: str
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: list[LatestMetric]
    artifacts: list[Artifact]


class RunSummary(Record):
    """A run as a row of a table."""

    run: Run
    parameters: dict[str, str]
    metrics: dict[str, float | None]
    tags: dict[str, str]


class MetricHistory(Record):
    """A metric's points in the order of steps: `[step, at_ms, value]`; `total` is how many there are, `points` may be a
    sample of them. A value that is not a finite number comes as the text `NaN`, `Infinity` or `-Infinity`."""

    key: str
    total: int
    points: list[tuple[int, int, float | SpecialNumber]]


class CreateExperiment(Value):
    """An experiment by its name; the same name twice is the same experiment."""

    name: str


class StartRun(Value):
    """A run to start, in an experiment that is made if it is not there."""

    experiment: str = "default"
    name: str = ""
    parameters: dict[str, Any] = {}
    tags: dict[str, str] = {}
    context: RunContext = msgspec.field(default_factory=RunContext)
    parent_run_id: str | None = None
    started_ms: int | None = None


SpecialNumber = Literal["NaN", "Infinity", "-Infinity"]
"""The numbers that JSON cannot hold, as text."""


class Point(Value):
    """One value of a metric. `value` may also be the text `NaN`, `Infinity` or `-Infinity`."""

    key: str
    value: float | SpecialNumber
    step: int = 0
    at_ms: int | None = None


class LogBatch(Value):
    """What a run has to say: metric points, parameters, tags; all of it or nothing is kept."""

    points: list[Point] = []
    parameters: dict[str, Any] = {}
    tags: dict[str, str] = {}


class FinishRun(Value):
    """How a run ended."""

    state: Literal["finished", "failed", "killed"] = "finished"
    ended_ms: int | None = None


class Logged(Record):
    """How much was kept."""

    points: int
    parameters: int
    tags: int


class RunStarted(Event):
    """A run began."""

    run: str
    experiment: str
    name: str


class ParametersLogged(Event):
    """A run's parameters were set."""

    run: str
    parameters: dict[str, str]


class ArtifactLogged(Event):
    """A file was added to a run."""

    run: str
    path: str
    digest: str


class RunFinished(Event):
    """A run ended; `metrics` seals its last values."""

    run: str
    state: str
    duration_ms: int
    metrics: dict[str, float | str]


def check_key(key: str, path: str) -> str:
    """A parameter's, metric's or tag's name, if it is lawful. Raises `InvalidInput`."""
    if not key or len(key) > MAX_KEY:
        raise InvalidInput(f"a name has 1 to {MAX_KEY} characters, got {len(key)}", path=path)
    if any(ord(char) < 32 for char in key):
        raise InvalidInput(f"a name has no control characters, got {key!r}", path=path)
    return key


def check_artifact_path(path: str) -> str:
    """A relative path of plain names, if it is one. Raises `InvalidInput`.

    >>> check_artifact_path("plots/roc.svg")
    'plots/roc.svg'
    """
    if len(path) > MAX_KEY or not _PATH.fullmatch(path) or any(part.strip(". ") == "" for part in path.split("/")):
        raise InvalidInput(
            f"an artifact's path is plain names joined by '/', got {path[:100]!r}",
            path="path",
            remedy="Use letters, digits and ' ._+@=,()-' in each name; no '..', no leading '/'.",
        )
    return path


def parameter_text(value: Any, path: str) -> str:
    """A parameter as it is kept: text as it is, anything else as JSON would show it. Raises `InvalidInput`."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > MAX_VALUE:
        raise InvalidInput(
            f"a value has at most {MAX_VALUE:,} characters, got {len(text):,}",
            path=path,
            remedy="Log long texts as an artifact.",
        )
    return text


def number(value: float | str) -> float:
    """A point's value as a float."""
    return float(value)


def wire_number(value: float) -> float | SpecialNumber:
    """A float as JSON can hold it.

    >>> wire_number(float("nan")), wire_number(0.5)
    ('NaN', 0.5)
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def finite_or_none(value: float) -> float | None:
    """A float for places where "no number" is enough to say."""
    return value if math.isfinite(value) else None
