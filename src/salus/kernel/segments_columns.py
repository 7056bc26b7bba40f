"""Columns of segment tables: which types there are, how frames are made to fit, how schemas grow. Pure
functions.

A column keeps its id for life; its name may change and its type may widen. A column that was dropped and one
that is added later under the same name have different ids, so old values never come back under a new
meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl
from polars.datatypes import DataTypeClass

from salus.kernel.errors import InvalidInput
from salus.kernel.structs import Record

ColumnType = Literal[
    "null", "int", "float", "string", "bool", "time", "local_time", "date", "binary",
    "list[int]", "list[float]", "list[string]", "list[bool]",
]  # fmt: skip
"""`null` is a column that has held no value yet; `time` is an instant (UTC), `local_time` one without a
zone."""

_POLARS: dict[ColumnType, pl.DataType] = {
    "null": pl.Null(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "time": pl.Datetime("us", "UTC"),
    "local_time": pl.Datetime("us"),
    "date": pl.Date(),
    "binary": pl.Binary(),
    "list[int]": pl.List(pl.Int64()),
    "list[float]": pl.List(pl.Float64()),
    "list[string]": pl.List(pl.String()),
    "list[bool]": pl.List(pl.Boolean()),
}

_WIDENINGS: frozenset[tuple[ColumnType, ColumnType]] = frozenset({("int", "float"), ("list[int]", "list[float]")})


class SegmentColumn(Record):
    """One column of a table: `id` for life, `name` and `type` as of one version."""

    id: int
    name: str
    type: ColumnType

    @property
    def polars_type(self) -> pl.DataType:
        """The type of its values in frames."""
        return _POLARS[self.type]


class StoredColumn(Record):
    """A column as it lies in one file."""

    name: str
    type: ColumnType


def fitted(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with each column in the one type that stands for its kind (`int` 64 bits, `time` microseconds
    UTC, …).

    Raises:
        InvalidInput: a column's type has no place in a table, or a value would change by the conversion.
    """
    types = {name: type_of(dtype, name) for name, dtype in frame.schema.items()}
    if not types:
        raise InvalidInput("a table needs at least one column, got none", path="$.columns")
    changed = [name for name, type_ in types.items() if frame.schema[name] != _POLARS[type_]]
    for name in changed:
        _refuse_loss(frame[name], _POLARS[types[name]])
    return frame.with_columns(_converted(name, frame.schema[name], types[name]) for name in changed)


def type_of(dtype: pl.DataType | DataTypeClass, name: str) -> ColumnType:
    """The kind of column that holds values of `dtype`. Raises `InvalidInput`; `name` says which column."""
    if dtype.is_integer():
        return "int"
    if dtype.is_float():
        return "float"
    if isinstance(dtype, pl.Datetime):
        return "local_time" if dtype.time_zone is None else "time"
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return "string"
    if isinstance(dtype, pl.List | pl.Array):
        match type_of(dtype.inner, name):
            case "int":
                return "list[int]"
            case "float":
                return "list[float]"
            case "string":
                return "list[string]"
            case "bool":
                return "list[bool]"
    for type_, stored in _POLARS.items():
        if dtype == stored:
            return type_
    raise InvalidInput(
        f"the column {name!r} has the type {dtype}, which tables do not hold",
        path=f"$.{name}",
        remedy=f"Cast it to one of: {', '.join(_POLARS)}.",
    )


def _converted(name: str, dtype: pl.DataType, type_: ColumnType) -> pl.Expr:
    column = pl.col(name)
    if type_ == "time" and isinstance(dtype, pl.Datetime) and dtype.time_zone != "UTC":
        column = column.dt.convert_time_zone("UTC")
    return column.cast(_POLARS[type_])


def _refuse_loss(values: pl.Series, target: pl.DataType) -> None:
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_unit == "ns":
        lost = (values.to_physical() % 1000 != 0).any()
    elif values.dtype == pl.UInt64:
        lost = (values > 2**63 - 1).any()
    else:
        return
    if lost:
        raise InvalidInput(
            f"the column {values.name!r} ({values.dtype}) holds values that {target} cannot hold",
            path=f"$.{values.name}",
            remedy="Round or cast the column first.",
        )


def evolved(
    columns: Sequence[SegmentColumn], next_id: int, stored: Sequence[StoredColumn]
) -> tuple[tuple[SegmentColumn, ...], int]:
    """The schema after rows with the columns `stored` have joined: new columns added, types widened.

    Returns the columns and the next free id.

    Raises:
        InvalidInput: a column comes with a type that its own does not widen to.
    """
    known = {column.name: index for index, column in enumerate(columns)}
    grown = list(columns)
    for column in stored:
        if column.name in known:
            held = grown[known[column.name]]
            grown[known[column.name]] = SegmentColumn(
                id=held.id, name=held.name, type=_wider(held.type, column.type, column.name)
            )
        else:
            grown.append(SegmentColumn(id=next_id, name=column.name, type=column.type))
            next_id += 1
    return tuple(grown), next_id


def _wider(held: ColumnType, new: ColumnType, name: str) -> ColumnType:
    if held == new or new == "null" or (new, held) in _WIDENINGS:
        return held
    if held == "null" or (held, new) in _WIDENINGS:
        return new
    raise InvalidInput(
        f"the column {name!r} is {held} in this table, got {new}",
        path=f"$.{name}",
        remedy="Cast the column, or give it another name.",
    )


def renamed(columns: Sequence[SegmentColumn], names: Mapping[str, str]) -> tuple[SegmentColumn, ...]:
    """The schema with columns renamed (`{"old": "new"}`). Raises `InvalidInput`."""
    _require_known(columns, names)
    result = tuple(
        SegmentColumn(id=column.id, name=names.get(column.name, column.name), type=column.type) for column in columns
    )
    if len({column.name for column in result}) < len(result):
        raise InvalidInput(f"two columns would have the same name after renaming {dict(names)}", path="$.rename")
    return result


def dropped(columns: Sequence[SegmentColumn], names: Sequence[str]) -> tuple[SegmentColumn, ...]:
    """The schema without the columns `names`. Raises `InvalidInput`."""
    _require_known(columns, names)
    kept = tuple(column for column in columns if column.name not in names)
    if not kept:
        raise InvalidInput("a table keeps at least one column", path="$.drop")
    return kept


def widened(columns: Sequence[SegmentColumn], types: Mapping[str, ColumnType]) -> tuple[SegmentColumn, ...]:
    """The schema with wider types (`{"delay": "float"}`). Raises `InvalidInput`."""
    _require_known(columns, types)
    for column in columns:
        wanted = types.get(column.name, column.type)
        if wanted not in (column.type, _wider(column.type, wanted, column.name)):
            raise InvalidInput(
                f"the column {column.name!r} is {column.type}, which does not widen to {wanted}",
                path=f"$.widen.{column.name}",
            )
    return tuple(
        SegmentColumn(
            id=column.id,
            name=column.name,
            type=_wider(column.type, types.get(column.name, column.type), column.name),
        )
        for column in columns
    )


def _require_known(columns: Sequence[SegmentColumn], names: Sequence[str] | Mapping[str, object]) -> None:
    unknown = sorted(set(names) - {column.name for column in columns})
    if unknown:
        raise InvalidInput(
            f"there is no column {', '.join(unknown)}; there is {', '.join(c.name for c in columns)}",
            path="$.columns",
        )


def fits(column: SegmentColumn, stored: StoredColumn) -> bool:
    """Whether values of `stored` can join `column`, by widening if need be."""
    try:
        _wider(column.type, stored.type, column.name)
    except InvalidInput:
        return False
    return True
