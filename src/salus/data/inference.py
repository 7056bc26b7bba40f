"""Inference: the expectations that a first batch suggests, widened so that ordinary later batches pass.
Pure.
"""

from __future__ import annotations

import math

import polars as pl

from salus.data.expectations import Expectation, InRange, InSet, NotNull
from salus.data.model import ColumnProfile
from salus.data.profile import profile_column
from salus.data.tables import schema_of

MAX_SET = 50
MIN_ROWS_FOR_SET = 1_000


def infer_expectations(
    frame: pl.DataFrame,
    *,
    widen_ratio: float = 0.5,
    missing_margin_ratio: float = 0.05,
    max_outside_ratio: float = 0.001,
) -> tuple[Expectation, ...]:
    """Expectations for every column of `frame`, to be read and mended by somebody who knows the data.

    Args:
        widen_ratio: by how much of their spread the ranges reach beyond what was seen, at both ends.
            Numbers that were never negative stay so. Time columns get no range: time goes on.
        missing_margin_ratio: by how much more than seen may be missing.
        max_outside_ratio: what share of later values may lie outside all the same.

    Text columns get a set when at least 1,000 rows show at most 50 values, each of them often enough (1
    in 1,000 on average) that a new one would be news.

    >>> infer_expectations(pl.DataFrame({"humidity": [40.0, 60.0, None, 80.0]}))[1]
    InRange(column='humidity', low=20.0, high=100.0, max_outside_ratio=0.001)
    """
    expectations: list[Expectation] = []
    for column in schema_of(frame).columns:
        seen = profile_column(frame[column.name])
        expectations.append(_missing(seen, missing_margin_ratio))
        if column.dtype in ("int", "float"):
            expectations += _range(seen, widen_ratio, max_outside_ratio)
        elif column.dtype == "string":
            expectations += _set(frame[column.name], seen, max_outside_ratio)
    return tuple(expectations)


def _missing(seen: ColumnProfile, margin_ratio: float) -> NotNull:
    ratio = min(1.0, round(seen.missing_ratio + margin_ratio, 4))
    return NotNull(column=seen.name, max_missing_ratio=ratio)


def _range(seen: ColumnProfile, widen_ratio: float, max_outside_ratio: float) -> list[Expectation]:
    if seen.min is None or seen.max is None:
        return []
    room = widen_ratio * ((seen.max - seen.min) or abs(seen.max) or 1.0)
    low, high = seen.min - room, seen.max + room
    low = max(low, 0.0) if seen.min >= 0 else low
    if seen.dtype == "int":
        low, high = float(math.floor(low)), float(math.ceil(high))
    return [InRange(column=seen.name, low=low, high=high, max_outside_ratio=max_outside_ratio)]


def _set(series: pl.Series, seen: ColumnProfile, max_outside_ratio: float) -> list[Expectation]:
    present = series.drop_nulls()
    if present.len() < MIN_ROWS_FOR_SET or seen.distinct > 2 * MAX_SET:
        return []
    values = sorted(present.cast(pl.String).unique().to_list())
    if len(values) > min(MAX_SET, present.len() / MIN_ROWS_FOR_SET * 10):
        return []
    return [InSet(column=series.name, values=tuple(values), max_outside_ratio=max_outside_ratio)]
