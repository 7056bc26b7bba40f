"""What one can do with datasets: one function for each use case, in the caller's transaction.

A commit needs bytes that are read and checked before the transaction: `salus.data.ingest` does that and ends here.
"""

from __future__ import annotations

import msgspec

from salus.data import store
from salus.data.expectations import check_expectations
from salus.data.model import (
    BatchRefused,
    DataFile,
    Dataset,
    DatasetChanged,
    DatasetDetail,
    DatasetVersion,
    DatasetVersionCommitted,
    DatasetVersionSummary,
    NewVersion,
    Profile,
    PutDataset,
    ValidationReport,
    check_append,
    check_name,
    content_digest,
    schema_change,
    segment_table,
    version_node,
)
from salus.data.validation import check_patterns
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.schema import Schema
from salus.kernel.segments import Segments
from salus.kernel.segments_files import StagedFile
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record


class CheckedBatch(Record):
    """A batch that was read, validated and stored as Parquet, ready to be committed.

    `revision` is the dataset's whose laws it was checked against; `sources` are the digests of the uploaded files.
    """

    schema: Schema
    profile: Profile
    rows: int
    sources: tuple[str, ...]
    file: DataFile
    staged: StagedFile
    revision: int


def put_dataset(tx: Transaction, actor: Actor, name: str, body: PutDataset) -> Dataset:
    """The dataset as `body` wants it, made if it is not there.

    Raises:
        InvalidInput: an expectation names no column of the schema, or the event time is no `time` column.
    """
    before = store.find_dataset(tx, actor.workspace, check_name(name, "name"))
    old = before or _new(name, tx.now_ms)
    wanted = msgspec.structs.replace(
        old,
        description=old.description if body.description is None else body.description,
        schema=old.schema if body.schema is None else body.schema,
        expectations=old.expectations if body.expectations is None else body.expectations,
        event_time=old.event_time if body.event_time is None else body.event_time,
    )
    if before is not None and wanted == before:
        return before
    _check_dataset(wanted)
    saved = msgspec.structs.replace(wanted, revision=old.revision + 1, updated_ms=tx.now_ms)
    store.save_dataset(tx, actor.workspace, saved)
    news = DatasetChanged(
        dataset=name,
        revision=saved.revision,
        columns=len(saved.schema.columns) if saved.schema else 0,
        expectations=len(saved.expectations),
    )
    tx.emit(actor, f"dataset:{name}", news, before=before, after=saved)
    return saved


def _new(name: str, now_ms: int) -> Dataset:
    return Dataset(
        name=name,
        description="",
        schema=None,
        expectations=(),
        event_time=None,
        revision=0,
        latest_version=0,
        created_ms=now_ms,
        updated_ms=now_ms,
    )


def _check_dataset(dataset: Dataset) -> None:
    check_expectations(dataset.expectations, dataset.schema)
    check_patterns(dataset.expectations)
    if dataset.schema is not None and not dataset.schema.columns:
        raise InvalidInput("a schema needs at least one column", path="$.schema.columns")
    if dataset.event_time is None or dataset.schema is None:
        return
    column = dataset.schema.get(dataset.event_time)
    if column is None or column.dtype != "time":
        found = "it is not there" if column is None else f"it is {column.dtype}"
        raise InvalidInput(
            f"the event time must be a column of type time, {dataset.event_time}: {found}", path="$.event_time"
        )


def list_datasets(reader: Reader, actor: Actor, *, after: str = "", limit: int = 100) -> list[Dataset]:
    """Datasets by name, behind `after`."""
    return reader.records(Dataset, store.select_datasets(actor.workspace, after, limit))


def get_dataset(reader: Reader, actor: Actor, name: str) -> Dataset:
    """The dataset. Raises `NotFound`."""
    found = store.find_dataset(reader, actor.workspace, name)
    if found is None:
        raise NotFound(
            f"there is no dataset {name}", path="name", remedy="Commit a first version, or list the datasets."
        )
    return found


def describe_dataset(reader: Reader, actor: Actor, name: str) -> DatasetDetail:
    """The dataset with its newest hundred versions."""
    return DatasetDetail(dataset=get_dataset(reader, actor, name), versions=tuple(list_versions(reader, actor, name)))


def list_versions(
    reader: Reader, actor: Actor, name: str, *, before: int | None = None, limit: int = 100
) -> list[DatasetVersionSummary]:
    """Versions, newest first, below the number `before`."""
    get_dataset(reader, actor, name)
    query = store.select_versions(actor.workspace, name, before, limit)
    return reader.records(DatasetVersionSummary, query)


def get_version(reader: Reader, actor: Actor, name: str, version: int | None = None) -> DatasetVersion:
    """The version of that number; the newest where `version` is None. Raises `NotFound`."""
    dataset = get_dataset(reader, actor, name)
    number = dataset.latest_version if version is None else version
    found = store.find_version(reader, actor.workspace, name, number)
    if found is None:
        there = f"its versions are 1 to {dataset.latest_version}" if dataset.latest_version else "it has none yet"
        raise NotFound(f"the dataset {name} has no version {number}: {there}", path="version")
    return found


def commit_version(
    tx: Transaction,
    actor: Actor,
    name: str,
    body: NewVersion,
    batch: CheckedBatch,
    segments: Segments,
) -> DatasetVersion:
    """The next version, with the rows of `batch`. The dataset is made if it is not there.

    Raises:
        Conflict: what binds the rows was changed after they were checked.
        InvalidInput: appended rows have a column of another type than the older ones.
    """
    dataset = store.find_dataset(tx, actor.workspace, name) or _new(name, tx.now_ms)
    if dataset.revision != batch.revision:
        raise Conflict(
            f"the schema or expectations of {name} were changed while the batch was checked",
            remedy="Commit it again; it is then checked against the new ones.",
        )
    last = None
    if dataset.latest_version:
        last = store.find_version(tx, actor.workspace, name, dataset.latest_version)
    base = last if body.mode == "append" else None
    if base is not None:
        check_append(base.schema, batch.schema)
    table = segment_table(actor.workspace, name)
    segments.append_staged(tx, table, [batch.staged], replace=body.mode == "replace")
    version = DatasetVersion(
        dataset=name,
        version=dataset.latest_version + 1,
        message=body.message,
        mode=body.mode,
        rows=batch.rows + (base.rows if base else 0),
        added_rows=batch.rows,
        digest=content_digest(base.digest if base else None, batch.schema, batch.sources),
        schema=batch.schema,
        schema_change=schema_change(last.schema if last else None, batch.schema),
        profile=batch.profile,
        files=(*(base.files if base else ()), batch.file),
        created_ms=tx.now_ms,
        created_by=actor.principal,
    )
    _save_version(tx, actor, dataset, version)
    _emit_committed(tx, actor, version, last)
    return version


def _save_version(tx: Transaction, actor: Actor, dataset: Dataset, version: DatasetVersion) -> None:
    bound = msgspec.structs.replace(
        dataset,
        schema=dataset.schema or version.schema,
        latest_version=version.version,
        updated_ms=tx.now_ms,
    )
    store.save_dataset(tx, actor.workspace, bound)
    store.add_version(tx, actor.workspace, version)


def _emit_committed(tx: Transaction, actor: Actor, version: DatasetVersion, last: DatasetVersion | None) -> None:
    change = version.schema_change
    news = DatasetVersionCommitted(
        dataset=version.dataset,
        version=version.version,
        mode=version.mode,
        rows=version.rows,
        added_rows=version.added_rows,
        digest=version.digest,
        added_columns=change.added,
        removed_columns=change.removed,
        changed_columns=tuple(changed.name for changed in change.changed),
    )
    subject = version_node(version.dataset, version.version)
    tx.emit(actor, subject, news, before=last.digest if last else None, after=version.digest)


def record_refusal(tx: Transaction, actor: Actor, report: ValidationReport, sources: tuple[str, ...]) -> None:
    """Tells the ledger that a batch was refused, and why."""
    news = BatchRefused(dataset=report.dataset, rows=report.rows, files=sources, violations=report.violations)
    tx.emit(actor, f"dataset:{report.dataset}", news)
