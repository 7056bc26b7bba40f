"""Upkeep of segment tables: small files folded into large ones, files that nobody can read any more deleted.

Both run beside writers and readers: the work is done outside any transaction, and a short one at the end
makes it so. A kill at any point leaves the tables as they were, and at most blobs that the next run deletes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import msgspec

from salus.kernel import segments_store as store
from salus.kernel.ports import Database
from salus.kernel.segments import Segments, commit
from salus.kernel.segments_files import SegmentFile, StagedFile, describe_parquet
from salus.kernel.segments_snapshot import Snapshot
from salus.kernel.segments_store import RemovedFile, SegmentCommit
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record

_PIECE_BYTES = 1 << 20
_ROW_GROUP_ROWS = 128 * 1024
_CELL_BYTES = 8
_BATCH = 1_000


class Collected(Record):
    """What a collection deleted."""

    files: int
    blobs: int


def compact(database: Database, segments: Segments, table: str) -> SegmentCommit | None:
    """Folds one run of neighbouring small files into a Parquet file of at most the target size; the rows
    stay the same.

    Returns the commit, or None when there was nothing worth folding or another compactor was faster. Call it
    again until it returns None. A table with a sort column gets files sorted by it.

    Raises:
        NotFound: there is no such table.
        Corrupt: a file's bytes are not what was written; the table stays as it is.

    Cost: reads and writes the run once; memory of the run's rows, bounded by
    `SegmentSettings.fold_memory_bytes`.
    """
    whole, chosen = database.read(lambda reader: _choose(reader, segments, table))
    if not chosen:
        return None
    part = whole.of(chosen)
    folded = _fold(segments, part)
    database.write(lambda tx: store.note_garbage(tx, folded.digest, tx.now_ms))
    return database.write(lambda tx: _swap(tx, segments, part, folded))


def _choose(reader: Reader, segments: Segments, table: str) -> tuple[Snapshot, list[SegmentFile]]:
    snapshot = segments.snapshot(reader, table)
    return snapshot, worth_folding(snapshot.files, segments)


def worth_folding(files: tuple[SegmentFile, ...], segments: Segments) -> list[SegmentFile]:
    """The longest run of neighbouring small files that fits the target, if it has enough of them; else
    nothing."""
    settings = segments.settings
    best: list[SegmentFile] = []
    run: list[SegmentFile] = []
    size = memory = 0
    for file in files:
        cells_bytes = file.rows * len(file.columns) * _CELL_BYTES
        small = file.size_bytes < settings.target_bytes / 2
        fits = size + file.size_bytes <= settings.target_bytes
        fits &= memory + cells_bytes <= settings.fold_memory_bytes
        if not (small and fits):
            run, size, memory = [], 0, 0
        if small:
            run.append(file)
            size += file.size_bytes
            memory += cells_bytes
        if len(run) > len(best):
            best = list(run)
    while best and best[0].size_bytes > sum(file.size_bytes for file in best[1:]):
        best.pop(0)
    return best if len(best) >= max(2, settings.fold_files) else []


def _fold(segments: Segments, part: Snapshot) -> StagedFile:
    rows = part.scan(ordered=part.sort_column is not None)
    with tempfile.TemporaryDirectory(prefix="salus-compact-") as made:
        path = Path(made) / "folded.parquet"
        rows.sink_parquet(
            path, compression="zstd", row_group_size=_ROW_GROUP_ROWS, metadata={"salus.file": uuid4().hex}
        )
        info = segments.blobs.put_stream(_pieces(path))
    described = describe_parquet(segments.blobs, info.digest, now_ms=segments.clock.now_ms())
    return msgspec.structs.replace(described, sorted_by=part.sort_column, owned=True)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _swap(tx: Transaction, segments: Segments, part: Snapshot, folded: StagedFile) -> SegmentCommit | None:
    state = segments.state(tx, part.table)
    ids = [file.id for file in part.files]
    live = {file.id for file in store.files_at(tx, part.table, state.version)}
    if not live.issuperset(ids):
        return None
    version = state.version + 1
    store.remove_files(tx, part.table, version, ids, tx.now_ms)
    store.add_files(tx, part.table, version, [folded], part.columns, position=part.files[0].position)
    return commit(tx, state, kind="compact", rows=0, key=None, new=False)


def collect_garbage(
    database: Database, segments: Segments, *, keep: Callable[[Reader, str], bool] | None = None
) -> Collected:
    """Deletes files that were removed longer ago than the grace period and that no lease needs, and their
    blobs.

    Only blobs that segments wrote themselves are deleted.

    Args:
        keep: says of a digest whether somebody else refers to the blob by now; it then stays for good.
    """
    files = after_id = 0
    while found := database.read(partial(_removed, segments=segments, after_id=after_id)):
        after_id = found[-1].id
        files += database.write(partial(_forget, found=found))
    digests = database.read(lambda reader: _deletable(reader, segments))
    kept = [] if keep is None else database.read(lambda reader: [d for d in digests if keep(reader, d)])
    for digest in set(digests).difference(kept):
        segments.blobs.delete(digest)
    if digests:
        database.write(lambda tx: store.forget_garbage(tx, digests))
    return Collected(files=files, blobs=len(digests) - len(kept))


def _removed(reader: Reader, *, segments: Segments, after_id: int) -> list[RemovedFile]:
    return store.removed_files(reader, _horizon_ms(reader, segments), after_id, _BATCH)


def _forget(tx: Transaction, *, found: list[RemovedFile]) -> int:
    leases = {name: store.live_leases(tx, name) for name in {file.name for file in found}}
    free = [
        file
        for file in found
        if not any(file.added_version <= lease.version < file.removed_version for lease in leases[file.name])
    ]
    store.forget_files(tx, free)
    return len(free)


def _deletable(reader: Reader, segments: Segments) -> list[str]:
    """Garbage that was not put anew within the grace period."""
    horizon_ms = _horizon_ms(reader, segments)
    noted = store.unreferenced_garbage(reader, horizon_ms)
    infos = [(digest, segments.blobs.info(digest)) for digest in noted]
    return [digest for digest, info in infos if info is None or info.modified_ms <= horizon_ms]


def _horizon_ms(reader: Reader, segments: Segments) -> int:
    return reader.now_ms - round(segments.settings.grace_s * 1000)
