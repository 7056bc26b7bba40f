"""How runs are kept: tables and statements, no rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.tracking.model import Artifact, Experiment, LatestMetric, Run, RunContext, finite_or_none

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.UniqueConstraint("workspace", "name"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("experiment_id", Id, sa.ForeignKey("experiments.id"), nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_by", Name, nullable=False),
    sa.Column("parent_run_id", Id),
    sa.Column("started_ms", Ms, nullable=False),
    sa.Column("ended_ms", Ms),
    sa.Column("context", Json(RunContext), nullable=False),
    sa.Index("ix_runs_workspace_experiment", "workspace", "experiment_id", "id"),
    sa.Index("ix_runs_workspace_id", "workspace", "id"),
)

run_parameters = sa.Table(
    "run_parameters",
    metadata,
    sa.Column("run_id", Id, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

run_tags = sa.Table(
    "run_tags",
    metadata,
    sa.Column("run_id", Id, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

metric_points = sa.Table(
    "metric_points",
    metadata,
    sa.Column("run_id", Id, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("special", sa.SmallInteger),
    sqlite_with_rowid=False,
)
"""`value` is null where the number is not finite; `special` then says which: 0 NaN, 1 infinity, -1 minus infinity."""

latest_metrics = sa.Table(
    "latest_metrics",
    metadata,
    sa.Column("run_id", Id, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("value", sa.Double),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Index("ix_latest_metrics_key_value", "key", "value"),
)

artifacts = sa.Table(
    "run_artifacts",
    metadata,
    sa.Column("run_id", Id, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("path", Name, primary_key=True),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
)

_SPECIALS = {0: math.nan, 1: math.inf, -1: -math.inf}


def find_experiment(reader: Reader, workspace: str, name: str) -> Experiment | None:
    """The experiment of that name."""
    query = sa.select(experiments).where(experiments.c.workspace == workspace, experiments.c.name == name)
    return reader.record(Experiment, query)


def select_experiments(workspace: str) -> sa.Select[Any]:
    """All experiments, newest first."""
    return sa.select(experiments).where(experiments.c.workspace == workspace).order_by(experiments.c.id.desc())


def select_run(workspace: str, run_id: str) -> sa.Select[Any]:
    """One run."""
    return sa.select(runs).where(runs.c.workspace == workspace, runs.c.id == run_id)


def select_runs(workspace: str, experiment_id: str | None, before: str | None, limit: int) -> sa.Select[Any]:
    """Runs, newest first, older than the run `before`."""
    query = sa.select(runs).where(runs.c.workspace == workspace).order_by(runs.c.id.desc()).limit(limit)
    if experiment_id is not None:
        query = query.where(runs.c.experiment_id == experiment_id)
    return query if before is None else query.where(runs.c.id < before)


def end_run(tx: Transaction, run: Run) -> None:
    """Writes the state and end of `run`."""
    tx.execute(sa.update(runs).where(runs.c.id == run.id).values(state=run.state, ended_ms=run.ended_ms))


def pairs(reader: Reader, table: sa.Table, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Key-value pairs (parameters or tags) by run."""
    found: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for row in reader.rows(sa.select(table).where(table.c.run_id.in_(run_ids)).order_by(table.c.key)):
        found[row["run_id"]][row["key"]] = row["value"]
    return found


def add_parameters(tx: Transaction, run_id: str, values: dict[str, str]) -> None:
    """Adds parameters that are not there yet."""
    rows = [{"run_id": run_id, "key": key, "value": value} for key, value in values.items()]
    if rows:
        tx.execute(sa.insert(run_parameters), rows)


def set_tags(tx: Transaction, run_id: str, values: dict[str, str]) -> None:
    """Sets tags, in place of those of the same names."""
    if values:
        tx.execute(sa.delete(run_tags).where(run_tags.c.run_id == run_id, run_tags.c.key.in_(list(values))))
        rows = [{"run_id": run_id, "key": key, "value": value} for key, value in values.items()]
        tx.execute(sa.insert(run_tags), rows)


def latest(
    reader: Reader, run_ids: Sequence[str], keys: Iterable[str] | None = None
) -> dict[str, dict[str, LatestMetric]]:
    """Last values by run and key."""
    query = sa.select(latest_metrics).where(latest_metrics.c.run_id.in_(run_ids)).order_by(latest_metrics.c.key)
    if keys is not None:
        query = query.where(latest_metrics.c.key.in_(list(keys)))
    found: dict[str, dict[str, LatestMetric]] = {run_id: {} for run_id in run_ids}
    for row in reader.rows(query):
        values = {name: value for name, value in row.items() if name != "run_id"}
        found[row["run_id"]][row["key"]] = LatestMetric(**values)
    return found


def set_latest(tx: Transaction, run_id: str, metrics: Sequence[LatestMetric], known: set[str]) -> None:
    """Writes last values; `known` are the keys that have a row already."""
    for metric in metrics:
        values = {name: getattr(metric, name) for name in metric.__struct_fields__}
        if metric.key in known:
            tx.execute(
                sa.update(latest_metrics)
                .where(latest_metrics.c.run_id == run_id, latest_metrics.c.key == metric.key)
                .values(**values)
            )
        else:
            tx.execute(sa.insert(latest_metrics).values(run_id=run_id, **values))


def add_points(tx: Transaction, run_id: str, points: Sequence[tuple[str, int, int, int, float]]) -> None:
    """Adds points `(key, seq, step, at_ms, value)`."""
    rows = [
        {
            "run_id": run_id,
            "key": key,
            "seq": seq,
            "step": step,
            "at_ms": at_ms,
            "value": finite_or_none(value),
            "special": None if math.isfinite(value) else 0 if math.isnan(value) else 1 if value > 0 else -1,
        }
        for key, seq, step, at_ms, value in points
    ]
    tx.execute(sa.insert(metric_points), rows)


def history(reader: Reader, run_id: str, key: str) -> list[tuple[int, int, float]]:
    """All points of a metric, by step, then time, then arrival: `(step, at_ms, value)`."""
    columns = metric_points.c
    query = (
        sa.select(columns.step, columns.at_ms, columns.value, columns.special)
        .where(columns.run_id == run_id, columns.key == key)
        .order_by(columns.step, columns.at_ms, columns.seq)
    )
    return [
        (row["step"], row["at_ms"], row["value"] if row["special"] is None else _SPECIALS[row["special"]])
        for row in reader.rows(query)
    ]


def list_artifacts(reader: Reader, run_id: str) -> list[Artifact]:
    """A run's artifacts by path."""
    columns = [artifacts.c[name] for name in Artifact.__struct_fields__]
    return reader.records(Artifact, sa.select(*columns).where(artifacts.c.run_id == run_id).order_by(artifacts.c.path))


def set_artifact(tx: Transaction, run_id: str, artifact: Artifact) -> None:
    """Adds an artifact, in place of one at the same path."""
    tx.execute(sa.delete(artifacts).where(artifacts.c.run_id == run_id, artifacts.c.path == artifact.path))
    values = {name: getattr(artifact, name) for name in artifact.__struct_fields__}
    tx.execute(sa.insert(artifacts).values(run_id=run_id, **values))
