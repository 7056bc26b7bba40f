"""Tables: Polars frames and the schemas they obey; Parquet and Arrow bytes from outside, read with care.

The column types of Salus in Polars: `int` Int64, `float` Float64, `string` String, `bool` Boolean, `time`
Datetime in milliseconds, UTC (a time without a zone is taken as UTC).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import polars as pl

from salus.data.arrow_size import declared_bytes
from salus.data.model import MAX_CELLS, MAX_COLUMNS
from salus.kernel.errors import InvalidInput, TooLarge
from salus.kernel.schema import Column, DType, Schema

POLARS_TYPES: Mapping[DType, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "time": pl.Datetime("ms", "UTC"),
}

MAX_ARROW_BYTES = 256 * 1024**2
"""So large may an Arrow file be that comes in the body of a request, unpacked."""

EARLIEST_MS = -62_135_596_800_000
LATEST_MS = 253_402_300_799_999
"""Times lie in the years 1 to 9999, as ISO 8601 and Python have them."""

_PARQUET_MAGIC = b"PAR1"
_ARROW_MAGIC = b"ARROW1"


def dtype_of(dtype: pl.DataType) -> DType | None:
    """The column type that holds all values of a Polars type, or None when there is none.

    >>> dtype_of(pl.UInt8()), dtype_of(pl.Date()), dtype_of(pl.List(pl.Int64))
    ('int', 'time', None)
    """
    if dtype.is_integer():
        return "int"
    if dtype.is_float() or isinstance(dtype, pl.Decimal):
        return "float"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "string"
    if isinstance(dtype, pl.Boolean):
        return "bool"
    return "time" if isinstance(dtype, pl.Datetime | pl.Date) else None


def schema_of(frame: pl.DataFrame, path: str = "$") -> Schema:
    """The schema of `frame`; every column may be missing.

    Raises:
        InvalidInput: a column has a type that Salus does not keep (lists, structs, durations), or no type
            at all.
    """
    columns = []
    for name, dtype in frame.schema.items():
        kept = dtype_of(dtype)
        if kept is None:
            raise InvalidInput(
                f"the column {name!r} has the type {dtype}, which is none of {', '.join(POLARS_TYPES)}",
                path=f"{path}.{name}",
                remedy="Cast it, or declare the dataset's schema when all its values are missing.",
            )
        columns.append(Column(name=name, dtype=kept))
    return Schema(columns=tuple(columns))


def accepts(wanted: DType, given: pl.DataType) -> bool:
    """Whether values of a Polars type may stand in a column of type `wanted`: the same type, or int as
    float.
    """
    if isinstance(given, pl.Null):
        return True
    kept = dtype_of(given)
    return kept == wanted or (wanted == "float" and kept == "int")


def cast(series: pl.Series, wanted: DType) -> pl.Series:
    """`series` in the Polars type of `wanted`.

    Raises:
        InvalidInput: a value does not fit (an unsigned integer above 2^63).
    """
    try:
        if wanted == "time" and isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None:
            series = series.dt.replace_time_zone("UTC")
        elif wanted == "time" and isinstance(series.dtype, pl.Datetime):
            series = series.dt.convert_time_zone("UTC")
        if wanted == "time" and isinstance(series.dtype, pl.Date):
            series = series.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
        return series.cast(POLARS_TYPES[wanted], strict=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InvalidInput(
            f"a value of {series.name!r} does not fit the type {wanted}: {_first_line(error)}",
            path=f"$.{series.name}",
        ) from error


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """`frame` with the columns of `schema`, in its order and its types. The frame must have passed
    validation.
    """
    return frame.select(cast(frame[column.name], column.dtype).alias(column.name) for column in schema.columns)


def align(table: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    """`table`, written under an older schema, as `schema` has it: columns it lacks are missing, others are left out."""
    there = table.collect_schema()
    return table.select(
        (pl.col(column.name) if column.name in there else pl.lit(None))
        .cast(POLARS_TYPES[column.dtype])
        .alias(column.name)
        for column in schema.columns
    )


def read_parquet(content: bytes, path: str = "$") -> pl.DataFrame:
    """The table in the bytes of a Parquet file that may be anything.

    Raises:
        InvalidInput: it is not Parquet, or damaged.
        TooLarge: it says that it has more columns or cells than the limits allow.
    """
    framed = len(content) >= 12 and content[:4] == _PARQUET_MAGIC and content[-4:] == _PARQUET_MAGIC
    if not framed or int.from_bytes(content[-8:-4], "little") > len(content) - 12:
        raise InvalidInput("the bytes are not a Parquet file", path=path, remedy="Upload the bytes of a Parquet file.")
    with refusing_damage("Parquet", path):
        columns = len(pl.read_parquet_schema(io.BytesIO(content)))
        rows = pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item()
        check_size(columns, rows, path)
        return pl.read_parquet(io.BytesIO(content))


def read_arrow(content: bytes, path: str = "$", *, limit_bytes: int | None = None) -> pl.DataFrame:
    """The table in the bytes of an Arrow IPC file that may be anything.

    Raises:
        InvalidInput: it is not an Arrow IPC file, or damaged.
        TooLarge: it has more columns or cells than the limits allow, or unpacks to more than `limit_bytes`.
    """
    if content[:6] != _ARROW_MAGIC or content[-6:] != _ARROW_MAGIC:
        raise InvalidInput("the body is not an Arrow IPC file", path=path, remedy="Send DataFrame.write_ipc's bytes.")
    size_bytes = declared_bytes(content, path)
    if limit_bytes is not None and size_bytes > limit_bytes:
        raise TooLarge(
            f"an Arrow file has at most {limit_bytes:,} bytes when unpacked, this one {size_bytes:,}",
            path=path,
            remedy="Send it in several parts.",
        )
    with refusing_damage("Arrow IPC", path):
        frame = pl.read_ipc(io.BytesIO(content))
    check_size(frame.width, frame.height, path)
    return frame


def write_arrow(frame: pl.DataFrame) -> bytes:
    """`frame` as an Arrow IPC file, compressed with zstd."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def write_parquet(frame: pl.DataFrame) -> bytes:
    """`frame` as a Parquet file; the same frame gives the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


@contextmanager
def refusing_damage(what: str, path: str) -> Iterator[None]:
    """Whatever the reader of hostile bytes throws (its panics are no `Exception`) becomes `InvalidInput`."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise InvalidInput(
            f"the {what} file is damaged: {_first_line(error)}",
            path=path,
            remedy="Write it anew and upload it again.",
        ) from error


def check_size(columns: int, rows: int, path: str) -> None:
    """Refuses tables beyond the limits. Raises `TooLarge`."""
    if columns > MAX_COLUMNS:
        raise TooLarge(f"a table has at most {MAX_COLUMNS} columns, this one {columns}", path=path)
    if columns * rows > MAX_CELLS:
        raise TooLarge(
            f"a file has at most {MAX_CELLS} cells, this one {rows} x {columns}",
            path=path,
            remedy="Commit it in several files.",
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
