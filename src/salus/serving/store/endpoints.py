"""Endpoints, their revisions, and the epoch of each workspace's route table."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from salus.kernel.schema import Signature
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.serving.model.endpoints import Endpoint, Revision
from salus.serving.wire import FeatureLookup, ModelFile

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("task", sa.String(16)),
    sa.Column("key_column", Name),
    sa.Column("lookups", Json(tuple[FeatureLookup, ...]), nullable=False),
    sa.Column("label_delay_s", sa.Double, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("salt", sa.String(40), nullable=False),
    sa.Column("live", Id),
    sa.Column("previous", Id),
    sa.Column("shadows", Json(tuple[str, ...]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("endpoint", Name, nullable=False),
    sa.Column("model", Name, nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("files", Json(tuple[ModelFile, ...]), nullable=False),
    sa.Column("signature", Json(Signature), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("created_by", Name, nullable=False),
    sa.UniqueConstraint("workspace", "endpoint", "model", "version"),
)

epochs = sa.Table(
    "route_epochs",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)


def select_endpoints(workspace: str) -> sa.Select[tuple[object, ...]]:
    """All endpoints by name."""
    return sa.select(endpoints).where(endpoints.c.workspace == workspace).order_by(endpoints.c.name)


def find(reader: Reader, workspace: str, name: str) -> Endpoint | None:
    """The endpoint, or None."""
    return reader.record(Endpoint, select_endpoints(workspace).where(endpoints.c.name == name))


def update(tx: Transaction, endpoint: Endpoint) -> None:
    """Writes all fields of an endpoint that is there."""
    tx.execute(
        sa.update(endpoints)
        .where(endpoints.c.workspace == endpoint.workspace, endpoints.c.name == endpoint.name)
        .values(**{name: getattr(endpoint, name) for name in endpoint.__struct_fields__})
    )


def revisions_of(reader: Reader, workspace: str, endpoint: str) -> list[Revision]:
    """All that the endpoint ever served, oldest first."""
    query = sa.select(revisions).where(revisions.c.workspace == workspace, revisions.c.endpoint == endpoint)
    return reader.records(Revision, query.order_by(revisions.c.id))


def revisions_by_id(reader: Reader, workspace: str, ids: set[str]) -> dict[str, Revision]:
    """The revisions among `ids` that are there, by id."""
    query = sa.select(revisions).where(revisions.c.workspace == workspace, revisions.c.id.in_(sorted(ids)))
    return {revision.id: revision for revision in reader.records(Revision, query)}


def find_revision(reader: Reader, workspace: str, endpoint: str, model: str, version: str) -> Revision | None:
    """The revision of that version at that endpoint, or None."""
    query = sa.select(revisions).where(
        revisions.c.workspace == workspace,
        revisions.c.endpoint == endpoint,
        revisions.c.model == model,
        revisions.c.version == version,
    )
    return reader.record(Revision, query)


def epoch(reader: Reader, workspace: str) -> int:
    """The epoch of the workspace's route table; 0 before the first change."""
    return reader.value(sa.select(epochs.c.epoch).where(epochs.c.workspace == workspace)) or 0


def advance_epoch(tx: Transaction, workspace: str) -> None:
    """The route table has changed."""
    changed = tx.execute(sa.update(epochs).where(epochs.c.workspace == workspace).values(epoch=epochs.c.epoch + 1))
    if not changed.rowcount:
        tx.execute(sa.insert(epochs).values(workspace=workspace, epoch=1))


def insert(tx: Transaction, endpoint: Endpoint) -> None:
    """A new endpoint."""
    tx.insert(endpoints, endpoint)


def with_changes(endpoint: Endpoint, now_ms: int, **changes: object) -> Endpoint:
    """The endpoint with `changes`, changed at `now_ms`."""
    return msgspec.structs.replace(endpoint, updated_ms=now_ms, **changes)
