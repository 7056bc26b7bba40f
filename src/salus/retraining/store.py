"""How policies and retrainings are kept: tables and statements, no rules."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.retraining.model import OPEN, Comparison, Decision, Policy, PutPolicy, Retraining, RetrainingState, Trigger

policies = sa.Table(
    "retraining_policies",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("model", Name, primary_key=True),
    sa.Column("endpoint", Name, nullable=False),
    sa.Column("body", Json(PutPolicy), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
    sa.Column("updated_by", Name, nullable=False),
)

retrainings = sa.Table(
    "retrainings",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("model", Name, nullable=False),
    sa.Column("endpoint", Name, nullable=False),
    sa.Column("trigger", Json(Trigger), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("champion", sa.String(40), nullable=False),
    sa.Column("since_ms", Ms),
    sa.Column("until_ms", Ms, nullable=False),
    sa.Column("now_ms", Ms, nullable=False),
    sa.Column("excluded", Json(tuple[tuple[int, int], ...]), nullable=False),
    sa.Column("pipeline", Name, nullable=False),
    sa.Column("pipeline_run", Id),
    sa.Column("candidate", sa.String(40)),
    sa.Column("job", Id),
    sa.Column("comparison", Json(Comparison)),
    sa.Column("rollout", Id),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decisions", Json(tuple[Decision, ...]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
    sa.Index("ix_retrainings_model", "workspace", "model", "id"),
)


def find_policy(reader: Reader, workspace: str, model: str) -> Policy | None:
    """The model's policy, or None."""
    return reader.record(Policy, select_policies(workspace).where(policies.c.model == model))


def select_policies(workspace: str) -> sa.Select[Any]:
    """All policies by model."""
    return sa.select(policies).where(policies.c.workspace == workspace).order_by(policies.c.model)


def save_policy(tx: Transaction, policy: Policy) -> None:
    """Writes a policy, new or not."""
    values = {name: getattr(policy, name) for name in policy.__struct_fields__}
    known = (policies.c.workspace == policy.workspace, policies.c.model == policy.model)
    if not tx.execute(sa.update(policies).where(*known).values(**values)).rowcount:
        tx.execute(sa.insert(policies).values(**values))


def save(tx: Transaction, retraining: Retraining) -> None:
    """Writes a retraining, new or not."""
    values = {name: getattr(retraining, name) for name in retraining.__struct_fields__}
    if not tx.execute(sa.update(retrainings).where(retrainings.c.id == retraining.id).values(**values)).rowcount:
        tx.execute(sa.insert(retrainings).values(**values))


def select_retrainings(workspace: str, model: str | None = None) -> sa.Select[Any]:
    """Retrainings, newest first."""
    query = sa.select(retrainings).where(retrainings.c.workspace == workspace).order_by(retrainings.c.id.desc())
    return query if model is None else query.where(retrainings.c.model == model)


def open_one(reader: Reader, workspace: str, model: str) -> Retraining | None:
    """The model's retraining under way, or None."""
    query = select_retrainings(workspace, model).where(retrainings.c.state.in_(OPEN))
    return reader.record(Retraining, query)


def by(reader: Reader, workspace: str, column: str, value: str) -> Retraining | None:
    """The newest retraining whose `column` (pipeline_run, job, rollout) is `value`."""
    return reader.record(Retraining, select_retrainings(workspace).where(retrainings.c[column] == value))


def last(reader: Reader, workspace: str, model: str, state: RetrainingState | None = None) -> Retraining | None:
    """The model's newest retraining in `state`; without one, the newest that really began (one declined did not)."""
    wanted = retrainings.c.state != "declined" if state is None else retrainings.c.state == state
    query = select_retrainings(workspace, model).where(wanted)
    return reader.record(Retraining, query.limit(1))


def declined_for(reader: Reader, workspace: str, model: str, alert: str) -> bool:
    """Whether the record says already that this alert starts nothing."""
    query = select_retrainings(workspace, model).where(retrainings.c.state == "declined").limit(50)
    return any(found.trigger.alert == alert for found in reader.records(Retraining, query))
