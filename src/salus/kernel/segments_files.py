"""Files of segment tables: how rows become bytes and back, what is known of them without reading, what can
be skipped.

Small batches are Arrow IPC (zstd), everything else is Parquet; both hold plain columns under the names of
their time.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable
from uuid import uuid4

import polars as pl
from blake3 import blake3

from salus.kernel.content import digest, verify
from salus.kernel.errors import Corrupt, InvalidInput, NotFound
from salus.kernel.ports import Blobs
from salus.kernel.segments_columns import SegmentColumn, StoredColumn, fitted, type_of
from salus.kernel.structs import Record

_LONGEST_STATISTIC = 64
_ROW_GROUP_ROWS = 128 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Bound = int | float | str | bool | date | datetime | None


class Range(Record):
    """Rows where `low <= column <= high`; None leaves a side open. Nulls and NaN lie in no range."""

    column: str
    low: Any = None
    high: Any = None


class ColumnStatistics(Record):
    """Bounds of a column within one file; None where unknown. Times count microseconds, dates days, since
    1970."""

    low: Any = None
    high: Any = None
    nulls: int = 0


class StagedFile(Record):
    """Rows ready to join a table: as bytes to keep in Database, or as the digest of a Parquet blob."""

    format: Literal["ipc", "parquet"]
    digest: str
    payload: bytes | None
    rows: int
    size_bytes: int
    columns: tuple[StoredColumn, ...]
    statistics: dict[str, ColumnStatistics]
    sorted_by: str | None
    owned: bool
    staged_ms: int


@runtime_checkable
class LocalPaths(Protocol):
    """Blobs that lie in this machine's file system: engines read them in place."""

    def path(self, digest: str) -> Path:
        """Where the blob lies, if it is there."""
        ...


def pack(frame: pl.DataFrame, *, sort_by: str | None, now_ms: int) -> StagedFile:
    """`frame` as Arrow IPC, to be kept in Database."""
    rows = _in_order(fitted(frame), sort_by)
    buffer = io.BytesIO()
    rows.write_ipc(buffer, compression="zstd")
    return _described(rows, "ipc", buffer.getvalue(), sort_by, now_ms)


def pack_parquet(frame: pl.DataFrame, *, sort_by: str | None, now_ms: int) -> StagedFile:
    """`frame` as Parquet; the payload is to be uploaded. Its metadata hold a number that no other file
    has."""
    rows = _in_order(fitted(frame), sort_by)
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", row_group_size=_ROW_GROUP_ROWS, metadata={"salus.file": uuid4().hex})
    return _described(rows, "parquet", buffer.getvalue(), sort_by, now_ms)


def describe_parquet(blobs: Blobs, name: str, *, now_ms: int) -> StagedFile:
    """A Parquet blob that somebody else wrote, as a file of a table; it stays theirs and is never deleted
    from here.

    Raises:
        NotFound: there is no such blob.
        InvalidInput: it is not Parquet, or a column has a type that tables do not hold.
    """
    info = blobs.info(name)
    if info is None:
        raise NotFound(f"there is no blob {name}", path="$.digest")
    try:
        lazy = pl.scan_parquet(_source(blobs, name))
        schema = lazy.collect_schema()
        types = {column: type_of(dtype, column) for column, dtype in schema.items()}
        bounds = lazy.select(_statistics_of(column, dtype) for column, dtype in schema.items()).collect()
        rows: int = lazy.select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(f"the blob {name} is not a Parquet file: {error}", path="$.digest") from error
    return StagedFile(
        format="parquet",
        digest=name,
        payload=None,
        rows=rows,
        size_bytes=info.size_bytes,
        columns=tuple(StoredColumn(name=column, type=type_) for column, type_ in types.items()),
        statistics={column: _statistics(bounds[column][0]) for column in schema},
        sorted_by=None,
        owned=False,
        staged_ms=now_ms,
    )


def _in_order(frame: pl.DataFrame, sort_by: str | None) -> pl.DataFrame:
    if sort_by is None:
        return frame
    if sort_by not in frame.columns:
        raise InvalidInput(f"cannot sort by {sort_by!r}: there is no such column", path="$.sort_by")
    return frame.sort(sort_by, maintain_order=True)


def _described(
    frame: pl.DataFrame,
    format_: Literal["ipc", "parquet"],
    payload: bytes,
    sort_by: str | None,
    now_ms: int,
) -> StagedFile:
    bounds = frame.select(_statistics_of(column, dtype) for column, dtype in frame.schema.items())
    return StagedFile(
        format=format_,
        digest=digest(payload),
        payload=payload,
        rows=frame.height,
        size_bytes=len(payload),
        columns=tuple(StoredColumn(name=name, type=type_of(dtype, name)) for name, dtype in frame.schema.items()),
        statistics={name: _statistics(bounds[name][0]) for name in frame.columns},
        sorted_by=sort_by,
        owned=True,
        staged_ms=now_ms,
    )


def _statistics_of(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    fields = [column.null_count().alias("nulls")]
    if dtype.is_numeric() or dtype in (pl.String(), pl.Boolean()):
        fields += [column.min().alias("low"), column.max().alias("high")]
    elif dtype.is_temporal():
        plain = column.dt.cast_time_unit("us") if isinstance(dtype, pl.Datetime) else column
        fields += [plain.min().to_physical().alias("low"), plain.max().to_physical().alias("high")]
    return pl.struct(fields).alias(name)


def _statistics(found: dict[str, Any]) -> ColumnStatistics:
    low, high = found.get("low"), found.get("high")
    if isinstance(low, str):
        low = low[:_LONGEST_STATISTIC]
    if isinstance(high, str) and len(high) > _LONGEST_STATISTIC:
        high = None
    return ColumnStatistics(low=_finite(low), high=_finite(high), nulls=found["nulls"])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def bound(value: Bound, column: SegmentColumn) -> Bound:
    """A bound as values of `column` are compared with it; for a time, an int is milliseconds since 1970.

    Raises:
        InvalidInput: it has another type than the column.
    """
    if value is None:
        return None
    if column.type in ("time", "local_time"):
        if isinstance(value, int):
            value = datetime.fromtimestamp(value // 1000, UTC) + timedelta(milliseconds=value % 1000)
        if isinstance(value, datetime):
            utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return utc if column.type == "time" else utc.replace(tzinfo=None)
    elif isinstance(value, _COMPARABLE.get(column.type, ())) and isinstance(value, datetime) is False:
        return value
    raise InvalidInput(
        f"the column {column.name!r} is {column.type}, it cannot be compared with {value!r}", path="$.where"
    )


_COMPARABLE: dict[str, tuple[type, ...]] = {
    "int": (int, float),
    "float": (int, float),
    "string": (str,),
    "bool": (bool,),
    "date": (date,),
}


def physical(value: Bound) -> Any:
    """A bound as statistics count it."""
    if isinstance(value, datetime):
        zoned = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return (zoned - _EPOCH) // timedelta(microseconds=1)
    return (value - _EPOCH.date()).days if isinstance(value, date) else value


def may_hold(statistics: ColumnStatistics | None, wanted: Range, rows: int) -> bool:
    """Whether a file with these `statistics` for the column can hold rows in the range `wanted`."""
    if statistics is None or statistics.nulls == rows:
        return False
    low, high = physical(wanted.low), physical(wanted.high)
    if low is not None and statistics.high is not None and statistics.high < low:
        return False
    return not (high is not None and statistics.low is not None and statistics.low > high)


def within(wanted: Range, dtype: pl.DataType) -> pl.Expr:
    """The filter that leaves exactly the rows in the range `wanted`."""
    column = pl.col(wanted.column)
    keep = column.is_not_null()
    if dtype.is_float():
        keep &= column.is_not_nan()
    if wanted.low is not None:
        keep &= column >= wanted.low
    if wanted.high is not None:
        keep &= column <= wanted.high
    return keep


class SegmentFile(Record):
    """One file of a snapshot. `columns` maps the ids of its columns to how they lie in it."""

    id: int
    position: int
    format: Literal["ipc", "parquet"]
    digest: str
    payload: bytes | None
    rows: int
    size_bytes: int
    columns: dict[int, StoredColumn]
    statistics: dict[int, ColumnStatistics]
    sorted_by: int | None

    def holds(self, column: SegmentColumn) -> bool:
        """Whether the file has values of `column`."""
        stored = self.columns.get(column.id)
        return stored is not None and stored.type != "null"


class FileReader:
    """Reads files of tables; each blob's digest is verified once per process."""

    def __init__(self, blobs: Blobs, cache: Path | None = None) -> None:
        self._blobs = blobs
        self._cache = cache
        self._verified: set[str] = set()
        self._lock = threading.Lock()
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def scan(self, file: SegmentFile, columns: Sequence[SegmentColumn]) -> pl.LazyFrame:
        """The rows of `file` with `columns` as they are called and typed now.

        Raises:
            Corrupt: the bytes are not what was written, or are gone.
        """
        if file.payload is not None:
            found = pl.read_ipc(verify(file.payload, file.digest)).lazy()
        else:
            found = pl.scan_parquet(self._parquet(file.digest))
        held = [column for column in columns if file.holds(column)]
        missing = [column for column in columns if not file.holds(column)]
        present = [_as_now(file.columns[column.id], column) for column in held]
        if not held:
            first = next(iter(file.columns.values()))
            present = [pl.col(first.name).alias(" any")]
        lits = [pl.lit(None, dtype=column.polars_type).alias(column.name) for column in missing]
        return found.select(present).with_columns(lits).select(column.name for column in columns)

    def _parquet(self, name: str) -> Path | io.BytesIO:
        try:
            if isinstance(self._blobs, LocalPaths):
                return self._verified_path(self._blobs.path(name), name)
            if self._cache is None:
                return io.BytesIO(self._blobs.get(name))
            path = self._cache / name.removeprefix("blake3:")
            if not path.exists():
                part = path.with_name(f"{path.name}.{uuid4().hex}")
                with part.open("wb") as file:
                    file.writelines(self._blobs.stream(name))
                part.replace(path)
            return self._verified_path(path, name)
        except (NotFound, FileNotFoundError):
            raise Corrupt(
                f"a file of this table is gone: {name}",
                remedy="Take a fresh snapshot; if it is gone there too, restore the blob from a backup.",
            ) from None

    def _verified_path(self, path: Path, name: str) -> Path:
        with self._lock:
            known = name in self._verified
        if known and path.exists():
            return path
        actual = f"blake3:{blake3().update_mmap(path).hexdigest()}"
        if actual != name:
            raise Corrupt(
                f"stored bytes have the digest {actual}, expected {name}",
                remedy="Restore the object from a backup or upload it again.",
            )
        with self._lock:
            self._verified.add(name)
        return path


def _as_now(stored: StoredColumn, column: SegmentColumn) -> pl.Expr:
    source = pl.col(stored.name)
    if column.type == "time" and stored.type == "time":
        source = source.dt.convert_time_zone("UTC")
    return source.cast(column.polars_type).alias(column.name)


def _source(blobs: Blobs, name: str) -> Path | io.BytesIO:
    if isinstance(blobs, LocalPaths):
        return blobs.path(name)
    return io.BytesIO(blobs.get(name))
