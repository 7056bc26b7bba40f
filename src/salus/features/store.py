"""How feature views and their online state are kept: tables and statements, no rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from salus.features.model import FeatureService, FeatureView, ServiceView
from salus.kernel.schema import Column
from salus.kernel.sql import Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

_KEYS_A_STATEMENT = 400

feature_views = sa.Table(
    "feature_views",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("entity", Name, nullable=False),
    sa.Column("keys", Json(tuple[Column, ...]), nullable=False),
    sa.Column("event_time", Name, nullable=False),
    sa.Column("features", Json(tuple[Column, ...]), nullable=False),
    sa.Column("ttl_s", sa.Double),
    sa.Column("online_depth", sa.Integer, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("newest_event_ms", Ms),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

feature_services = sa.Table(
    "feature_services",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("views", Json(tuple[ServiceView, ...]), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

online_rows = sa.Table(
    "online_rows",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("view", Name, primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),
    sa.Column("event_ms", Ms, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    sa.Index("ix_online_rows_workspace_seq", "workspace", "seq"),
)
"""`seq` counts the writes of a workspace: a data plane that has seen all up to a cursor asks for those above it."""

online_cursors = sa.Table(
    "online_cursors",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)


class PackedRow(Record):
    """A row of the online state."""

    view: str
    key: str
    event_ms: int
    seq: int
    packed: bytes


def find_view(reader: Reader, workspace: str, name: str) -> FeatureView | None:
    """The view of that name, or None."""
    where = (feature_views.c.workspace == workspace, feature_views.c.name == name)
    return reader.record(FeatureView, sa.select(feature_views).where(*where))


def select_views(workspace: str) -> sa.Select[Any]:
    """All views, by name."""
    query = sa.select(feature_views).where(feature_views.c.workspace == workspace)
    return query.order_by(feature_views.c.name)


def find_service(reader: Reader, workspace: str, name: str) -> FeatureService | None:
    """The service of that name, or None."""
    where = (feature_services.c.workspace == workspace, feature_services.c.name == name)
    return reader.record(FeatureService, sa.select(feature_services).where(*where))


def select_services(workspace: str) -> sa.Select[Any]:
    """All services, by name."""
    query = sa.select(feature_services).where(feature_services.c.workspace == workspace)
    return query.order_by(feature_services.c.name)


def save(tx: Transaction, table: sa.Table, workspace: str, record: FeatureView | FeatureService) -> None:
    """Writes a view or a service, new or not."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    where = (table.c.workspace == workspace, table.c.name == record.name)
    if not tx.execute(sa.update(table).where(*where).values(**values)).rowcount:
        tx.execute(sa.insert(table).values(workspace=workspace, **values))


def head(reader: Reader, workspace: str) -> int:
    """The newest cursor of the online state; 0 when nothing was pushed."""
    query = sa.select(online_cursors.c.seq).where(online_cursors.c.workspace == workspace)
    return reader.value(query) or 0


def advance(tx: Transaction, workspace: str, count: int) -> int:
    """Reserves `count` numbers and returns the one before the first."""
    before = head(tx, workspace)
    where = online_cursors.c.workspace == workspace
    if not tx.execute(sa.update(online_cursors).where(where).values(seq=before + count)).rowcount:
        tx.execute(sa.insert(online_cursors).values(workspace=workspace, seq=before + count))
    return before


def moments(reader: Reader, workspace: str, view: str, keys: Sequence[str]) -> dict[str, list[int]]:
    """The event times held online, by key."""
    found: dict[str, list[int]] = {}
    for some in _pieces(keys):
        query = sa.select(online_rows.c.key, online_rows.c.event_ms).where(
            online_rows.c.workspace == workspace, online_rows.c.view == view, online_rows.c.key.in_(some)
        )
        for row in reader.execute(query):
            found.setdefault(row.key, []).append(row.event_ms)
    return found


def drop_online(tx: Transaction, workspace: str, view: str, gone: Iterable[tuple[str, int]]) -> None:
    """Removes rows by key and event time; those that are not there do not matter."""
    rows = [{"k": key, "e": event_ms} for key, event_ms in gone]
    if rows:
        statement = sa.delete(online_rows).where(
            online_rows.c.workspace == workspace,
            online_rows.c.view == view,
            online_rows.c.key == sa.bindparam("k"),
            online_rows.c.event_ms == sa.bindparam("e"),
        )
        tx.execute(statement, rows)


def add_online(tx: Transaction, workspace: str, rows: Sequence[PackedRow]) -> None:
    """Writes rows whose keys and event times are not there."""
    if rows:
        values = [{"workspace": workspace, **msgspec.structs.asdict(row)} for row in rows]
        tx.execute(sa.insert(online_rows), values)


def changes(reader: Reader, workspace: str, after: int, limit: int) -> list[PackedRow]:
    """Rows written behind the cursor `after`, in that order."""
    query = sa.select(*_PACKED).where(online_rows.c.workspace == workspace, online_rows.c.seq > after)
    return reader.records(PackedRow, query.order_by(online_rows.c.seq).limit(limit))


def online_of(reader: Reader, workspace: str, view: str, keys: Sequence[str]) -> dict[str, list[PackedRow]]:
    """The rows held online, by key."""
    found: dict[str, list[PackedRow]] = {}
    for some in _pieces(keys):
        query = sa.select(*_PACKED).where(
            online_rows.c.workspace == workspace, online_rows.c.view == view, online_rows.c.key.in_(some)
        )
        for row in reader.records(PackedRow, query.order_by(online_rows.c.event_ms)):
            found.setdefault(row.key, []).append(row)
    return found


def _pieces(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_A_STATEMENT):
        yield keys[start : start + _KEYS_A_STATEMENT]


_PACKED = tuple(online_rows.c[name] for name in PackedRow.__struct_fields__)
