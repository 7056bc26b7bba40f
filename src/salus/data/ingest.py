"""Ingest: the way of a batch from uploaded bytes to a version. Reads, checks and stores before the transaction."""

from __future__ import annotations

import polars as pl

from salus.data import service, store
from salus.data.model import (
    MAX_FILES,
    DataFile,
    Dataset,
    DatasetVersion,
    NewVersion,
    ValidationReport,
    check_name,
)
from salus.data.profile import profile
from salus.data.service import CheckedBatch
from salus.data.tables import check_size, conform, read_parquet, schema_of, write_parquet
from salus.data.validation import refusal, validate
from salus.kernel.content import check_digest
from salus.kernel.errors import InvalidInput, NotFound, TooLarge
from salus.kernel.idempotency import once
from salus.kernel.identity import Actor
from salus.kernel.ports import Blobs, Database
from salus.kernel.schema import Schema
from salus.kernel.segments import Segments

MAX_BATCH_BYTES = 2 * 1024**3


def commit(
    database: Database,
    segments: Segments,
    actor: Actor,
    name: str,
    body: NewVersion,
    key: str | None = None,
) -> DatasetVersion:
    """A new version of the dataset `name` with the rows of the uploaded files, or nothing at all.

    Under an idempotency `key` that was seen before: the version of that time. Runs for as long as the batch takes
    to check: call it from a thread.

    Raises:
        InvalidInput: a file is missing or is no sound Parquet, or the rows break a law: `details` is then the
            `ValidationReport`, and the ledger has a `BatchRefused`.
    """
    check_name(name, "name")
    blobs = segments.blobs
    dataset = database.read(lambda reader: store.find_dataset(reader, actor.workspace, name))
    frame = read_batch(blobs, body)
    report, schema = check(frame, name, dataset, now_ms=database.clock.now_ms())
    sources = tuple(file.digest for file in body.files)
    if not report.passed:
        database.write(lambda tx: service.record_refusal(tx, actor, report, sources))
        raise refusal(report)
    table = conform(frame, schema)
    content = write_parquet(table)
    file = DataFile(digest=blobs.put(content), size_bytes=len(content), rows=table.height)
    batch = CheckedBatch(
        schema=schema,
        profile=profile(table),
        rows=table.height,
        sources=sources,
        file=file,
        staged=segments.adopt(file.digest),
        revision=0 if dataset is None else dataset.revision,
    )
    return database.write(
        lambda tx: once(
            tx,
            actor,
            key,
            ["commit_version", name, body],
            DatasetVersion,
            lambda: service.commit_version(tx, actor, name, body, batch, segments),
        )
    )


def check(frame: pl.DataFrame, name: str, dataset: Dataset | None, *, now_ms: int) -> tuple[ValidationReport, Schema]:
    """The report on a batch and the schema it was checked against: its own where the dataset has none yet."""
    known = dataset.schema if dataset else None
    schema = known or schema_of(frame)
    if not schema.columns:
        raise InvalidInput("a batch needs at least one column", path="$.files[0]")
    expectations = dataset.expectations if dataset else ()
    return validate(frame, schema, expectations, now_ms=now_ms, dataset=name), schema


def validate_files(database: Database, blobs: Blobs, actor: Actor, name: str, body: NewVersion) -> ValidationReport:
    """What a commit of these files would say; nothing is written."""
    dataset = database.read(lambda reader: store.find_dataset(reader, actor.workspace, name))
    report, _ = check(read_batch(blobs, body), name, dataset, now_ms=database.clock.now_ms())
    return report


def read_batch(blobs: Blobs, body: NewVersion) -> pl.DataFrame:
    """The rows of the uploaded files, one below the other.

    Raises:
        InvalidInput: no file, a file that was not uploaded or is no Parquet, or files of different columns.
        TooLarge: more bytes or cells than a batch may have.
    """
    if not 1 <= len(body.files) <= MAX_FILES:
        raise InvalidInput(f"a batch has 1 to {MAX_FILES} files, got {len(body.files)}", path="$.files")
    frames, total_bytes, cells = [], 0, 0
    for index, file in enumerate(body.files):
        path = f"$.files[{index}]"
        info = blobs.info(check_digest(file.digest, f"{path}.digest"))
        if info is None:
            raise InvalidInput(
                f"the file {file.digest} was not uploaded",
                path=f"{path}.digest",
                remedy="Upload its bytes first: PUT /api/v1/blobs.",
            )
        total_bytes += info.size_bytes
        if total_bytes > MAX_BATCH_BYTES:
            raise TooLarge(f"a batch has at most {MAX_BATCH_BYTES:,} bytes", path=path)
        frames.append(read_parquet(_bytes(blobs, file.digest, path), path))
        cells += frames[-1].height
        check_size(frames[-1].width, cells, path)
        _same_columns(frames[0], frames[-1], path)
    try:
        return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(
            f"the files of a batch have columns of different types: {str(error)[:200]}", path="$.files"
        ) from error


def _bytes(blobs: Blobs, digest: str, path: str) -> bytes:
    try:
        return blobs.get(digest)
    except NotFound as error:
        raise InvalidInput(f"the file {digest} is gone", path=path, remedy="Upload it again.") from error


def _same_columns(first: pl.DataFrame, frame: pl.DataFrame, path: str) -> None:
    if frame.columns != first.columns:
        raise InvalidInput(
            f"all files of a batch have the same columns: expected {', '.join(first.columns)}, "
            f"got {', '.join(frame.columns)}",
            path=path,
        )
