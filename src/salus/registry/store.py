"""How models are kept: tables and statements, no rules."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from salus.data.model import Profile
from salus.kernel.schema import Signature
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.registry.model import Approval, GateResult, Model, ModelVersion, StoredFile, parse_version

models = sa.Table(
    "models",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("tags", Json(dict[str, str]), nullable=False),
    sa.Column("approval", sa.String(16), nullable=False),
    sa.Column("required_gates", Json(tuple[str, ...]), nullable=False),
    sa.Column("latest_version", sa.String(40)),
    sa.Column("versions", sa.Integer, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("updated_ms", Ms, nullable=False),
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("model", Name, primary_key=True),
    sa.Column("version", sa.String(40), primary_key=True),
    sa.Column("major", sa.Integer, nullable=False),
    sa.Column("minor", sa.Integer, nullable=False),
    sa.Column("patch", sa.Integer, nullable=False),
    sa.Column("flavour", Name, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("files", Json(tuple[StoredFile, ...]), nullable=False),
    sa.Column("signature", Json(Signature), nullable=False),
    sa.Column("metrics", Json(dict[str, float]), nullable=False),
    sa.Column("params", Json(dict[str, Any]), nullable=False),
    sa.Column("datasets", Json(tuple[str, ...]), nullable=False),
    sa.Column("features", Json(tuple[str, ...]), nullable=False),
    sa.Column("run_id", Id),
    sa.Column("pipeline_run", Id),
    sa.Column("input_example", Json(tuple[dict[str, Any], ...]), nullable=False),
    sa.Column("input_profile", Json(Profile)),
    sa.Column("output_profile", Json(Profile)),
    sa.Column("reference", sa.String(80)),
    sa.Column("gates", Json(tuple[GateResult, ...]), nullable=False),
    sa.Column("approval", Json(Approval)),
    sa.Column("tags", Json(dict[str, str]), nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("created_by", Name, nullable=False),
)

model_aliases = sa.Table(
    "model_aliases",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("model", Name, primary_key=True),
    sa.Column("alias", Name, primary_key=True),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("moved_ms", Ms, nullable=False),
    sa.Column("moved_by", Name, nullable=False),
)


def find_model(reader: Reader, workspace: str, name: str) -> Model | None:
    """The model of that name, or None."""
    row = reader.row(sa.select(models).where(models.c.workspace == workspace, models.c.name == name))
    return None if row is None else _model(row, aliases_of(reader, workspace, name))


def list_models(reader: Reader, workspace: str, after: str, limit: int) -> list[Model]:
    """Models by name, behind `after`."""
    query = sa.select(models).where(models.c.workspace == workspace, models.c.name > after)
    rows = reader.rows(query.order_by(models.c.name).limit(limit))
    return [_model(row, aliases_of(reader, workspace, row["name"])) for row in rows]


def save_model(tx: Transaction, workspace: str, model: Model) -> None:
    """Writes the model, new or not; aliases are kept elsewhere."""
    values = {name: getattr(model, name) for name in Model.__struct_fields__ if name != "aliases"}
    where = (models.c.workspace == workspace, models.c.name == model.name)
    if not tx.execute(sa.update(models).where(*where).values(**values)).rowcount:
        tx.execute(sa.insert(models).values(workspace=workspace, **values))


def add_version(tx: Transaction, workspace: str, version: ModelVersion) -> None:
    """Writes a new version."""
    parts = parse_version(version.version)
    if parts is None:
        raise ValueError(f"{version.version!r} is no semantic version")
    values = {name: getattr(version, name) for name in ModelVersion.__struct_fields__ if name != "aliases"}
    numbers = dict(zip(("major", "minor", "patch"), parts, strict=True))
    tx.execute(sa.insert(model_versions).values(workspace=workspace, **numbers, **values))


def save_decision(tx: Transaction, workspace: str, version: ModelVersion) -> None:
    """Writes what may change of a version: its gates, approval and state."""
    table = model_versions
    tx.execute(
        sa.update(table)
        .where(table.c.workspace == workspace, table.c.model == version.model, table.c.version == version.version)
        .values(gates=version.gates, approval=version.approval, state=version.state)
    )


def find_version(reader: Reader, workspace: str, model: str, version: str) -> ModelVersion | None:
    """The version of that number, or None."""
    query = sa.select(model_versions).where(
        model_versions.c.workspace == workspace,
        model_versions.c.model == model,
        model_versions.c.version == version,
    )
    row = reader.row(query)
    return None if row is None else _version(row, aliases_of(reader, workspace, model))


def list_versions(reader: Reader, workspace: str, model: str) -> list[ModelVersion]:
    """All versions, the highest number first."""
    table = model_versions
    query = sa.select(table).where(table.c.workspace == workspace, table.c.model == model)
    rows = reader.rows(query.order_by(table.c.major.desc(), table.c.minor.desc(), table.c.patch.desc()))
    aliases = aliases_of(reader, workspace, model)
    return [_version(row, aliases) for row in rows]


def aliases_of(reader: Reader, workspace: str, model: str) -> dict[str, str]:
    """Alias to version."""
    table = model_aliases
    query = sa.select(table.c.alias, table.c.version).where(table.c.workspace == workspace, table.c.model == model)
    return {row["alias"]: row["version"] for row in reader.rows(query.order_by(table.c.alias))}


def move_alias(tx: Transaction, workspace: str, model: str, alias: str, version: str, by: str) -> None:
    """Lets an alias name a version, new or not."""
    table = model_aliases
    where = (table.c.workspace == workspace, table.c.model == model, table.c.alias == alias)
    values = {"version": version, "moved_ms": tx.now_ms, "moved_by": by}
    if not tx.execute(sa.update(table).where(*where).values(**values)).rowcount:
        tx.execute(sa.insert(table).values(workspace=workspace, model=model, alias=alias, **values))


def _model(row: RowMapping, aliases: dict[str, str]) -> Model:
    return msgspec.convert({**_plain(row), "aliases": aliases}, Model)


def _version(row: RowMapping, aliases: dict[str, str]) -> ModelVersion:
    mine = tuple(alias for alias, version in aliases.items() if version == row["version"])
    return msgspec.convert({**_plain(row), "aliases": mine}, ModelVersion)


def _plain(row: RowMapping) -> dict[str, Any]:
    """A row under plain text keys: SQLAlchemy's own kind of text is no key to msgspec."""
    return {str(name): value for name, value in row.items()}
