"""The law of a studentised mean, t = (estimate - truth) / standard error, from the data themselves.

Three laws with the same two questions (quantile, upper tail): Student's for few units, the studentised
bootstrap for a moderate number, and its analytic equal for many (the Edgeworth term for skewness), where
resampling would cost seconds for the third decimal.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import special

from salus.stats.arrays import Vector

FEW_UNITS = 12
MANY_UNITS = 2000
CHUNK = 500


class Pivot(Protocol):
    """The law of t."""

    def quantile(self, probability: float) -> float:
        """The value that t stays below with this probability."""
        ...

    def upper_tail(self, t: float) -> float:
        """Chance that t is at least this large."""
        ...


class StudentPivot:
    """Student's t with `degrees` degrees of freedom."""

    def __init__(self, degrees: int) -> None:
        self._degrees = degrees

    def quantile(self, probability: float) -> float:
        return float(special.stdtrit(self._degrees, probability))

    def upper_tail(self, t: float) -> float:
        return float(special.stdtr(self._degrees, -t))


class BootstrapPivot:
    """Studentised bootstrap over units. Source: B. Efron, R. Tibshirani, "An Introduction to the
    Bootstrap", 1993, 12.5.

    A unit is a row or a block with `deviations` d (sum over its rows of value - mean) and `sizes` m; a
    resample's centre is sum d / sum m and its error the cluster-robust one.
    """

    def __init__(self, deviations: Vector, sizes: Vector, *, resamples: int, seed: int) -> None:
        rng, units = np.random.default_rng(seed), len(deviations)
        terms = np.stack([deviations, sizes, deviations**2, deviations * sizes, sizes**2], axis=1)
        draws = []
        for start in range(0, resamples, CHUNK):
            rows = min(CHUNK, resamples - start)
            picks = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
            counts = np.bincount(picks.ravel(), minlength=rows * units).reshape(rows, units)
            total, size, square, cross, size_square = (counts @ terms).T
            shift = total / size
            residual = np.maximum(square - 2 * shift * cross + shift**2 * size_square, 0.0)
            error = np.sqrt(residual * units / (units - 1)) / size
            # A resample without spread says nothing finite about t; it counts as extreme on both sides.
            extreme = np.copysign(np.full(rows, np.inf), shift)
            draws.append(np.divide(shift, error, out=extreme, where=error > 0))
        self._draws = np.sort(np.concatenate(draws))

    @property
    def degenerate(self) -> bool:
        """Whether some resamples had no spread at all, as when one row of fifty differs; the law is no use
        then.
        """
        return not np.all(np.isfinite(self._draws[[0, -1]]))

    def quantile(self, probability: float) -> float:
        position = math.ceil(probability * (len(self._draws) + 1)) - 1
        return float(self._draws[min(max(position, 0), len(self._draws) - 1)])

    def upper_tail(self, t: float) -> float:
        beyond = len(self._draws) - int(np.searchsorted(self._draws, t, side="left"))
        return (1 + beyond) / (1 + len(self._draws))


class SkewedPivot:
    """Normal law corrected for skewness. Source: P. Hall, "On the removal of skewness by transformation",
    1992.
    """

    def __init__(self, skewness: float, units: int) -> None:
        self._bend = skewness / (3 * math.sqrt(units))

    def quantile(self, probability: float) -> float:
        x, bend = float(special.ndtri(probability)), self._bend
        if abs(bend) < 1e-9:
            return x
        return (math.cbrt(1 + 3 * bend * (x - bend / 2)) - 1) / bend

    def upper_tail(self, t: float) -> float:
        bend = self._bend
        return float(special.ndtr(-(t + bend * t**2 + bend**2 * t**3 / 3 + bend / 2)))


def pivot_for(deviations: Vector, sizes: Vector, *, resamples: int, seed: int) -> Pivot:
    """The law that suits the number of units; cost at most `resamples` x 2,000 draws."""
    units = len(deviations)
    if units < FEW_UNITS:
        return StudentPivot(units - 1)
    if units <= MANY_UNITS:
        resampled = BootstrapPivot(deviations, sizes, resamples=resamples, seed=seed)
        return StudentPivot(_informative(deviations) - 1) if resampled.degenerate else resampled
    spread = math.sqrt(float(np.mean(deviations**2)))
    return SkewedPivot(float(np.mean((deviations / spread) ** 3)), units)


def _informative(deviations: Vector) -> int:
    """How many units differ from the commonest one, at least 2: what there is to learn a spread from."""
    _, counts = np.unique(deviations, return_counts=True)
    return max(2, len(deviations) - int(counts.max()))
