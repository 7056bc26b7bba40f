"""What pipelines are about: a graph of steps, runs of it, the state of each step in a run."""

from __future__ import annotations

from typing import Any, Literal

from salus.kernel.sql import Event
from salus.kernel.structs import Line, Record, Short, Value
from salus.pipelines.graph import Graph, OutputRef, Parameter

STEP_JOB = "pipeline_step"
RunState = Literal["running", "succeeded", "failed", "cancelled"]
StepState = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled"]


class Pipeline(Record):
    """A pipeline as it was deployed last; `revision` counts the deployments that changed it."""

    id: str
    workspace: str
    name: str
    revision: int
    description: str
    entrypoint: str
    project: str
    graph: Graph
    parameters: tuple[Parameter, ...]
    created_ms: int
    updated_ms: int


class PipelineRun(Record):
    """One execution of a pipeline; it keeps the graph it was started with."""

    id: str
    workspace: str
    pipeline: str
    revision: int
    graph: Graph
    parameters: dict[str, Any]
    state: RunState
    use_cache: bool
    trigger: str
    started_by: str
    created_ms: int
    finished_ms: int | None = None
    error: str | None = None
    idempotency_key: str | None = None


class StepRun(Record):
    """A step in a run. `outputs` are there once it succeeded; `error` says why it did not."""

    run_id: str
    step: str
    position: int
    state: StepState
    key: str | None = None
    cached: bool = False
    job_id: str | None = None
    outputs: dict[str, OutputRef] = {}
    error: str | None = None
    traceback: str | None = None
    log_tail: str | None = None
    attempts: int = 0
    progress_ratio: float | None = None
    progress_text: str | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None


class PipelineRunDetails(Record):
    """A run with its steps, in the order of the graph."""

    run: PipelineRun
    steps: list[StepRun]


class PipelineRunSummary(Record):
    """A run as a row of a table."""

    id: str
    pipeline: str
    state: RunState
    parameters: dict[str, Any]
    trigger: str
    started_by: str
    created_ms: int
    finished_ms: int | None
    error: str | None
    steps: int
    steps_done: int


class StartPipelineRun(Value):
    """A run to start. `trigger` is the ledger subject that caused it; the same `idempotency_key` starts
    one run."""

    parameters: dict[str, Any] = {}
    use_cache: bool = True
    trigger: Line = ""
    idempotency_key: Short | None = None


class PutSchedule(Value):
    """When a pipeline runs by itself (five cron fields, UTC), and with which parameters."""

    cron: str
    parameters: dict[str, Any] = {}


class StepResult(Value):
    """What a step gave."""

    outputs: dict[str, OutputRef]
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


class PipelineDeployed(Event):
    """A pipeline was deployed, or changed."""

    pipeline: str
    revision: int
    entrypoint: str


class PipelineRunStarted(Event):
    """A run of a pipeline began."""

    run: str
    pipeline: str
    parameters: dict[str, Any]
    trigger: str


class PipelineRunResumed(Event):
    """A failed or cancelled run goes on; the steps that had finished stay finished."""

    run: str
    pipeline: str


class StepFinished(Event):
    """A step of a run reached its end."""

    run: str
    pipeline: str
    step: str
    state: StepState
    cached: bool
    key: str | None
    attempts: int
    error: str | None = None


class ScheduleFailed(Event):
    """A schedule was due and its pipeline could not be started."""

    pipeline: str
    schedule: str
    error: str


class PipelineRunFinished(Event):
    """A run ended."""

    run: str
    pipeline: str
    state: RunState
    error: str | None = None
