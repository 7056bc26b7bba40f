"""How datasets are kept: tables and statements, no rules."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from salus.data.expectations import Expectation
from salus.data.model import (
    DataFile,
    Dataset,
    DatasetVersion,
    DatasetVersionSummary,
    Profile,
    SchemaChange,
)
from salus.kernel.schema import Schema
from salus.kernel.sql import Json, Ms, Name, Reader, Transaction, metadata

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("schema", Json(Schema)),
    sa.Column("expectations", Json(tuple[Expectation, ...]), nullable=False),
    sa.Column("event_time", Name),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("latest_version", sa.Integer, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("dataset", Name, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("added_rows", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("schema", Json(Schema), nullable=False),
    sa.Column("schema_change", Json(SchemaChange), nullable=False),
    sa.Column("profile", Json(Profile), nullable=False),
    sa.Column("files", Json(tuple[DataFile, ...]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("created_by", Name, nullable=False),
)

_SUMMARY = tuple(dataset_versions.c[name] for name in DatasetVersionSummary.__struct_fields__)


def select_datasets(workspace: str, after: str = "", limit: int = 100) -> sa.Select[Any]:
    """Datasets by name, behind `after`."""
    query = sa.select(datasets).where(datasets.c.workspace == workspace, datasets.c.name > after)
    return query.order_by(datasets.c.name).limit(limit)


def find_dataset(reader: Reader, workspace: str, name: str) -> Dataset | None:
    """The dataset of that name, or None."""
    query = sa.select(datasets).where(datasets.c.workspace == workspace, datasets.c.name == name)
    return reader.record(Dataset, query)


def save_dataset(tx: Transaction, workspace: str, dataset: Dataset) -> None:
    """Writes the dataset, new or not."""
    values = _columns(dataset)
    where = (datasets.c.workspace == workspace, datasets.c.name == dataset.name)
    if not tx.execute(sa.update(datasets).where(*where).values(**values)).rowcount:
        tx.execute(sa.insert(datasets).values(workspace=workspace, **values))


def add_version(tx: Transaction, workspace: str, version: DatasetVersion) -> None:
    """Writes a version."""
    tx.execute(sa.insert(dataset_versions).values(workspace=workspace, **_columns(version)))


def find_version(reader: Reader, workspace: str, dataset: str, version: int) -> DatasetVersion | None:
    """The version of that number, or None."""
    table = dataset_versions
    query = sa.select(table).where(
        table.c.workspace == workspace, table.c.dataset == dataset, table.c.version == version
    )
    return reader.record(DatasetVersion, query)


def select_versions(workspace: str, dataset: str, before: int | None = None, limit: int = 100) -> sa.Select[Any]:
    """Versions without profile and files, newest first, below the number `before`."""
    table = dataset_versions
    query = sa.select(*_SUMMARY).where(table.c.workspace == workspace, table.c.dataset == dataset)
    query = query if before is None else query.where(table.c.version < before)
    return query.order_by(table.c.version.desc()).limit(limit)


def _columns(record: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
