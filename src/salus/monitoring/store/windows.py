"""Windows: one row for each endpoint, revision, role and start."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from salus.kernel.sql import Json, Ms, Name, Reader, Transaction, metadata
from salus.monitoring.model.windows import Window

windows = sa.Table(
    "monitoring_windows",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("revision", Name, primary_key=True),
    sa.Column("start_ms", Ms, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("broken", sa.Boolean, nullable=False),
    sa.Column("content", Json(Window), nullable=False),
    sa.Index("ix_monitoring_windows_start", "workspace", "endpoint", "start_ms"),
)


def save(tx: Transaction, window: Window) -> None:
    """Writes a window, in place of what was known of it."""
    key = {name: getattr(window, name) for name in ("workspace", "endpoint", "role", "revision", "start_ms")}
    values = {"state": window.state, "broken": bool(window.broken), "content": window}
    known = [windows.c[name] == value for name, value in key.items()]
    if not tx.execute(sa.update(windows).where(*known).values(**values)).rowcount:
        tx.execute(sa.insert(windows).values(**key, **values))


def between(
    reader: Reader,
    workspace: str,
    endpoint: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int = 5_000,
) -> list[Window]:
    """Windows that start in [from_ms, to_ms), of live answers and shadows, oldest first; the newest `limit` of them."""
    query = _of(workspace, endpoint)
    if from_ms is not None:
        query = query.where(windows.c.start_ms >= from_ms)
    if to_ms is not None:
        query = query.where(windows.c.start_ms < to_ms)
    return _read(reader, query.order_by(windows.c.start_ms.desc()).limit(limit))[::-1]


def latest(reader: Reader, workspace: str, endpoint: str, *, limit: int, mature: bool = False) -> list[Window]:
    """The newest live windows, oldest first."""
    query = _of(workspace, endpoint).where(windows.c.role == "live")
    if mature:
        query = query.where(windows.c.state == "mature")
    return _read(reader, query.order_by(windows.c.start_ms.desc()).limit(limit))[::-1]


def live_at(reader: Reader, workspace: str, endpoint: str, start_ms: int) -> Window | None:
    """The live window that starts then, or None."""
    query = _of(workspace, endpoint).where(windows.c.role == "live", windows.c.start_ms == start_ms)
    found = _read(reader, query)
    return found[0] if found else None


def broken_starts(reader: Reader, workspace: str, endpoint: str) -> list[tuple[int, int]]:
    """Start and end of the live windows with broken input, oldest first."""
    query = _of(workspace, endpoint).where(windows.c.role == "live", windows.c.broken.is_(True))
    return [(w.start_ms, w.end_ms) for w in _read(reader, query.order_by(windows.c.start_ms))]


def _of(workspace: str, endpoint: str) -> sa.Select[Any]:
    return sa.select(windows.c.content).where(windows.c.workspace == workspace, windows.c.endpoint == endpoint)


def _read(reader: Reader, query: sa.Select[Any]) -> list[Window]:
    return [row[0] for row in reader.execute(query)]
