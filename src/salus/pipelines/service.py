"""What one can do with pipelines and their runs: one function for each use case, in the caller's
transaction."""

from __future__ import annotations

import msgspec

from salus.kernel import jobs, lineage, schedules
from salus.kernel.errors import Conflict, InvalidInput, NotFound, SalusError
from salus.kernel.identity import Actor, system
from salus.kernel.ids import new_id
from salus.kernel.schedules import Firing, Schedule
from salus.kernel.sql import Reader, Transaction
from salus.pipelines import progression, store
from salus.pipelines.graph import Graph, OutputRef, PutPipeline, check_graph, check_parameters
from salus.pipelines.model import (
    Pipeline,
    PipelineDeployed,
    PipelineRun,
    PipelineRunDetails,
    PipelineRunResumed,
    PipelineRunStarted,
    PipelineRunSummary,
    PutSchedule,
    ScheduleFailed,
    StartPipelineRun,
    StepRun,
)

SCHEDULE_PREFIX = "pipeline:"


def put_pipeline(tx: Transaction, actor: Actor, name: str, body: PutPipeline) -> Pipeline:
    """Deploys a pipeline. What is there already under the name is replaced; runs under way keep their
    graph."""
    if not 1 <= len(name) <= 255:
        raise InvalidInput(f"a pipeline's name has 1 to 255 characters, got {len(name)}", path="name")
    check_graph(body.graph, body.parameters)
    known = store.find_pipeline(tx, actor.workspace, name)
    pipeline = Pipeline(
        id=new_id("ppl") if known is None else known.id,
        workspace=actor.workspace,
        name=name,
        revision=1 if known is None else known.revision + 1,
        description=body.description,
        entrypoint=body.entrypoint,
        project=body.project,
        graph=body.graph,
        parameters=body.parameters,
        created_ms=tx.now_ms if known is None else known.created_ms,
        updated_ms=tx.now_ms,
    )
    if known is None:
        tx.insert(store.pipelines, pipeline)
    elif _said(known) == _said(pipeline):
        return known
    else:
        store.replace_pipeline(tx, pipeline)
    news = PipelineDeployed(pipeline=name, revision=pipeline.revision, entrypoint=pipeline.entrypoint)
    tx.emit(actor, f"pipeline:{name}", news, before=known, after=pipeline)
    return pipeline


def _said(pipeline: Pipeline) -> Pipeline:
    return msgspec.structs.replace(pipeline, revision=0, updated_ms=0)


def list_pipelines(reader: Reader, actor: Actor) -> list[Pipeline]:
    """All pipelines by name."""
    return reader.records(Pipeline, store.select_pipelines(actor.workspace))


def get_pipeline(reader: Reader, actor: Actor, name: str) -> Pipeline:
    """The pipeline. Raises `NotFound`."""
    found = store.find_pipeline(reader, actor.workspace, name)
    if found is None:
        raise NotFound(f"there is no pipeline {name!r}", remedy="Deploy it first: salus pipelines deploy PATH:FUNC")
    return found


def start_run(tx: Transaction, actor: Actor, name: str, body: StartPipelineRun) -> PipelineRun:
    """Starts a run: its first steps are queued when the transaction commits.

    The same `idempotency_key` for the same pipeline gives the run that was started first.
    """
    pipeline = get_pipeline(tx, actor, name)
    if body.idempotency_key is not None:
        known = store.find_by_key(tx, actor.workspace, name, body.idempotency_key)
        if known is not None:
            return known
    run = PipelineRun(
        id=new_id("plr"),
        workspace=actor.workspace,
        pipeline=name,
        revision=pipeline.revision,
        graph=pipeline.graph,
        parameters=check_parameters(pipeline.parameters, body.parameters),
        state="running",
        use_cache=body.use_cache,
        trigger=body.trigger,
        started_by=actor.principal,
        created_ms=tx.now_ms,
        idempotency_key=body.idempotency_key,
    )
    tx.insert(store.pipeline_runs, run)
    store.replace_steps(tx, run.id, _waiting(run.id, run.graph))
    news = PipelineRunStarted(run=run.id, pipeline=name, parameters=run.parameters, trigger=run.trigger)
    tx.emit(actor, f"pipeline_run:{run.id}", news, after=run)
    if run.trigger:
        lineage.link(tx, actor, upstream=run.trigger, downstream=f"pipeline_run:{run.id}", relation="triggered")
    progression.advance(tx, actor, run)
    return get_run(tx, actor, run.id)


def _waiting(run_id: str, graph: Graph) -> list[StepRun]:
    return [
        StepRun(run_id=run_id, step=node.name, position=position, state="waiting")
        for position, node in enumerate(graph.steps)
    ]


def get_run(reader: Reader, actor: Actor, run_id: str) -> PipelineRun:
    """The run. Raises `NotFound`."""
    return reader.one(PipelineRun, store.select_run(actor.workspace, run_id), what=f"pipeline run {run_id}")


def describe_run(reader: Reader, actor: Actor, run_id: str) -> PipelineRunDetails:
    """The run with its steps as they are now."""
    return PipelineRunDetails(run=get_run(reader, actor, run_id), steps=store.live_steps_of(reader, run_id))


def list_runs(
    reader: Reader, actor: Actor, *, pipeline: str | None = None, before: str | None = None, limit: int = 100
) -> list[PipelineRunSummary]:
    """Runs, newest first."""
    found = reader.records(PipelineRun, store.select_runs(actor.workspace, pipeline, before, limit))
    counts = store.count_steps(reader, [run.id for run in found])
    return [_summary(run, *counts[run.id]) for run in found]


def _summary(run: PipelineRun, steps: int, done: int) -> PipelineRunSummary:
    return PipelineRunSummary(
        id=run.id,
        pipeline=run.pipeline,
        state=run.state,
        parameters=run.parameters,
        trigger=run.trigger,
        started_by=run.started_by,
        created_ms=run.created_ms,
        finished_ms=run.finished_ms,
        error=run.error,
        steps=steps,
        steps_done=done,
    )


def cancel_run(tx: Transaction, actor: Actor, run_id: str) -> PipelineRunDetails:
    """Cancels a run: queued steps never start, running ones are stopped at their next heartbeat.

    Raises:
        Conflict: the run is over.
    """
    run = get_run(tx, actor, run_id)
    if run.state == "cancelled":
        return describe_run(tx, actor, run_id)
    if run.state != "running":
        raise Conflict(f"{run_id} is over ({run.state}): it cannot be cancelled")
    progression.halt(tx, store.steps_of(tx, run_id), running_too=True)
    for step in store.steps_of(tx, run_id):
        if step.state == "waiting":
            store.change_step(tx, step, state="cancelled")
    progression.end_run(tx, actor, run, "cancelled", f"cancelled by {actor.principal}")
    return describe_run(tx, actor, run_id)


def resume_run(tx: Transaction, actor: Actor, run_id: str) -> PipelineRunDetails:
    """Lets a failed or cancelled run go on, with the pipeline as it is deployed now.

    A finished step whose key is still the same is kept; a step whose code, inputs or parameters changed, and
    what comes after it, runs again.

    Raises:
        Conflict: the run is running or has succeeded.
    """
    old = get_run(tx, actor, run_id)
    if old.state not in ("failed", "cancelled"):
        raise Conflict(f"only a failed or cancelled run can be resumed, {run_id} is {old.state}")
    pipeline = get_pipeline(tx, actor, old.pipeline)
    names = {parameter.name for parameter in pipeline.parameters}
    kept = {name: value for name, value in old.parameters.items() if name in names}
    run = msgspec.structs.replace(
        old,
        state="running",
        error=None,
        finished_ms=None,
        graph=pipeline.graph,
        revision=pipeline.revision,
        parameters=check_parameters(pipeline.parameters, kept),
    )
    store.replace_steps(tx, run_id, _resumable(tx, run))
    changes = ("state", "error", "finished_ms", "graph", "revision", "parameters")
    store.change_run(tx, run_id, **{name: getattr(run, name) for name in changes})
    news = PipelineRunResumed(run=run_id, pipeline=run.pipeline)
    tx.emit(actor, f"pipeline_run:{run_id}", news, before=old.state, after="running")
    progression.advance(tx, actor, run)
    return describe_run(tx, actor, run_id)


def _resumable(tx: Transaction, run: PipelineRun) -> list[StepRun]:
    """The steps to go on with: recorded ones whose key holds, fresh ones for all others."""
    recorded = {step.step: step for step in store.steps_of(tx, run.id)}
    outputs: dict[str, dict[str, OutputRef]] = {}
    steps = []
    for fresh, node in zip(_waiting(run.id, run.graph), run.graph.steps, strict=True):
        old = recorded.pop(node.name, None)
        key = None
        if node.upstream <= outputs.keys():
            _, key = progression.bound_step(node, run.parameters, outputs)
        if old is None or key is None or old.key != key or not _goes_on(tx, old):
            _drop(tx, old)
            steps.append(fresh)
            continue
        if old.state == "succeeded":
            outputs[node.name] = old.outputs
        steps.append(msgspec.structs.replace(old, position=fresh.position))
    for vanished in recorded.values():
        _drop(tx, vanished)
    return steps


def _goes_on(tx: Transaction, step: StepRun) -> bool:
    if step.state == "queued" and step.job_id is not None:
        return not jobs.get(tx, step.job_id).cancel_requested
    return step.state == "succeeded"


def _drop(tx: Transaction, step: StepRun | None) -> None:
    if step is not None and step.job_id is not None:
        jobs.cancel(tx, step.job_id)


def put_schedule(tx: Transaction, actor: Actor, name: str, schedule: str, body: PutSchedule) -> Schedule:
    """Lets the pipeline run by the clock (UTC). Moments missed while the server was down are made up for
    once."""
    if not 1 <= len(schedule) <= 255:
        raise InvalidInput(f"a schedule's name has 1 to 255 characters, got {len(schedule)}", path="schedule")
    pipeline = get_pipeline(tx, actor, name)
    check_parameters(pipeline.parameters, body.parameters)
    subject = SCHEDULE_PREFIX + name
    return schedules.put(tx, actor.workspace, subject, schedule, body.cron, body.parameters)


def list_schedules(reader: Reader, actor: Actor, name: str) -> list[Schedule]:
    """A pipeline's schedules by name."""
    get_pipeline(reader, actor, name)
    return schedules.of_subject(reader, actor.workspace, SCHEDULE_PREFIX + name)


def remove_schedule(tx: Transaction, actor: Actor, name: str, schedule: str) -> Schedule:
    """Ends a schedule. Raises `NotFound`."""
    found = schedules.find(tx, actor.workspace, SCHEDULE_PREFIX + name, schedule)
    if found is None:
        raise NotFound(f"the pipeline {name!r} has no schedule {schedule!r}")
    schedules.remove(tx, found)
    return found


def start_due(tx: Transaction) -> int:
    """Starts the runs of all schedules that are due; returns how many were due."""
    firings = schedules.take_due(tx, SCHEDULE_PREFIX)
    for firing in firings:
        _fire(tx, firing)
    return len(firings)


def _fire(tx: Transaction, firing: Firing) -> None:
    schedule = firing.schedule
    actor = system("scheduler", schedule.workspace)
    name = schedule.subject.removeprefix(SCHEDULE_PREFIX)
    body = StartPipelineRun(
        parameters=schedule.payload,
        trigger=f"schedule:{name}/{schedule.name}",
        idempotency_key=f"{schedule.id}:{firing.due_ms}",
    )
    try:
        start_run(tx, actor, name, body)
    except SalusError as error:
        news = ScheduleFailed(pipeline=name, schedule=schedule.name, error=str(error))
        tx.emit(actor, f"pipeline:{name}", news)
