"""Any dataframe in, Polars inside: pandas, Polars, PyArrow, DuckDB and whatever else Narwhals knows."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import polars as pl

from salus.kernel.errors import InvalidInput


def to_polars(frame: Any, path: str = "frame") -> pl.DataFrame:
    """`frame` as a Polars DataFrame; a list of records or a mapping of columns will do too.

    Raises:
        InvalidInput: it is none of these.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, dict | list):
        return pl.DataFrame(frame)
    try:
        native = nw.from_native(frame)
    except TypeError as error:
        raise InvalidInput(
            f"a table is a dataframe, a list of records or a mapping of columns, got {type(frame).__name__}",
            path=path,
        ) from error
    eager = native.collect() if isinstance(native, nw.LazyFrame) else native
    try:
        return eager.to_polars()
    except ImportError:
        return pl.DataFrame([_column(eager[name]) for name in eager.columns])


def _column(column: nw.Series[Any]) -> pl.Series:
    """A column by its values: the way that needs no PyArrow. What is NaN there because it is missing becomes null."""
    missing = column.is_null().to_list()
    values = column.to_list()
    return pl.Series(column.name, [None if gone else one for one, gone in zip(values, missing, strict=True)])
