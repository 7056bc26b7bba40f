"""Watches, what they have learned, and the marks on their charts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from salus.kernel.sql import Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record
from salus.monitoring.model.diagnoses import Diagnosis
from salus.monitoring.model.watches import Annotation, ReferenceSource, Watch, WatchSettings
from salus.monitoring.reference import Profile, State

watches = sa.Table(
    "watches",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("model", Name, nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("revision", Name, nullable=False),
    sa.Column("task", sa.String(16), nullable=False),
    sa.Column("settings", Json(WatchSettings), nullable=False),
    sa.Column("reference", Json(ReferenceSource), nullable=False),
    sa.Column("since_ms", Ms),
    sa.Column("window_ms", Ms),
    sa.Column("label_delay_ms", Ms),
    sa.Column("next_ms", Ms),
    sa.Column("mature_ms", Ms),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("condition", sa.String(16), nullable=False),
    sa.Column("diagnosis", Json(Diagnosis)),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

traffic = sa.Table(
    "watch_traffic",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("first_ms", Ms, nullable=False),
    sa.Column("watermark_ms", Ms, nullable=False),
    sa.Column("labels", sa.BigInteger, nullable=False),
)

memories = sa.Table(
    "watch_memories",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("profile", Json(Profile)),
    sa.Column("state", Json(State), nullable=False),
)

marks = sa.Table(
    "watch_marks",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("event_ms", Ms, nullable=False),
    sa.Column("kind", Name, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("subject", sa.String(512), nullable=False),
)


class Traffic(Record):
    """What has come in at an endpoint: rows, the span of their event times, labels."""

    workspace: str
    endpoint: str
    rows: int
    first_ms: int
    watermark_ms: int
    labels: int


class Memory(Record):
    """What a watch has learned (None: not yet) and remembers."""

    workspace: str
    endpoint: str
    profile: Profile | None
    state: State


def select_watches(workspace: str | None = None) -> sa.Select[tuple[object, ...]]:
    """All watches by workspace and name."""
    query = sa.select(watches).order_by(watches.c.workspace, watches.c.endpoint)
    return query if workspace is None else query.where(watches.c.workspace == workspace)


def find(reader: Reader, workspace: str, endpoint: str) -> Watch | None:
    """The endpoint's watch, or None."""
    return reader.record(Watch, select_watches(workspace).where(watches.c.endpoint == endpoint))


def save(tx: Transaction, watch: Watch) -> None:
    """Writes a watch, new or not."""
    values = {name: getattr(watch, name) for name in watch.__struct_fields__}
    known = (watches.c.workspace == watch.workspace, watches.c.endpoint == watch.endpoint)
    if not tx.execute(sa.update(watches).where(*known).values(**values)).rowcount:
        tx.execute(sa.insert(watches).values(**values))


def memory_of(reader: Reader, workspace: str, endpoint: str) -> Memory:
    """What the watch has learned; nothing where it has not begun."""
    query = sa.select(memories).where(memories.c.workspace == workspace, memories.c.endpoint == endpoint)
    return reader.record(Memory, query) or Memory(workspace=workspace, endpoint=endpoint, profile=None, state=State())


def save_memory(tx: Transaction, memory: Memory, *, with_profile: bool) -> None:
    """Writes what is remembered; the profile only where it changed."""
    known = (memories.c.workspace == memory.workspace, memories.c.endpoint == memory.endpoint)
    values: dict[str, object] = {"state": memory.state}
    if with_profile:
        values["profile"] = memory.profile
    if not tx.execute(sa.update(memories).where(*known).values(**values)).rowcount:
        tx.execute(
            sa.insert(memories).values(
                workspace=memory.workspace, endpoint=memory.endpoint, profile=memory.profile, state=memory.state
            )
        )


def traffic_of(reader: Reader, workspace: str, endpoint: str) -> Traffic | None:
    """What has come in, or None while nothing has."""
    query = sa.select(traffic).where(traffic.c.workspace == workspace, traffic.c.endpoint == endpoint)
    return reader.record(Traffic, query)


def all_traffic(reader: Reader) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Rows, watermark and labels by workspace and endpoint: what an evaluator compares with what it has seen."""
    return {
        (row["workspace"], row["endpoint"]): (row["rows"], row["watermark_ms"], row["labels"])
        for row in reader.rows(sa.select(traffic))
    }


def add_rows(tx: Transaction, workspace: str, endpoint: str, rows: int, first_ms: int, last_ms: int) -> None:
    """Counts predictions that came in."""
    known = (traffic.c.workspace == workspace, traffic.c.endpoint == endpoint)
    before = traffic_of(tx, workspace, endpoint)
    if before is None:
        fresh = Traffic(
            workspace=workspace, endpoint=endpoint, rows=rows, first_ms=first_ms, watermark_ms=last_ms, labels=0
        )
        tx.insert(traffic, fresh)
        return
    tx.execute(
        sa.update(traffic)
        .where(*known)
        .values(
            rows=before.rows + rows,
            first_ms=min(before.first_ms, first_ms),
            watermark_ms=max(before.watermark_ms, last_ms),
        )
    )


def add_labels(tx: Transaction, workspace: str, endpoint: str, labels: int) -> None:
    """Counts labels that came in. Their time does not move the watermark: predictions of before may still come."""
    known = (traffic.c.workspace == workspace, traffic.c.endpoint == endpoint)
    before = traffic_of(tx, workspace, endpoint)
    if before is not None:
        tx.execute(sa.update(traffic).where(*known).values(labels=before.labels + labels))


def add_mark(tx: Transaction, workspace: str, endpoint: str, key: str, mark: Annotation) -> None:
    """Puts a mark on the chart; the same `key` puts one."""
    known = sa.select(marks.c.key).where(
        marks.c.workspace == workspace, marks.c.endpoint == endpoint, marks.c.key == key
    )
    if tx.value(known) is None:
        values = {name: getattr(mark, name) for name in mark.__struct_fields__}
        tx.execute(sa.insert(marks).values(workspace=workspace, endpoint=endpoint, key=key, **values))


def marks_of(
    reader: Reader,
    workspace: str,
    endpoint: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int = 500,
) -> list[Annotation]:
    """The newest marks in [from_ms, to_ms), in the order of event time."""
    columns: Sequence[sa.Column[object]] = [marks.c[name] for name in Annotation.__struct_fields__]
    query = sa.select(*columns).where(marks.c.workspace == workspace, marks.c.endpoint == endpoint)
    if from_ms is not None:
        query = query.where(marks.c.event_ms >= from_ms)
    if to_ms is not None:
        query = query.where(marks.c.event_ms < to_ms)
    return reader.records(Annotation, query.order_by(marks.c.event_ms.desc(), marks.c.key.desc()).limit(limit))[::-1]
