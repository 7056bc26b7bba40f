"""Profiles: what a table holds, column by column, for charts and as reference of monitors. Pure.

Sources: quantiles by linear interpolation (R. J. Hyndman, Y. Fan, Sample quantiles in statistical
    packages, 1996, type 7); number of intervals D. Freedman, P. Diaconis, On the histogram as a density
    estimator, 1981.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from salus.data.model import ColumnProfile, Histogram, Profile, TopValue
from salus.data.tables import dtype_of

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 20
MIN_BINS, MAX_BINS = 5, 40


def profile(frame: pl.DataFrame) -> Profile:
    """The profile of `frame`; columns of types that Salus does not keep are left out.

    Cost: about 30 ms for 100,000 rows of ten columns.

    >>> column = profile(pl.DataFrame({"x": [1.0, 2.0, None]})).columns[0]
    >>> column.missing, column.mean, column.quantiles[3]
    (1, 1.5, 1.5)
    """
    columns = tuple(profile_column(series) for series in frame.iter_columns() if dtype_of(series.dtype))
    return Profile(rows=frame.height, columns=columns)


def profile_column(series: pl.Series) -> ColumnProfile:
    """The profile of one column."""
    dtype = dtype_of(series.dtype)
    if dtype is None:
        raise TypeError(f"a column of type {series.dtype} has no profile")
    present = series.drop_nulls()
    numbers, not_finite = _numbers(present)
    known = ColumnProfile(
        name=series.name,
        dtype=dtype,
        rows=series.len(),
        missing=series.null_count(),
        distinct=_distinct(present),
        not_finite=not_finite,
        top=_top(present) if dtype in ("string", "bool") else (),
    )
    return known if numbers is None or not numbers.size else _with_numbers(known, numbers)


def _distinct(present: pl.Series) -> int:
    counted = present.approx_n_unique() if present.len() else 0
    return counted if isinstance(counted, int) else 0


def _numbers(present: pl.Series) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]] | None, int]:
    if isinstance(present.dtype, pl.String | pl.Categorical | pl.Enum):
        return None, 0
    if isinstance(present.dtype, pl.Date | pl.Datetime):
        present = present.cast(pl.Datetime("ms")).dt.timestamp("ms")
    values = present.cast(pl.Float64).to_numpy()
    finite = values[np.isfinite(values)]
    return finite, values.size - finite.size


def _with_numbers(known: ColumnProfile, numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> ColumnProfile:
    return ColumnProfile(
        name=known.name,
        dtype=known.dtype,
        rows=known.rows,
        missing=known.missing,
        distinct=known.distinct,
        not_finite=known.not_finite,
        top=known.top,
        min=float(numbers.min()),
        max=float(numbers.max()),
        mean=_finite(float(numbers.mean())),
        std=_finite(float(numbers.std(ddof=1))) if numbers.size > 1 else 0.0,
        quantiles=tuple(float(value) for value in np.quantile(numbers, QUANTILES)),
        histogram=None if known.dtype == "bool" else _histogram(numbers),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _histogram(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Histogram | None:
    low, high = float(numbers.min()), float(numbers.max())
    spread = high - low
    if spread == 0 or not math.isfinite(spread):
        return Histogram(edges=(low, high), counts=(numbers.size,)) if spread == 0 else None
    q1, q3 = np.quantile(numbers, (0.25, 0.75))
    width = 2 * float(q3 - q1) / numbers.size ** (1 / 3)
    bins = MAX_BINS if width <= 0 else min(MAX_BINS, max(MIN_BINS, math.ceil(min(spread / width, MAX_BINS))))
    edges = np.linspace(low, high, bins + 1)
    if not np.all(np.diff(edges) > 0):
        return Histogram(edges=(low, high), counts=(numbers.size,))
    counts, _ = np.histogram(numbers, edges)
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def _top(present: pl.Series) -> tuple[TopValue, ...]:
    if not present.len():
        return ()
    counted = present.cast(pl.String).rename("value").value_counts(sort=False)
    counted = counted.sort(["count", "value"], descending=[True, False]).head(TOP)
    return tuple(TopValue(value=value[:200], count=count) for value, count in counted.iter_rows())
