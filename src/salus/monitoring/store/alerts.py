"""Alerts: the incidents, open and over."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.monitoring.model.alerts import Alert
from salus.monitoring.model.diagnoses import Diagnosis

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("endpoint", Name, nullable=False),
    sa.Column("model", Name, nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("cause", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("columns", Json(tuple[str, ...]), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("since_event_ms", Ms, nullable=False),
    sa.Column("window_start_ms", Ms, nullable=False),
    sa.Column("window_end_ms", Ms, nullable=False),
    sa.Column("diagnosis", Json(Diagnosis)),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
    sa.Column("quiet", sa.Integer, nullable=False),
    sa.Column("resolved_event_ms", Ms),
    sa.Column("resolved_reason", sa.Text, nullable=False),
    sa.Column("acknowledged_by", Name),
    sa.Column("acknowledged_ms", Ms),
    sa.Index("ix_alerts_endpoint", "workspace", "endpoint", "state"),
    sa.Index("ix_alerts_workspace", "workspace", "id"),
)


def save(tx: Transaction, alert: Alert) -> None:
    """Writes an alert, new or not."""
    values = {name: getattr(alert, name) for name in alert.__struct_fields__}
    if not tx.execute(sa.update(alerts).where(alerts.c.id == alert.id).values(**values)).rowcount:
        tx.execute(sa.insert(alerts).values(**values))


def drop(tx: Transaction, alert: Alert) -> None:
    """Forgets a suspicion that came to nothing."""
    tx.execute(sa.delete(alerts).where(alerts.c.id == alert.id, alerts.c.state == "pending"))


def open_at(reader: Reader, workspace: str, endpoint: str) -> dict[str, Alert]:
    """The endpoint's alerts that are pending or firing, by cause."""
    query = select_alerts(workspace).where(alerts.c.endpoint == endpoint, alerts.c.state.in_(("pending", "firing")))
    return {alert.cause: alert for alert in reader.records(Alert, query)}


def select_alerts(workspace: str) -> sa.Select[Any]:
    """The workspace's alerts, newest first."""
    return sa.select(alerts).where(alerts.c.workspace == workspace).order_by(alerts.c.id.desc())
