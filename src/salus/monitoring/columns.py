"""Columns, window by window: what the reference knows of a column, and what a window shows of it. Pure.

A reference is cut into blocks as long as a window. What its blocks do by themselves is the measure of what is natural:
how many values are missing in the worst of them, how far neighbours lie apart, which values ever occur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.schema import DType
from salus.kernel.structs import Record
from salus.stats.distances import bin_counts, reference_edges

Numbers = NDArray[np.float64]
ColumnKind = Literal["numeric", "categorical", "time"]

LEVELS = np.linspace(0.02, 0.98, 25)
FEWEST_ROWS = 30
MOST_VALUES = 2_000
MOST_CATEGORIES = 60
OTHER = "(other)"
_NEIGHBOURS = 4
_COMMON = 0.2

KIND_OF: dict[DType, ColumnKind] = {
    "int": "numeric",
    "float": "numeric",
    "string": "categorical",
    "bool": "categorical",
    "time": "time",
}


class ColumnProfile(Record):
    """What the reference says of a column.

    `counts` has one row for each block (the cells of `edges` or `categories`, missing last). `values` are the distinct
    values where there are few enough to know them all. The `worst_*` are of single blocks: missing share, share
    of the commonest value, share of values that no other block has, distance from the blocks before (`worst_step`, its
    median is `usual_step`) and from the whole (`worst_far`). `common` are numbers that one row in five has.
    """

    name: str
    kind: ColumnKind
    rows: int
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    counts: tuple[tuple[float, ...], ...] = ()
    values: tuple[float | str, ...] = ()
    quantiles: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    spread: float = 0.0
    centre_low: float | None = None
    centre_high: float | None = None
    missing_ratio: float = 0.0
    worst_missing: float = 0.0
    worst_top: float = 0.0
    worst_unseen: float = 0.0
    worst_step: float = 0.0
    usual_step: float = 0.0
    worst_far: float = 0.0
    common: tuple[float, ...] = ()


class ColumnSummary(Record):
    """What one window shows of a column; `quantiles` at `LEVELS` of its numbers, `counts` in the profile's cells."""

    rows: int
    missing: int
    counts: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    top_ratio: float = 0.0
    unseen_ratio: float = 0.0

    @property
    def missing_ratio(self) -> float:
        """The share of missing values."""
        return self.missing / self.rows if self.rows else 0.0


def numbers(series: pl.Series) -> Numbers:
    """A numeric column, missing values as NaN."""
    cast = series.cast(pl.Float64, strict=False)
    return cast.fill_null(float("nan")).to_numpy().astype(np.float64)


def texts(series: pl.Series) -> pl.Series:
    """A categorical column as text, missing values as null."""
    cast = series.cast(pl.String, strict=False)
    return cast.set(cast == "", None) if cast.len() else cast


def learn_column(series: pl.Series, blocks: Sequence[int] | NDArray[np.intp], name: str, dtype: DType) -> ColumnProfile:
    """The profile of a reference column; `blocks` numbers each row's block from 0, in time order."""
    codes = np.asarray(blocks, dtype=np.intp)
    kind = KIND_OF[dtype]
    if kind == "time":
        missing = series.is_null().to_numpy()
        return ColumnProfile(
            name=name,
            kind=kind,
            rows=series.len(),
            missing_ratio=_mean(missing),
            worst_missing=_worst(missing, codes),
        )
    return _learn_numeric(series, codes, name) if kind == "numeric" else _learn_categorical(series, codes, name)


def _learn_numeric(series: pl.Series, codes: NDArray[np.intp], name: str) -> ColumnProfile:
    rows = numbers(series)
    missing = np.isnan(rows)
    present = rows[~missing]
    if not len(present):
        return ColumnProfile(name=name, kind="numeric", rows=len(rows), missing_ratio=1.0, worst_missing=1.0)
    edges = reference_edges(present)
    distinct, often = np.unique(present, return_counts=True)
    low, high = np.quantile(present, [0.05, 0.95])
    spread = max(float(high - low) / 3.29, float(present.std()) / 4, 1e-12)
    sketches = [np.quantile(part, LEVELS) for part in _parts(rows, missing, codes)]
    steps = [
        distance(sketches[i], np.mean(sketches[max(0, i - _NEIGHBOURS) : i], axis=0), spread)
        for i in range(1, len(sketches))
    ]
    centres = [float(sketch[len(LEVELS) // 2]) for sketch in sketches] or [float(np.median(present))]
    few = len(distinct) <= MOST_VALUES and len(distinct) < len(present) / 3
    return ColumnProfile(
        name=name,
        kind="numeric",
        rows=len(rows),
        edges=tuple(edges.tolist()),
        counts=tuple(tuple(bin_counts(rows[codes == block], edges).tolist()) for block in range(_blocks(codes))),
        values=tuple(distinct.tolist()) if few else (),
        quantiles=tuple(np.quantile(present, LEVELS).tolist()),
        low=float(present.min()),
        high=float(present.max()),
        spread=spread,
        centre_low=min(centres),
        centre_high=max(centres),
        missing_ratio=_mean(missing),
        worst_missing=_worst(missing, codes),
        worst_top=_worst_top(rows, missing, codes),
        worst_unseen=_worst_unseen(pl.Series(rows), missing, codes) if few else 1.0,
        worst_step=max(steps, default=0.0),
        usual_step=float(np.median(steps)) if steps else 0.0,
        worst_far=max((distance(sketch, np.quantile(present, LEVELS), spread) for sketch in sketches), default=0.0),
        common=tuple(distinct[often >= _COMMON * len(present)].tolist()),
    )


def _learn_categorical(series: pl.Series, codes: NDArray[np.intp], name: str) -> ColumnProfile:
    rows = texts(series)
    missing = rows.is_null().to_numpy()
    common = rows.drop_nulls().value_counts(sort=True)
    found: list[str] = common[common.columns[0]].to_list() if common.height else []
    categories = tuple(sorted(found[:MOST_CATEGORIES]))
    return ColumnProfile(
        name=name,
        kind="categorical",
        rows=rows.len(),
        categories=categories,
        counts=tuple(
            tuple(category_cells(rows.filter(pl.Series(codes == block)), categories)) for block in range(_blocks(codes))
        ),
        values=tuple(found[:MOST_VALUES]),
        missing_ratio=_mean(missing),
        worst_missing=_worst(missing, codes),
        worst_top=_worst_top(rows.to_physical().to_numpy(), missing, codes),
        worst_unseen=_worst_unseen(rows, missing, codes) if len(found) <= MOST_VALUES else 1.0,
    )


def summarise(series: pl.Series, profile: ColumnProfile, known: frozenset[float | str]) -> ColumnSummary:
    """What a window shows of the column; `known` are the values seen before (see `known_values`)."""
    if profile.kind == "time":
        return ColumnSummary(rows=series.len(), missing=series.null_count())
    if profile.kind == "categorical":
        rows = texts(series)
        present = rows.drop_nulls()
        top = present.value_counts(sort=True)["count"][0] if present.len() else 0
        unseen = present.len() - int(present.is_in(list(known)).sum()) if known else 0
        return ColumnSummary(
            rows=rows.len(),
            missing=rows.null_count(),
            counts=tuple(category_cells(rows, profile.categories)),
            top_ratio=top / present.len() if present.len() else 0.0,
            unseen_ratio=unseen / present.len() if present.len() else 0.0,
        )
    values = numbers(series)
    seen = values[~np.isnan(values)]
    if not len(seen):
        return ColumnSummary(rows=len(values), missing=len(values), counts=_cells(values, profile))
    _, often = np.unique(seen, return_counts=True)
    return ColumnSummary(
        rows=len(values),
        missing=len(values) - len(seen),
        counts=_cells(values, profile),
        quantiles=tuple(np.quantile(seen, LEVELS).tolist()),
        low=float(seen.min()),
        high=float(seen.max()),
        top_ratio=float(often.max()) / len(seen),
        unseen_ratio=float(1 - is_known(seen, known).mean()) if known else 0.0,
    )


def _cells(values: Numbers, profile: ColumnProfile) -> tuple[float, ...]:
    return tuple(bin_counts(values, np.array(profile.edges)).tolist())


def known_values(profile: ColumnProfile, seen: Mapping[str, Sequence[float | str]]) -> frozenset[float | str]:
    """All values of the column that the reference or a good window has shown; empty where they are too many to know."""
    if not profile.values or profile.worst_unseen >= 1.0:
        return frozenset()
    return frozenset(profile.values) | frozenset(seen.get(profile.name, ()))


def is_known(values: Numbers, known: frozenset[float | str], tolerance: float = 1e-3) -> NDArray[np.bool_]:
    """Which of `values` lie within a relative `tolerance` of a known one."""
    grid = np.sort(np.array([value for value in known if isinstance(value, float)], dtype=np.float64))
    if not len(grid):
        return np.zeros(len(values), dtype=np.bool_)
    right = np.clip(np.searchsorted(grid, values), 0, len(grid) - 1)
    left = np.maximum(right - 1, 0)
    gap = np.minimum(np.abs(grid[right] - values), np.abs(grid[left] - values))
    close: NDArray[np.bool_] = gap <= tolerance * np.maximum(np.abs(values), 1e-9)
    return close


def distance(first: Numbers, second: Numbers, spread: float) -> float:
    """Mean distance of two quantile functions in units of `spread`."""
    return float(np.abs(first - second).mean()) / spread


def category_cells(rows: pl.Series, categories: Sequence[str]) -> list[float]:
    """Counts by category, then of all others, then of missing values."""
    tally = dict(rows.drop_nulls().value_counts().iter_rows())
    cells = [float(tally.get(category, 0)) for category in categories]
    missing = float(rows.null_count())
    return [*cells, rows.len() - missing - sum(cells), missing]


def _blocks(codes: NDArray[np.intp]) -> int:
    return int(codes.max()) + 1 if len(codes) else 0


def _parts(rows: Numbers, missing: NDArray[np.bool_], codes: NDArray[np.intp]) -> list[Numbers]:
    parts = [rows[(codes == block) & ~missing] for block in range(_blocks(codes))]
    return [part for part in parts if len(part) >= FEWEST_ROWS]


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _worst(flags: NDArray[np.bool_], codes: NDArray[np.intp]) -> float:
    """The largest share over blocks of a fair size."""
    sizes = np.bincount(codes, minlength=1)
    shares = np.bincount(codes, weights=flags, minlength=1) / np.maximum(sizes, 1)
    fair = shares[sizes >= FEWEST_ROWS]
    return float(fair.max()) if len(fair) else _mean(flags)


def _worst_top(rows: NDArray[np.generic], missing: NDArray[np.bool_], codes: NDArray[np.intp]) -> float:
    shares = []
    for block in range(_blocks(codes)):
        part = pl.Series(rows[(codes == block) & ~missing])
        if part.len() >= FEWEST_ROWS:
            shares.append(part.value_counts(sort=True)["count"][0] / part.len())
    return float(max(shares, default=0.0))


def _worst_unseen(rows: pl.Series, missing: NDArray[np.bool_], codes: NDArray[np.intp]) -> float:
    """The largest share, over blocks, of rows whose value occurs in no other block."""
    table = pl.DataFrame({"value": rows, "block": codes}).filter(pl.Series(~missing))
    lonely = table.with_columns(lonely=pl.col("block").n_unique().over("value") == 1)
    shares = lonely.group_by("block").agg(pl.len().alias("n"), pl.col("lonely").mean())
    fair = shares.filter(pl.col("n") >= FEWEST_ROWS)["lonely"]
    return float(fair.max()) if fair.len() and lonely["block"].n_unique() > 1 else 0.0  # type: ignore[arg-type]
