"""Labels: those that found their prediction, and those that wait for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from salus.kernel.sql import Id, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

_IDS_AT_ONCE = 500

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("prediction_id", sa.String(64), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("category", sa.Text),
    sa.Column("event_ms", Ms, nullable=False),
    sa.Column("prediction_event_ms", Ms, nullable=False),
    sa.Column("recorded_ms", Ms, nullable=False),
    sa.Column("recorded_by", Name, nullable=False),
    sa.Index("ix_labels_seq", "workspace", "endpoint", "seq", unique=True),
    sa.Index("ix_labels_prediction_event_ms", "workspace", "endpoint", "prediction_event_ms"),
    sqlite_with_rowid=False,
)
"""`value` holds numbers (binary: 0 and 1), `category` everything else. `seq` counts the endpoint's labels from 1."""

pending = sa.Table(
    "pending_labels",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("prediction_id", sa.String(64), primary_key=True),
    sa.Column("plane", Id, nullable=False),
    sa.Column("plane_seq", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("category", sa.Text),
    sa.Column("event_ms", Ms, nullable=False),
    sa.Column("recorded_ms", Ms, nullable=False),
    sa.Column("recorded_by", Name, nullable=False),
    sa.Index("ix_pending_labels_plane", "plane", "plane_seq"),
)


class StoredLabel(Record):
    """A label of a prediction that is stored here."""

    workspace: str
    endpoint: str
    prediction_id: str
    seq: int
    value: float | None
    category: str | None
    event_ms: int
    prediction_event_ms: int
    recorded_ms: int
    recorded_by: str


class PendingLabel(Record):
    """A label of a prediction that its data plane has not shipped yet."""

    workspace: str
    endpoint: str
    prediction_id: str
    plane: str
    plane_seq: int
    value: float | None
    category: str | None
    event_ms: int
    recorded_ms: int
    recorded_by: str


def last_seq(reader: Reader, workspace: str, endpoint: str) -> int:
    """The endpoint's last label; 0 when it has none."""
    query = sa.select(sa.func.max(labels.c.seq))
    return reader.value(query.where(labels.c.workspace == workspace, labels.c.endpoint == endpoint)) or 0


def known_values(
    reader: Reader, workspace: str, endpoint: str, ids: Sequence[str]
) -> dict[str, tuple[float | None, str | None]]:
    """Value and category of those among `ids` that have a label, pending or not."""
    found: dict[str, tuple[float | None, str | None]] = {}
    for table in (labels, pending):
        for some in _chunks(ids):
            query = sa.select(table.c.prediction_id, table.c.value, table.c.category).where(
                table.c.workspace == workspace,
                table.c.endpoint == endpoint,
                table.c.prediction_id.in_(some),
            )
            found.update({row["prediction_id"]: (row["value"], row["category"]) for row in reader.rows(query)})
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def take_pending(tx: Transaction, plane: str, through_seq: int) -> list[PendingLabel]:
    """Removes and returns the labels that waited for the plane's predictions up to `through_seq`."""
    ripe = (pending.c.plane == plane, pending.c.plane_seq <= through_seq)
    found = tx.records(PendingLabel, sa.select(pending).where(*ripe).order_by(pending.c.plane_seq))
    if found:
        tx.execute(sa.delete(pending).where(*ripe))
    return found


def between(
    reader: Reader, workspace: str, endpoint: str, from_ms: int, to_ms: int
) -> Sequence[sa.Row[tuple[str, float | None, str | None, int]]]:
    """Id, value, category and event time of the labels of predictions made in [from_ms, to_ms)."""
    query = sa.select(labels.c.prediction_id, labels.c.value, labels.c.category, labels.c.event_ms).where(
        labels.c.workspace == workspace,
        labels.c.endpoint == endpoint,
        labels.c.prediction_event_ms >= from_ms,
        labels.c.prediction_event_ms < to_ms,
    )
    return reader.connection.execute(query).all()  # type: ignore[return-value]
