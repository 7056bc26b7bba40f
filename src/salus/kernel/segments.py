"""Segments: large append-only tables of immutable files on Blobs, whose list lives in Database.

A table is named by a string (`dataset:default/flights`). A commit is one SQL transaction, so rows join
together with whatever else the unit of work does, or not at all; writers never conflict. Each commit makes a
version; any version that has not been collected can be read. Small batches are kept in Database as
compressed Arrow until a compactor (`salus.kernel.segments_compaction`) folds them into Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl

from salus.kernel import segments_store as store
from salus.kernel.clock import Clock, SystemClock
from salus.kernel.errors import Conflict, InvalidInput, NotFound, TooLarge
from salus.kernel.ids import new_id
from salus.kernel.ports import Blobs
from salus.kernel.segments_columns import (
    ColumnType,
    SegmentColumn,
    StoredColumn,
    dropped,
    evolved,
    fits,
    renamed,
    widened,
)
from salus.kernel.segments_files import (
    Bound,
    FileReader,
    Range,
    StagedFile,
    bound,
    describe_parquet,
    may_hold,
    pack,
    pack_parquet,
)
from salus.kernel.segments_snapshot import Snapshot
from salus.kernel.segments_store import Lease, SegmentCommit, TableState
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record

_IPC_EXPANSION = 16


class SegmentSettings(Record):
    """How tables are laid out.

    Batches of at most `inline_bytes` stay in Database until compaction. The compactor folds neighbouring
    files of less than half `target_bytes` when there are `fold_files` of them, reading at most
    `fold_memory_bytes` at once. What a compaction or replacement removed stays readable for `grace_s`;
    staged files must join within half of it.
    """

    inline_bytes: int = 1 << 20
    target_bytes: int = 128 << 20
    fold_files: int = 8
    fold_memory_bytes: int = 1 << 30
    grace_s: float = 24 * 3600.0


class Segments:
    """All segment tables of an installation.

    Args:
        blobs: where Parquet files lie.
        cache: a folder for copies of blobs that are not local files; None reads them into memory.
        settings: sizes and periods.
        clock: stamps staged files; the database's clock stamps everything else.
    """

    def __init__(
        self,
        blobs: Blobs,
        *,
        cache: Path | None = None,
        settings: SegmentSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.blobs = blobs
        self.settings = settings or SegmentSettings()
        self.clock = clock or SystemClock()
        self._reader = FileReader(blobs, cache)

    def stage(self, frame: pl.DataFrame, *, sort_by: str | None = None) -> StagedFile:
        """`frame` made ready for `append_staged`; large ones are uploaded. Call it before the transaction.

        Raises:
            InvalidInput: a column has a type that tables do not hold.
        """
        now_ms = self.clock.now_ms()
        if frame.estimated_size() <= self.settings.inline_bytes * _IPC_EXPANSION:
            packed = pack(frame, sort_by=sort_by, now_ms=now_ms)
            if packed.size_bytes <= self.settings.inline_bytes:
                return packed
        staged = pack_parquet(frame, sort_by=sort_by, now_ms=now_ms)
        self.blobs.put(staged.payload or b"")
        return msgspec.structs.replace(staged, payload=None)

    def adopt(self, digest: str) -> StagedFile:
        """A Parquet blob that is there already, made ready for `append_staged` without a copy.

        Raises:
            NotFound: there is no such blob.
            InvalidInput: it is not Parquet, or a column has a type that tables do not hold.
        """
        return describe_parquet(self.blobs, digest, now_ms=self.clock.now_ms())

    def append(
        self,
        tx: Transaction,
        table: str,
        frame: pl.DataFrame,
        *,
        sort_by: str | None = None,
        key: str | None = None,
    ) -> SegmentCommit:
        """Adds a small batch of rows within the transaction; makes the table if need be. See `append_staged`.

        Raises:
            TooLarge: the batch takes more than `inline_bytes` compressed.
        """
        packed = pack(frame, sort_by=sort_by, now_ms=tx.now_ms)
        if packed.size_bytes > self.settings.inline_bytes:
            raise TooLarge(
                f"a batch within a transaction has at most {self.settings.inline_bytes} bytes, got {packed.size_bytes}",
                remedy="Call stage before the transaction, and append_staged in it.",
            )
        return self.append_staged(tx, table, [packed], key=key)

    def append_staged(
        self,
        tx: Transaction,
        table: str,
        staged: Sequence[StagedFile],
        *,
        key: str | None = None,
        replace: bool = False,
    ) -> SegmentCommit:
        """Adds staged files within the transaction, all in one version; makes the table if need be.

        New columns join the schema, columns that are missing are null in these rows, int widens to float.

        Args:
            key: an idempotency key: the same key again adds nothing and returns the first commit.
            replace: the rows take the place of all others, and their columns that of the schema.

        Raises:
            InvalidInput: nothing staged, or a column's type does not fit the table's.
            Conflict: a file was staged so long ago that it may have been collected.
        """
        if key is not None and (made := store.commit_by_key(tx, table, key)) is not None:
            return made
        self._check_staged(tx, staged)
        held = store.table(tx, table)
        state = held or _fresh(table, tx.now_ms)
        before = store.columns_at(tx, table, state.version) if held else ()
        base = _surviving(before, staged) if replace else before
        columns, next_id = base, state.next_column_id
        for file in staged:
            columns, next_id = evolved(columns, next_id, file.columns)
        version = state.version + 1
        if replace:
            store.remove_files(tx, table, version, None, tx.now_ms)
        if columns != before:
            store.save_columns(tx, table, version, columns)
        store.add_files(tx, table, version, staged, columns)
        rows = sum(file.rows for file in staged)
        state = msgspec.structs.replace(
            state,
            next_column_id=next_id,
            sort_by=_sort_column(columns, staged) if state.sort_by is None else state.sort_by,
            rows=rows if replace else state.rows + rows,
        )
        return commit(tx, state, kind="replace" if replace else "append", rows=rows, key=key, new=not held)

    def evolve(
        self,
        tx: Transaction,
        table: str,
        *,
        rename: Mapping[str, str] | None = None,
        drop: Sequence[str] = (),
        widen: Mapping[str, ColumnType] | None = None,
        add: Mapping[str, ColumnType] | None = None,
    ) -> SegmentCommit:
        """Changes the schema, in this order: drop, rename, widen, add. No file is touched; old versions keep
        theirs.

        Raises:
            NotFound: there is no such table.
            InvalidInput: a column is not there, is there already, or its type does not widen so.
        """
        state = self.state(tx, table)
        before = store.columns_at(tx, table, state.version)
        columns = dropped(before, drop) if drop else before
        columns = widened(renamed(columns, rename or {}), widen or {})
        new = [StoredColumn(name=name, type=type_) for name, type_ in (add or {}).items()]
        twice = sorted({column.name for column in columns} & {column.name for column in new})
        if twice:
            raise InvalidInput(f"there is a column {', '.join(twice)} already", path="$.add")
        columns, next_id = evolved(columns, state.next_column_id, new)
        store.save_columns(tx, table, state.version + 1, columns)
        sort_by = state.sort_by if any(column.id == state.sort_by for column in columns) else None
        state = msgspec.structs.replace(state, next_column_id=next_id, sort_by=sort_by)
        return commit(tx, state, kind="evolve", rows=0, key=None, new=False)

    def snapshot(
        self,
        reader: Reader,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: tuple[str, Bound, Bound] | None = None,
    ) -> Snapshot:
        """A version of the table (the newest by default), to be read after the transaction.

        Args:
            columns: only these, in this order.
            where: `(column, low, high)`: only rows with `low <= column <= high`, None leaving a side open;
            files
                that cannot hold such rows are skipped. An int means milliseconds where the column is a time.

        Raises:
            NotFound: there is no such table, or its version was never made or is collected.
            InvalidInput: there is no such column, or a bound does not fit its type.
        """
        state = self.state(reader, table)
        at = state.version if version is None else version
        self._require_readable(reader, state, at)
        all_columns = store.columns_at(reader, table, at)
        by_name = {column.name: column for column in all_columns}
        wanted = tuple(_known(by_name, name) for name in columns) if columns is not None else all_columns
        if not wanted:
            raise InvalidInput("a snapshot needs at least one column, got none", path="$.columns")
        files = store.files_at(reader, table, at)
        range_ = None
        if where is not None:
            column = _known(by_name, where[0])
            range_ = Range(column=column.name, low=bound(where[1], column), high=bound(where[2], column))
            files = [f for f in files if may_hold(f.statistics.get(column.id), range_, f.rows)]
        inline = store.payloads(reader, [file.id for file in files if file.format == "ipc"])
        files = [
            msgspec.structs.replace(file, payload=inline[file.id]) if file.id in inline else file for file in files
        ]
        return Snapshot(
            state=state,
            version=at,
            columns=all_columns,
            wanted=wanted,
            where=range_,
            files=files,
            reader=self._reader,
        )

    def state(self, reader: Reader, table: str) -> TableState:
        """What the table is now. Raises `NotFound`."""
        state = store.table(reader, table)
        if state is None:
            raise NotFound(f"there is no table {table}", remedy="Append rows to make it.")
        return state

    def tables(self, reader: Reader, prefix: str = "") -> list[str]:
        """The names of all tables that start with `prefix`, sorted."""
        return store.table_names(reader, prefix)

    def history(self, reader: Reader, table: str, *, limit: int = 100) -> list[SegmentCommit]:
        """The newest commits first. Raises `NotFound`."""
        self.state(reader, table)
        return store.commits_of(reader, table, limit)

    def hold(self, tx: Transaction, table: str, version: int, *, owner: str, for_s: float | None = None) -> Lease:
        """Keeps a version readable for `for_s` seconds, or until `release`. Raises `NotFound`."""
        self._require_readable(tx, self.state(tx, table), version)
        expires_ms = None if for_s is None else tx.now_ms + round(for_s * 1000)
        lease = Lease(id=new_id("lease"), name=table, version=version, owner=owner, expires_ms=expires_ms)
        tx.insert(store.leases, lease)
        return lease

    def release(self, tx: Transaction, lease_id: str) -> None:
        """Ends a lease; no error if it has ended."""
        tx.execute(store.leases.delete().where(store.leases.c.id == lease_id))

    def _require_readable(self, reader: Reader, state: TableState, version: int) -> None:
        if not 1 <= version <= state.version:
            raise NotFound(
                f"the table {state.name} has the versions 1 to {state.version}, not {version}", path="$.version"
            )
        if version >= state.oldest_version:
            return
        if not any(lease.version == version for lease in store.live_leases(reader, state.name)):
            raise NotFound(
                f"version {version} of the table {state.name} was collected; "
                f"the oldest that is kept is {state.oldest_version}",
                path="$.version",
                remedy="Hold a version to keep it.",
            )

    def _check_staged(self, tx: Transaction, staged: Sequence[StagedFile]) -> None:
        if not staged:
            raise InvalidInput("nothing is staged: give at least one file", path="$.staged")
        limit_s = self.settings.grace_s / 2
        for file in staged:
            if file.payload is None and file.owned and tx.now_ms - file.staged_ms > limit_s * 1000:
                raise Conflict(f"a staged file must join its table within {limit_s} s", remedy="Stage the rows again.")


def commit(tx: Transaction, state: TableState, *, kind: str, rows: int, key: str | None, new: bool) -> SegmentCommit:
    """Moves the table to its next version and records what made it."""
    state = msgspec.structs.replace(state, version=state.version + 1, changed_ms=tx.now_ms)
    made = SegmentCommit(name=state.name, version=state.version, kind=kind, rows=rows, key=key, at_ms=tx.now_ms)
    store.save(tx, state, new=new)
    tx.insert(store.commits, made)
    return made


def _fresh(table: str, now_ms: int) -> TableState:
    return TableState(
        name=table,
        version=0,
        oldest_version=1,
        next_column_id=1,
        sort_by=None,
        rows=0,
        created_ms=now_ms,
        changed_ms=now_ms,
    )


def _surviving(columns: tuple[SegmentColumn, ...], staged: Sequence[StagedFile]) -> tuple[SegmentColumn, ...]:
    """The columns that go on living when `staged` replaces all rows: those that come again with a type
    that fits."""
    coming = {column.name: column for file in staged for column in file.columns}
    return tuple(c for c in columns if c.name in coming and fits(c, coming[c.name]))


def _sort_column(columns: tuple[SegmentColumn, ...], staged: Sequence[StagedFile]) -> int | None:
    names = {file.sorted_by for file in staged}
    return next((column.id for column in columns if {column.name} == names), None)


def _known(by_name: Mapping[str, SegmentColumn], name: str) -> SegmentColumn:
    if name not in by_name:
        raise InvalidInput(f"there is no column {name!r}; there is {', '.join(by_name)}", path="$.columns")
    return by_name[name]
