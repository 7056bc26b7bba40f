"""How segment tables are kept in Database: which files each version consists of. Statements only, no
rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from salus.kernel.segments_columns import SegmentColumn, StoredColumn
from salus.kernel.segments_files import ColumnStatistics, SegmentFile, StagedFile
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

Digest = sa.String(80)
FILES_PER_COMMIT = 1 << 20
"""Positions set aside for a version, so that later files lie behind earlier ones."""

tables = sa.Table(
    "segment_tables",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("oldest_version", sa.BigInteger, nullable=False),
    sa.Column("next_column_id", sa.Integer, nullable=False),
    sa.Column("sort_by", sa.Integer),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("changed_ms", Ms, nullable=False),
)

schemas = sa.Table(
    "segment_schemas",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("columns", Json(tuple[SegmentColumn, ...]), nullable=False),
)

commits = sa.Table(
    "segment_commits",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("key", Name),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Index("uq_segment_commits_name_key", "name", "key", unique=True),
)

files = sa.Table(
    "segment_files",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("added_version", sa.BigInteger, nullable=False),
    sa.Column("removed_version", sa.BigInteger),
    sa.Column("removed_ms", Ms),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("digest", Digest, nullable=False),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("owned", sa.Boolean, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("columns", Json(dict[int, StoredColumn]), nullable=False),
    sa.Column("statistics", Json(dict[int, ColumnStatistics]), nullable=False),
    sa.Column("sorted_by", sa.Integer),
    sa.Index("ix_segment_files_name_removed", "name", "removed_version", "position"),
    sa.Index("ix_segment_files_digest", "digest"),
)

leases = sa.Table(
    "segment_leases",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, index=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("owner", Name, nullable=False),
    sa.Column("expires_ms", Ms),
)

garbage = sa.Table(
    "segment_garbage",
    metadata,
    sa.Column("digest", Digest, primary_key=True),
    sa.Column("since_ms", Ms, nullable=False),
)


class SegmentCommit(Record):
    """A version of a table and what made it: `append`, `replace`, `evolve` or `compact`; `rows` is what it
    added."""

    name: str
    version: int
    kind: str
    rows: int
    key: str | None
    at_ms: int


class TableState(Record):
    """What a table is now; `sort_by` is a column's id."""

    name: str
    version: int
    oldest_version: int
    next_column_id: int
    sort_by: int | None
    rows: int
    created_ms: int
    changed_ms: int


class Lease(Record):
    """A promise that a version's files stay, until `expires_ms` or, where that is None, until it is
    released."""

    id: str
    name: str
    version: int
    owner: str
    expires_ms: int | None


def table(reader: Reader, name: str) -> TableState | None:
    """The table's state, or None."""
    return reader.record(TableState, sa.select(tables).where(tables.c.name == name))


def table_names(reader: Reader, prefix: str) -> list[str]:
    """The names that start with `prefix`, sorted."""
    query = sa.select(tables.c.name).where(tables.c.name.startswith(prefix, autoescape=True))
    return [row["name"] for row in reader.rows(query.order_by(tables.c.name))]


def save(tx: Transaction, state: TableState, *, new: bool) -> None:
    """Writes the table's state."""
    if new:
        tx.insert(tables, state)
    else:
        values = {name: getattr(state, name) for name in state.__struct_fields__ if name != "name"}
        tx.execute(sa.update(tables).where(tables.c.name == state.name).values(values))


def columns_at(reader: Reader, name: str, version: int) -> tuple[SegmentColumn, ...]:
    """The schema as of `version`."""
    query = sa.select(schemas.c.columns).where(schemas.c.name == name, schemas.c.version <= version)
    found: tuple[SegmentColumn, ...] = reader.value(query.order_by(schemas.c.version.desc()).limit(1))
    return found


def save_columns(tx: Transaction, name: str, version: int, columns: Sequence[SegmentColumn]) -> None:
    """Writes the schema that holds from `version` on."""
    tx.execute(sa.insert(schemas).values(name=name, version=version, columns=tuple(columns)))


def commit_by_key(reader: Reader, name: str, key: str) -> SegmentCommit | None:
    """The commit that was made with this idempotency key, or None."""
    return reader.record(SegmentCommit, sa.select(commits).where(commits.c.name == name, commits.c.key == key))


def commits_of(reader: Reader, name: str, limit: int) -> list[SegmentCommit]:
    """The newest commits first."""
    query = sa.select(commits).where(commits.c.name == name).order_by(commits.c.version.desc()).limit(limit)
    return reader.records(SegmentCommit, query)


def add_files(
    tx: Transaction,
    name: str,
    version: int,
    staged: Sequence[StagedFile],
    columns: Sequence[SegmentColumn],
    position: int | None = None,
) -> None:
    """Adds files whose columns are looked up by name in `columns`; by default behind all that are there."""
    start = version * FILES_PER_COMMIT if position is None else position
    ids = {column.name: column.id for column in columns}
    rows = [
        {
            "name": name,
            "added_version": version,
            "position": start + index,
            "format": file.format,
            "digest": file.digest,
            "payload": file.payload,
            "owned": file.owned,
            "rows": file.rows,
            "size_bytes": file.size_bytes,
            "columns": {ids[column.name]: column for column in file.columns},
            "statistics": {ids[column]: found for column, found in file.statistics.items()},
            "sorted_by": None if file.sorted_by is None else ids[file.sorted_by],
        }
        for index, file in enumerate(staged)
    ]
    if rows:
        tx.execute(sa.insert(files), rows)


_DESCRIPTION = (
    files.c.id,
    files.c.position,
    files.c.format,
    files.c.digest,
    sa.null().label("payload"),
    files.c.rows,
    files.c.size_bytes,
    files.c.columns,
    files.c.statistics,
    files.c.sorted_by,
)


def files_at(reader: Reader, name: str, version: int) -> list[SegmentFile]:
    """The files that make up `version`, in the order of their rows, without payloads."""
    query = sa.select(*_DESCRIPTION).where(
        files.c.name == name,
        files.c.added_version <= version,
        sa.or_(files.c.removed_version.is_(None), files.c.removed_version > version),
    )
    rows = reader.rows(query.order_by(files.c.position, files.c.id))
    return [SegmentFile(**dict(row)) for row in rows]


def payloads(reader: Reader, ids: Sequence[int]) -> dict[int, bytes]:
    """The payloads of those files that are kept in Database."""
    found: dict[int, bytes] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        query = sa.select(files.c.id, files.c.payload).where(files.c.id.in_(part), files.c.payload.is_not(None))
        found.update({row["id"]: row["payload"] for row in reader.rows(query)})
    return found


def remove_files(tx: Transaction, name: str, version: int, ids: Sequence[int] | None, now_ms: int) -> int:
    """Marks files (all, where `ids` is None) as gone from `version` on; returns how many were there to be
    marked."""
    statement = sa.update(files).where(files.c.name == name, files.c.removed_version.is_(None))
    if ids is not None:
        statement = statement.where(files.c.id.in_(ids))
    return tx.execute(statement.values(removed_version=version, removed_ms=now_ms)).rowcount


def live_leases(reader: Reader, name: str) -> list[Lease]:
    """The leases on the table that have not run out."""
    alive = sa.or_(leases.c.expires_ms.is_(None), leases.c.expires_ms > reader.now_ms)
    return reader.records(Lease, sa.select(leases).where(leases.c.name == name, alive))


class RemovedFile(Record):
    """A file that is no longer part of its table's newest version."""

    id: int
    name: str
    digest: str
    format: str
    owned: bool
    added_version: int
    removed_version: int
    removed_ms: int


def removed_files(reader: Reader, before_ms: int, after_id: int, limit: int) -> list[RemovedFile]:
    """Files that were removed up to `before_ms`, in the order of their ids above `after_id`."""
    columns = [files.c[name] for name in RemovedFile.__struct_fields__]
    query = sa.select(*columns).where(files.c.removed_ms <= before_ms, files.c.id > after_id)
    return reader.records(RemovedFile, query.order_by(files.c.id).limit(limit))


def forget_files(tx: Transaction, found: Iterable[RemovedFile]) -> None:
    """Deletes the files' rows, notes what blobs they owned, and raises their tables' oldest version."""
    for file in found:
        tx.execute(sa.delete(files).where(files.c.id == file.id))
        tx.execute(
            sa.update(tables)
            .where(tables.c.name == file.name, tables.c.oldest_version < file.removed_version)
            .values(oldest_version=file.removed_version)
        )
        if file.owned and file.format == "parquet":
            note_garbage(tx, file.digest, file.removed_ms)


def note_garbage(tx: Transaction, digest: str, since_ms: int) -> None:
    """Remembers that the blob is to be deleted once no file refers to it."""
    if tx.value(sa.select(garbage.c.digest).where(garbage.c.digest == digest)) is None:
        tx.execute(sa.insert(garbage).values(digest=digest, since_ms=since_ms))


def unreferenced_garbage(reader: Reader, before_ms: int) -> list[str]:
    """Digests noted as garbage before `before_ms` that no file refers to."""
    referenced = sa.exists().where(files.c.digest == garbage.c.digest)
    query = sa.select(garbage.c.digest).where(garbage.c.since_ms <= before_ms, ~referenced)
    return [row["digest"] for row in reader.rows(query)]


def forget_garbage(tx: Transaction, digests: Sequence[str]) -> None:
    """Strikes digests off the list of garbage."""
    for digest in digests:
        tx.execute(sa.delete(garbage).where(garbage.c.digest == digest))


def referenced_digests(reader: Reader) -> set[str]:
    """The digests of all blobs that some table's file lies in."""
    query: sa.Select[Any] = sa.select(files.c.digest).where(files.c.payload.is_(None)).distinct()
    return {row["digest"] for row in reader.rows(query)}
