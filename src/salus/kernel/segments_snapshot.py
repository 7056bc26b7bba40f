"""What a reader holds of a segment table: one version's files, to be read after the transaction that
listed them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from salus.kernel.errors import InvalidInput
from salus.kernel.segments_columns import SegmentColumn
from salus.kernel.segments_files import FileReader, Range, SegmentFile, within
from salus.kernel.segments_store import TableState


class Snapshot:
    """One version of a table, to be read outside the transaction that took it.

    `rows` counts the rows of its files: exact without `where`, an upper bound with it.
    """

    def __init__(
        self,
        *,
        state: TableState,
        version: int,
        columns: tuple[SegmentColumn, ...],
        wanted: tuple[SegmentColumn, ...],
        where: Range | None,
        files: list[SegmentFile],
        reader: FileReader,
    ) -> None:
        self._state = state
        self.table = state.name
        self.version = version
        self.columns = wanted
        self.files = tuple(files)
        self.rows = sum(file.rows for file in files)
        self._all_columns = columns
        self._sort_by = next((column for column in columns if column.id == state.sort_by), None)
        self._where = where
        self._reader = reader

    @property
    def sorted_by(self) -> str | None:
        """The column that the rows are sorted by as they lie there, file after file; None when they are
        not."""
        column = self._sort_by
        if column is None or any(file.sorted_by != column.id for file in self.files):
            return None
        last = None
        for file in self.files:
            found = file.statistics.get(column.id)
            if file.rows == 0:
                continue
            if found is None or found.nulls or found.low is None or found.high is None:
                return None
            if last is not None and found.low < last:
                return None
            last = found.high
        return column.name

    def scan(self, *, ordered: bool = False) -> pl.LazyFrame:
        """The rows, lazily, in the order in which they joined.

        Args:
            ordered: by the table's sort column instead, and flagged so; free where `sorted_by` says it is.

        Raises:
            Corrupt: a file's bytes are not what was written.
            InvalidInput: `ordered`, but the table has no sort column.
        """
        names = [column.name for column in self.columns]
        order = self._order() if ordered else None
        extra = {self._where.column if self._where else None, order}
        read = self.columns + tuple(
            column for column in self._all_columns if column.name in extra and column.name not in names
        )
        schema = {column.name: column.polars_type for column in read}
        if self.files:
            rows = pl.concat([self._reader.scan(file, read) for file in self.files], how="vertical")
        else:
            rows = pl.LazyFrame(schema=schema)
        if self._where is not None:
            rows = rows.filter(within(self._where, schema[self._where.column]))
        if order is not None:
            in_place = self.sorted_by == order
            rows = rows.set_sorted(order) if in_place else rows.sort(order, maintain_order=True)
        return rows.select(names)

    def read(self, *, ordered: bool = False) -> pl.DataFrame:
        """The rows, in memory. See `scan`."""
        return self.scan(ordered=ordered).collect()

    @property
    def sort_column(self) -> str | None:
        """The table's sort column, whether or not these rows lie sorted by it."""
        return None if self._sort_by is None else self._sort_by.name

    def of(self, files: Sequence[SegmentFile]) -> Snapshot:
        """The same version reduced to some of its files, with all columns and rows."""
        return Snapshot(
            state=self._state,
            version=self.version,
            columns=self._all_columns,
            wanted=self._all_columns,
            where=None,
            files=list(files),
            reader=self._reader,
        )

    def _order(self) -> str:
        if self._sort_by is None:
            raise InvalidInput(
                f"the table {self.table} has no sort column", remedy="Append with sort_by, or sort the rows."
            )
        return self._sort_by.name
