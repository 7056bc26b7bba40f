"""Has a column moved by more than the reference moves by itself?

Two answers belong together: the effect (a distance with a unit: does it matter) and the evidence (is it
real). Plain p-values flag everything when samples are large and rows of a day are correlated, so the
evidence is calibrated: windows are resampled from blocks (days) of the reference, measured against the rest
of it, and the alarm threshold is what the largest standardised effect over all columns exceeds once in N
windows.

Sources: H. Kuensch, "The jackknife and the bootstrap for general stationary observations", 1989 (block
resampling); P. Westfall, S. Young, "Resampling-based multiple testing", 1993 (maximum over columns); J.
Hosking, J. Wallis, "Parameter and quantile estimation for the generalized Pareto distribution", 1987 (the
tail beyond what was resampled).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from salus.stats.arrays import NotEnoughData
from salus.stats.distances import (
    bin_counts,
    category_counts,
    chi_squared,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    reference_edges,
    wasserstein_1,
)

Kind: TypeAlias = Literal["numeric", "categorical"]
Cells: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Cells, Cells], Cells]

FEWEST_BLOCKS = 4
TAIL_SHARE = 0.1
ENOUGH_FOR_SHAPE = 30


class ColumnDrift(msgspec.Struct, frozen=True):
    """How one column moved between two samples.

    `distance` is in `unit`: reference standard deviations (numeric) or bits (categorical). `psi` is in nats
    and counts missing values as a category. `missing_change` is the change of the missing share, -1 to 1.
    `p_value` is of Kolmogorov-Smirnov (numeric, missing apart) or chi-squared; it holds for independent
    rows only: with correlated rows use `calibrate`.
    """

    kind: Kind
    distance: float
    unit: str
    psi: float
    missing_change: float
    statistic: float
    p_value: float
    n_reference: int
    n_current: int


class ColumnCalibration(msgspec.Struct, frozen=True):
    """Centre and scale of one column's statistic over quiet windows, in the statistic's unit."""

    centre: float
    scale: float


class Calibration(msgspec.Struct, frozen=True):
    """Thresholds so that quiet windows raise one alarm in `windows_per_alarm`, all columns together.

    `measured_ratio` is the share of the `resamples` quiet windows that would have alarmed.
    """

    columns: dict[str, ColumnCalibration]
    limit: float
    windows_per_alarm: float
    measured_ratio: float
    resamples: int

    def threshold(self, column: str) -> float:
        """The effect from which on `column` alarms, in the statistic's unit. Raises KeyError for an unknown
        column.
        """
        scales = self.columns[column]
        return scales.centre + self.limit * scales.scale

    def alarms(self, effects: Mapping[str, float]) -> list[str]:
        """The columns of one window whose effect reaches their threshold, the largest excess first."""
        excess = {column: self.excess(column, effect) for column, effect in effects.items()}
        return sorted((column for column in excess if excess[column] >= 1), key=lambda c: -excess[c])

    def excess(self, column: str, effect: float) -> float:
        """Standardised effect as a share of the limit: 1.0 or more is an alarm."""
        scales = self.columns[column]
        return (effect - scales.centre) / (scales.scale * self.limit)


def column_drift(reference: ArrayLike, current: ArrayLike, kind: Kind, *, bins: int = 10) -> ColumnDrift:
    """Effect and i.i.d. evidence for one column; NaN (numeric) and None (categorical) are missing, infinity
    is refused.

    Raises NotEnoughData when a sample is empty, or a numeric one has no number at all in the reference.

    >>> drift = column_drift(np.arange(100.0), np.arange(100.0) + 50, "numeric")
    >>> round(drift.distance, 2), drift.unit, drift.p_value < 0.001
    (1.73, 'standard deviations', True)
    """
    if kind == "categorical":
        return _categorical_drift(reference, current)
    if kind == "numeric":
        return _numeric_drift(reference, current, bins)
    raise ValueError(f"kind must be 'numeric' or 'categorical', got {kind!r}")


def kolmogorov_smirnov_p_value(statistic: float, n: int, m: int) -> float:
    """Asymptotic p-value of a two-sample statistic with Stephens' small-sample factor (M. Stephens, 1970).

    >>> round(kolmogorov_smirnov_p_value(0.1, 400, 400), 3)
    0.034
    """
    size = math.sqrt(n * m / (n + m))
    return float(special.kolmogorov((size + 0.12 + 0.11 / size) * statistic))


def calibrate(
    blocks: Mapping[str, ArrayLike],
    statistic: Statistic | Mapping[str, Statistic] = jensen_shannon,
    *,
    window_blocks: int,
    windows_per_alarm: float = 1000.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Alarm thresholds from the reference itself.

    `blocks` gives for each column the counts per block of the reference in time order, shape (blocks,
    cells); all columns have the same blocks. Each resample takes `window_blocks` consecutive blocks (so
    slow wobble inside the reference is kept; where there are too few such runs, random blocks complete
    them) as the window and the others as reference; `statistic` maps counts (resamples, cells) of both to
    effects (resamples,). Effects are standardised per column, and `limit` is exceeded by the maximum over
    columns once in `windows_per_alarm` windows; beyond the resampled range the tail is a generalised Pareto
    law (never lighter than exponential). Raises NotEnoughData below 4 windows' worth of blocks. Cost:
    resamples x columns x cells.

    >>> days = np.random.default_rng(0).multinomial(500, [0.2, 0.3, 0.5], size=60)
    >>> quiet = calibrate({"carrier": days}, window_blocks=1, windows_per_alarm=100)
    >>> moved = jensen_shannon(days.sum(axis=0), [100, 250, 150])
    >>> quiet.alarms({"carrier": float(moved)})
    ['carrier']
    """
    counts = {column: np.asarray(block, dtype=np.float64) for column, block in blocks.items()}
    number = _block_number(counts, window_blocks)
    if not 1 < windows_per_alarm < math.inf:
        raise ValueError(f"windows_per_alarm must be finite and above 1, got {windows_per_alarm}")
    chosen = _windows(number, window_blocks, resamples, np.random.default_rng(seed))
    columns: dict[str, ColumnCalibration] = {}
    largest = np.full(len(chosen), -np.inf)
    for column, cells in counts.items():
        measure = statistic[column] if isinstance(statistic, Mapping) else statistic
        window = chosen @ cells
        effects = measure(cells.sum(axis=0) - window, window)
        scales = _scales(effects)
        columns[column] = scales
        largest = np.maximum(largest, (effects - scales.centre) / scales.scale)
    limit = upper_quantile(largest, 1 / windows_per_alarm)
    return Calibration(
        columns=columns,
        limit=limit,
        windows_per_alarm=windows_per_alarm,
        measured_ratio=float(np.mean(largest >= limit)),
        resamples=len(chosen),
    )


def upper_quantile(values: ArrayLike, tail: float) -> float:
    """The value exceeded with probability `tail`, also where `tail` is rarer than the sample can show.

    Beyond the top tenth of the sample: generalised Pareto law fitted by probability-weighted moments
    (Hosking & Wallis 1987; exponential where fewer than 30 distinct values lie there), its shape at
    least 1 / number of them, which is the predictive law of an exponential tail whose scale had to be
    estimated: few values, higher threshold.

    >>> sample = np.random.default_rng(0).exponential(size=2000)
    >>> abs(upper_quantile(sample, 1e-4) - 9.21) < 1.5
    True
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    if tail >= TAIL_SHARE:
        return float(np.quantile(x, 1 - tail))
    start = float(np.quantile(x, 1 - TAIL_SHARE))
    beyond = x[x > start] - start
    if not len(beyond):
        return start
    mean, fitted, seen = float(beyond.mean()), 0.0, len(np.unique(beyond))
    if seen >= ENOUGH_FOR_SHAPE:
        weights = 1 - (np.arange(1, len(beyond) + 1) - 0.35) / len(beyond)
        second = float(np.mean(weights * beyond))
        fitted = min(max(0.0, 2 - mean / (mean - 2 * second)), 0.5)
    shape = max(fitted, 1 / (seen + 1))
    ratio = len(beyond) / len(x) / tail
    return start + mean * (1 - fitted) * (math.pow(ratio, shape) - 1) / shape


def _numeric_drift(reference: ArrayLike, current: ArrayLike, bins: int) -> ColumnDrift:
    old, new = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    _filled(len(old), len(new))
    kept, now = old[~np.isnan(old)], new[~np.isnan(new)]
    if not len(kept):
        raise NotEnoughData("the reference column holds no number at all", n=0, needed_n=1)
    edges = reference_edges(old, bins)
    statistic = kolmogorov_smirnov(kept, now) if len(now) else 0.0
    return ColumnDrift(
        kind="numeric",
        distance=wasserstein_1(kept, now) if len(now) else 0.0,
        unit="standard deviations",
        psi=float(psi(bin_counts(old, edges), bin_counts(new, edges))),
        missing_change=float(np.isnan(new).mean() - np.isnan(old).mean()),
        statistic=statistic,
        p_value=kolmogorov_smirnov_p_value(statistic, len(kept), len(now)) if len(now) else 1.0,
        n_reference=len(old),
        n_current=len(new),
    )


def _categorical_drift(reference: ArrayLike, current: ArrayLike) -> ColumnDrift:
    old, new = _categories(reference), _categories(current)
    _filled(len(old), len(new))
    _, counts = category_counts(old, new)
    statistic, degrees = chi_squared(*counts)
    return ColumnDrift(
        kind="categorical",
        distance=float(jensen_shannon(*counts)),
        unit="bits",
        psi=float(psi(*counts)),
        missing_change=new.count(None) / len(new) - old.count(None) / len(old),
        statistic=float(statistic),
        p_value=float(special.chdtrc(float(degrees), float(statistic))) if degrees > 0 else 1.0,
        n_reference=len(old),
        n_current=len(new),
    )


def _categories(values: ArrayLike) -> Sequence[str | None]:
    return [None if value is None else str(value) for value in np.asarray(values, dtype=object)]


def _filled(n: int, m: int) -> None:
    if not n or not m:
        raise NotEnoughData(f"drift needs rows on both sides, got {n} and {m}", n=min(n, m), needed_n=1)


def _block_number(counts: Mapping[str, Cells], window_blocks: int) -> int:
    shapes: dict[str, tuple[int, ...]] = {column: cells.shape for column, cells in counts.items()}
    numbers = {shape[0] for shape in shapes.values()}
    if len(numbers) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"each column needs counts of shape (blocks, cells), the same blocks, got {shapes}")
    number = numbers.pop()
    if window_blocks < 1:
        raise ValueError(f"window_blocks must be at least 1, got {window_blocks}")
    if number < FEWEST_BLOCKS * window_blocks:
        raise NotEnoughData(
            f"windows of {window_blocks} blocks need at least {FEWEST_BLOCKS * window_blocks} "
            f"reference blocks, got {number}",
            n=number,
            needed_n=FEWEST_BLOCKS * window_blocks,
        )
    return number


def _windows(number: int, size: int, resamples: int, rng: np.random.Generator) -> Cells:
    """Which blocks are in each window, 0 or 1, shape (r, blocks): runs of consecutive blocks, then random
    draws.

    Windows of one block are the blocks themselves: drawing them again would only feign more data.
    """
    starts = np.arange(number - size + 1)
    runs = np.zeros((len(starts), number))
    for offset in range(size):
        runs[starts, starts + offset] = 1.0
    if len(runs) >= resamples:
        return runs[rng.permutation(len(runs))[:resamples]]
    if size == 1:
        return runs
    draws = np.zeros((resamples - len(runs), number))
    picks = rng.permuted(np.tile(np.arange(number), (len(draws), 1)), axis=1)[:, :size]
    np.put_along_axis(draws, picks, 1.0, axis=1)
    return np.vstack([runs, draws])


def _scales(effects: Cells) -> ColumnCalibration:
    """Median and root mean square around it; a statistic that never moves gets a scale that still divides."""
    centre = float(np.median(effects))
    spread = math.sqrt(float(np.mean(np.square(effects - centre))))
    return ColumnCalibration(centre=centre, scale=max(spread, 1e-9))
