"""What one can do with runs: one function for each use case, in the caller's transaction."""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel import lineage
from salus.kernel.content import check_digest
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.ids import new_id
from salus.kernel.sql import Reader, Transaction
from salus.tracking import store
from salus.tracking.model import (
    MAX_POINTS,
    MAX_STEP,
    Artifact,
    ArtifactLogged,
    CreateExperiment,
    Experiment,
    FinishRun,
    LatestMetric,
    LogBatch,
    Logged,
    MetricHistory,
    ParametersLogged,
    Point,
    Run,
    RunDetails,
    RunFinished,
    RunStarted,
    RunSummary,
    StartRun,
    check_artifact_path,
    check_key,
    finite_or_none,
    number,
    parameter_text,
    wire_number,
)
from salus.tracking.sampling import sample


def create_experiment(tx: Transaction, actor: Actor, body: CreateExperiment) -> Experiment:
    """The experiment of that name, made if it is not there."""
    check_key(body.name, "$.name")
    known = store.find_experiment(tx, actor.workspace, body.name)
    if known is not None:
        return known
    made = Experiment(id=new_id("exp"), workspace=actor.workspace, name=body.name, created_ms=tx.now_ms)
    tx.insert(store.experiments, made)
    return made


def list_experiments(reader: Reader, actor: Actor) -> list[Experiment]:
    """All experiments, newest first."""
    return reader.records(Experiment, store.select_experiments(actor.workspace))


def start_run(tx: Transaction, actor: Actor, body: StartRun) -> Run:
    """A new run, with its parameters and tags."""
    experiment = create_experiment(tx, actor, CreateExperiment(name=body.experiment))
    if body.parent_run_id is not None:
        get_run(tx, actor, body.parent_run_id)
    run_id = new_id("run")
    run = Run(
        id=run_id,
        workspace=actor.workspace,
        experiment_id=experiment.id,
        name=check_key(body.name or run_id[-8:], "$.name"),
        state="running",
        created_by=actor.principal,
        parent_run_id=body.parent_run_id,
        started_ms=body.started_ms or tx.now_ms,
        ended_ms=None,
        context=body.context,
    )
    tx.insert(store.runs, run)
    tx.emit(actor, f"run:{run_id}", RunStarted(run=run_id, experiment=experiment.name, name=run.name), after=run)
    for upstream in body.context.inputs:
        lineage.link(tx, actor, upstream=upstream, downstream=f"run:{run_id}", relation="trained_on")
    if body.context.pipeline_run:
        made_by = f"pipeline_run:{body.context.pipeline_run}"
        lineage.link(tx, actor, upstream=made_by, downstream=f"run:{run_id}", relation="produced")
    log_parameters(tx, actor, run, body.parameters)
    _set_tags(tx, run, body.tags)
    return run


def get_run(reader: Reader, actor: Actor, run_id: str) -> Run:
    """The run. Raises `NotFound`."""
    return reader.one(Run, store.select_run(actor.workspace, run_id), what=f"run {run_id}")


def describe_run(reader: Reader, actor: Actor, run_id: str) -> RunDetails:
    """The run with all that hangs on it. Raises `NotFound`."""
    run = get_run(reader, actor, run_id)
    experiment = next(e for e in list_experiments(reader, actor) if e.id == run.experiment_id)
    return RunDetails(
        run=run,
        experiment=experiment.name,
        parameters=store.pairs(reader, store.run_parameters, [run_id])[run_id],
        tags=store.pairs(reader, store.run_tags, [run_id])[run_id],
        metrics=list(store.latest(reader, [run_id])[run_id].values()),
        artifacts=store.list_artifacts(reader, run_id),
    )


def list_runs(
    reader: Reader, actor: Actor, *, experiment: str | None, before: str | None, limit: int
) -> list[RunSummary]:
    """Runs, newest first; only those of `experiment`, if named. Raises `NotFound` for an unknown experiment."""
    experiment_id = None
    if experiment is not None:
        found = store.find_experiment(reader, actor.workspace, experiment)
        if found is None:
            raise NotFound(f"there is no experiment {experiment!r}", path="experiment")
        experiment_id = found.id
    runs = reader.records(Run, store.select_runs(actor.workspace, experiment_id, before, limit))
    ids = [run.id for run in runs]
    parameters = store.pairs(reader, store.run_parameters, ids)
    tags = store.pairs(reader, store.run_tags, ids)
    metrics = store.latest(reader, ids)
    return [
        RunSummary(
            run=run,
            parameters=parameters[run.id],
            tags=tags[run.id],
            metrics={key: metric.value for key, metric in metrics[run.id].items()},
        )
        for run in runs
    ]


def log(tx: Transaction, actor: Actor, run_id: str, body: LogBatch) -> Logged:
    """Adds points, parameters and tags to a run that is running; all or nothing.

    Metric points are observations, not changes of state: they get no event each. `RunFinished` seals the last values.

    Raises:
        NotFound: no such run.
        InvalidInput: a key, value or step breaks its law; `path` names it.
        Conflict: the run has ended, or a parameter is set already to another value.
    """
    run = _running(tx, actor, run_id)
    if len(body.points) > MAX_POINTS:
        raise InvalidInput(
            f"a batch has at most {MAX_POINTS:,} points, got {len(body.points):,}",
            path="$.points",
            remedy="Send them in several batches.",
        )
    for index, point in enumerate(body.points):
        check_key(point.key, f"$.points[{index}].key")
        if not -MAX_STEP - 1 <= point.step <= MAX_STEP:
            raise InvalidInput(f"a step has 64 bits, got {point.step}", path=f"$.points[{index}].step")
    if body.points:
        _add_points(tx, run, body.points)
    log_parameters(tx, actor, run, body.parameters)
    _set_tags(tx, run, body.tags)
    return Logged(points=len(body.points), parameters=len(body.parameters), tags=len(body.tags))


def log_parameters(tx: Transaction, actor: Actor, run: Run, values: dict[str, Any]) -> None:
    """Sets parameters, once each: a parameter that could change would not say how the run was made."""
    wanted = {
        check_key(key, f"$.parameters.{key[:40]}"): parameter_text(value, f"$.parameters.{key[:40]}")
        for key, value in values.items()
    }
    if not wanted:
        return
    known = store.pairs(tx, store.run_parameters, [run.id])[run.id]
    for key, value in wanted.items():
        if known.get(key, value) != value:
            raise Conflict(
                f"the parameter {key!r} of run {run.id} is {known[key]!r} already, got {value!r}",
                path=f"$.parameters.{key}",
                remedy="A parameter is set once. Start a new run for other parameters, or use a tag.",
            )
    fresh = {key: value for key, value in wanted.items() if key not in known}
    store.add_parameters(tx, run.id, fresh)
    if fresh:
        tx.emit(actor, f"run:{run.id}", ParametersLogged(run=run.id, parameters=fresh))


def finish_run(tx: Transaction, actor: Actor, run_id: str, body: FinishRun) -> Run:
    """Ends the run. Ending it again the same way changes nothing; another way is a `Conflict`."""
    run = get_run(tx, actor, run_id)
    if run.ended:
        if run.state == body.state:
            return run
        raise Conflict(f"run {run_id} has ended as {run.state} already, got {body.state}", path="$.state")
    ended = msgspec.structs.replace(run, state=body.state, ended_ms=body.ended_ms or tx.now_ms)
    store.end_run(tx, ended)
    metrics = store.latest(tx, [run_id])[run_id]
    tx.emit(
        actor,
        f"run:{run_id}",
        RunFinished(
            run=run_id,
            state=ended.state,
            duration_ms=(ended.ended_ms or 0) - run.started_ms,
            metrics={key: "NaN" if m.value is None else m.value for key, m in metrics.items()},
        ),
        before=run,
        after=ended,
    )
    return ended


def add_artifact(tx: Transaction, actor: Actor, run_id: str, *, path: str, digest: str, size_bytes: int) -> Artifact:
    """Adds a stored blob to a run as a file; a file at the same path gives way."""
    run = get_run(tx, actor, run_id)
    artifact = Artifact(
        path=check_artifact_path(path),
        digest=check_digest(digest),
        size_bytes=size_bytes,
        created_ms=tx.now_ms,
    )
    store.set_artifact(tx, run.id, artifact)
    tx.emit(actor, f"run:{run_id}", ArtifactLogged(run=run_id, path=path, digest=digest))
    return artifact


def list_artifacts(reader: Reader, actor: Actor, run_id: str) -> list[Artifact]:
    """The run's files by path."""
    return store.list_artifacts(reader, get_run(reader, actor, run_id).id)


def get_artifact(reader: Reader, actor: Actor, run_id: str, path: str) -> Artifact:
    """One file of a run. Raises `NotFound`."""
    for artifact in list_artifacts(reader, actor, run_id):
        if artifact.path == path:
            return artifact
    raise NotFound(f"run {run_id} has no artifact {path!r}", remedy=f"List them: GET /api/v1/runs/{run_id}")


def metric_history(reader: Reader, actor: Actor, run_id: str, key: str, max_points: int | None) -> MetricHistory:
    """The points of a metric; a sample that keeps the curve's shape when there are more than `max_points`."""
    get_run(reader, actor, run_id)
    points = store.history(reader, run_id, key)
    if not points:
        raise NotFound(f"run {run_id} has no metric {key!r}", path="key")
    chosen = points if max_points is None else sample(points, max_points)
    return MetricHistory(
        key=key,
        total=len(points),
        points=[(step, at_ms, wire_number(value)) for step, at_ms, value in chosen],
    )


def _running(reader: Reader, actor: Actor, run_id: str) -> Run:
    run = get_run(reader, actor, run_id)
    if run.ended:
        raise Conflict(f"run {run_id} has ended ({run.state})", remedy="Start a new run, or a child run of this one.")
    return run


def _set_tags(tx: Transaction, run: Run, values: dict[str, str]) -> None:
    for key, value in values.items():
        check_key(key, f"$.tags.{key[:40]}")
        parameter_text(value, f"$.tags.{key[:40]}")
    store.set_tags(tx, run.id, values)


def _add_points(tx: Transaction, run: Run, points: list[Point]) -> None:
    now_ms = tx.now_ms
    last = store.latest(tx, [run.id], {point.key for point in points})[run.id]
    known = set(last)
    rows = []
    for point in points:
        value = number(point.value)
        at_ms = now_ms if point.at_ms is None else point.at_ms
        before = last.get(point.key)
        rows.append((point.key, before.points if before else 0, point.step, at_ms, value))
        last[point.key] = _follow(before, point.key, value, point.step, at_ms)
    store.add_points(tx, run.id, rows)
    store.set_latest(tx, run.id, list(last.values()), known)


def _follow(before: LatestMetric | None, key: str, value: float, step: int, at_ms: int) -> LatestMetric:
    shown = finite_or_none(value)
    if before is None:
        return LatestMetric(key=key, value=shown, step=step, at_ms=at_ms, low=shown, high=shown, points=1)
    newest = (step, at_ms) >= (before.step, before.at_ms)
    known = [number for number in (before.low, before.high, shown) if number is not None]
    return LatestMetric(
        key=key,
        value=shown if newest else before.value,
        step=step if newest else before.step,
        at_ms=at_ms if newest else before.at_ms,
        low=min(known, default=None),
        high=max(known, default=None),
        points=before.points + 1,
    )
