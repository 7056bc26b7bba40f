"""How pipelines and their runs are kept: tables and statements, no rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from salus.kernel import jobs
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.pipelines.graph import Graph, OutputRef, Parameter
from salus.pipelines.model import Pipeline, PipelineRun, StepRun

pipelines = sa.Table(
    "pipelines",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("entrypoint", sa.String(512), nullable=False),
    sa.Column("project", sa.String(512), nullable=False),
    sa.Column("graph", Json(Graph), nullable=False),
    sa.Column("parameters", Json(tuple[Parameter, ...]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
    sa.UniqueConstraint("workspace", "name"),
)

pipeline_runs = sa.Table(
    "pipeline_runs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("pipeline", Name, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("graph", Json(Graph), nullable=False),
    sa.Column("parameters", Json(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("use_cache", sa.Boolean, nullable=False),
    sa.Column("trigger", sa.String(512), nullable=False),
    sa.Column("started_by", Name, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("finished_ms", Ms),
    sa.Column("error", sa.Text),
    sa.Column("idempotency_key", Name),
    sa.UniqueConstraint("workspace", "pipeline", "idempotency_key"),
    sa.Index("ix_pipeline_runs_pipeline", "workspace", "pipeline", "id"),
    sa.Index("ix_pipeline_runs_recent", "workspace", "id"),
)

step_runs = sa.Table(
    "step_runs",
    metadata,
    sa.Column("run_id", Id, sa.ForeignKey("pipeline_runs.id"), primary_key=True),
    sa.Column("step", Name, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("key", sa.String(80)),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("job_id", Id),
    sa.Column("outputs", Json(dict[str, OutputRef]), nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("cpu_s", sa.Float),
    sa.Column("peak_memory_bytes", sa.BigInteger),
    sa.Column("started_ms", Ms),
    sa.Column("finished_ms", Ms),
)

step_results = sa.Table(
    "step_results",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("key", sa.String(80), primary_key=True),
    sa.Column("run_id", Id, nullable=False),
    sa.Column("step", Name, nullable=False),
    sa.Column("outputs", Json(dict[str, OutputRef]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
)

_OF_JOB = ("progress_ratio", "progress_text", "log_tail")
_OF_BOTH = ("state", "attempts", "started_ms")


def select_pipelines(workspace: str) -> sa.Select[Any]:
    """All pipelines by name."""
    return sa.select(pipelines).where(pipelines.c.workspace == workspace).order_by(pipelines.c.name)


def find_pipeline(reader: Reader, workspace: str, name: str) -> Pipeline | None:
    """The pipeline of that name."""
    return reader.record(Pipeline, select_pipelines(workspace).where(pipelines.c.name == name))


def replace_pipeline(tx: Transaction, pipeline: Pipeline) -> None:
    """Writes all fields of a pipeline that is there."""
    values = {name: getattr(pipeline, name) for name in pipeline.__struct_fields__ if name != "id"}
    tx.execute(sa.update(pipelines).where(pipelines.c.id == pipeline.id).values(**values))


def find_by_key(reader: Reader, workspace: str, pipeline: str, key: str) -> PipelineRun | None:
    """The run that was started under an idempotency key."""
    columns = pipeline_runs.c
    query = sa.select(pipeline_runs).where(
        columns.workspace == workspace, columns.pipeline == pipeline, columns.idempotency_key == key
    )
    return reader.record(PipelineRun, query)


def select_run(workspace: str, run_id: str) -> sa.Select[Any]:
    """One run."""
    return sa.select(pipeline_runs).where(pipeline_runs.c.workspace == workspace, pipeline_runs.c.id == run_id)


def select_runs(workspace: str, pipeline: str | None, before: str | None, limit: int) -> sa.Select[Any]:
    """Runs, newest first, older than the run `before`."""
    columns = pipeline_runs.c
    query = sa.select(pipeline_runs).where(columns.workspace == workspace).order_by(columns.id.desc())
    if pipeline is not None:
        query = query.where(columns.pipeline == pipeline)
    return (query if before is None else query.where(columns.id < before)).limit(limit)


def change_run(tx: Transaction, run_id: str, **values: Any) -> None:
    """Writes `values` to a run."""
    tx.execute(sa.update(pipeline_runs).where(pipeline_runs.c.id == run_id).values(**values))


def change_step(tx: Transaction, step: StepRun, **values: Any) -> None:
    """Writes `values` to a step of a run."""
    of_step = (step_runs.c.run_id == step.run_id, step_runs.c.step == step.step)
    tx.execute(sa.update(step_runs).where(*of_step).values(**values))


def steps_of(reader: Reader, run_id: str) -> list[StepRun]:
    """A run's steps as they are recorded, in the order of the graph."""
    query = sa.select(step_runs).where(step_runs.c.run_id == run_id).order_by(step_runs.c.position)
    return reader.records(StepRun, query)


def live_steps_of(reader: Reader, run_id: str) -> list[StepRun]:
    """The same; a step whose job is under way shows how far the job is."""
    query = (
        sa.select(
            *(column for column in step_runs.c if column.name not in _OF_BOTH),
            *(jobs.table.c[name] for name in _OF_JOB),
            sa.func.coalesce(jobs.table.c.started_ms, step_runs.c.started_ms).label("started_ms"),
            sa.func.coalesce(jobs.table.c.epoch, step_runs.c.attempts).label("attempts"),
            sa.case(
                (sa.and_(step_runs.c.state == "queued", jobs.table.c.state == "running"), "running"),
                else_=step_runs.c.state,
            ).label("state"),
        )
        .select_from(step_runs.outerjoin(jobs.table, jobs.table.c.id == step_runs.c.job_id))
        .where(step_runs.c.run_id == run_id)
        .order_by(step_runs.c.position)
    )
    return reader.records(StepRun, query)


def replace_steps(tx: Transaction, run_id: str, steps: Sequence[StepRun]) -> None:
    """Writes `steps` in place of all that the run has."""
    tx.execute(sa.delete(step_runs).where(step_runs.c.run_id == run_id))
    names = [column.name for column in step_runs.c]
    tx.execute(sa.insert(step_runs), [{name: getattr(step, name) for name in names} for step in steps])


def count_steps(reader: Reader, run_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By run: how many steps it has, and how many of them succeeded."""
    columns = step_runs.c
    succeeded = sa.func.sum(sa.case((columns.state == "succeeded", 1), else_=0))
    query = (
        sa.select(columns.run_id, sa.func.count().label("total"), succeeded.label("done"))
        .where(columns.run_id.in_(run_ids))
        .group_by(columns.run_id)
    )
    return {row["run_id"]: (row["total"], int(row["done"])) for row in reader.rows(query)}


def find_result(reader: Reader, workspace: str, key: str) -> dict[str, OutputRef] | None:
    """The outputs that a step with this key gave before."""
    columns = step_results.c
    found: dict[str, OutputRef] | None = reader.value(
        sa.select(columns.outputs).where(columns.workspace == workspace, columns.key == key)
    )
    return found


def keep_result(tx: Transaction, workspace: str, key: str, step: StepRun, outputs: dict[str, OutputRef]) -> None:
    """Keeps a result for other runs, in place of an older one with the same key."""
    columns = step_results.c
    tx.execute(sa.delete(step_results).where(columns.workspace == workspace, columns.key == key))
    tx.execute(
        sa.insert(step_results).values(
            workspace=workspace,
            key=key,
            run_id=step.run_id,
            step=step.step,
            outputs=outputs,
            created_ms=tx.now_ms,
        )
    )
