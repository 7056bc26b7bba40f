"""Confidence sequence for the mean of bounded values: an interval that is valid at every look.

Source: I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024,
theorem 2: the predictable plug-in empirical-Bernstein confidence sequence. Needs no independence, only that
each value's mean given the past is the same mu; where that mean moves, the interval covers the weighted
average of the means so far.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from salus.stats.arrays import NotEnoughData, Vector, finite_vector, open_unit
from salus.stats.intervals import Estimate

LARGEST_BET = 0.75


class MeanSequence(msgspec.Struct, frozen=True):
    """State of a confidence sequence for the mean of values in [`low`, `high`]; 80 bytes, serialisable,
    O(1) per value.

    Values outside the bounds are clipped, so the interval is then for the mean of the clipped values:
    choose bounds that clip rarely. `tuned_alpha` is the error probability at which the interval is
    tightest; `interval` is valid at any. Updating with two batches equals updating with their
    concatenation.

    >>> sequence = MeanSequence(low=0.0, high=1.0).update(np.tile([0.4, 0.6], 500))
    >>> print(sequence.interval(0.05))
    0.5 [0.4875, 0.5125] (n=1,000)
    """

    low: float
    high: float
    tuned_alpha: float = 0.05
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    bets: float = 0.0
    won: float = 0.0
    price: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self.low, self.high)
        open_unit(self.tuned_alpha, "tuned_alpha")

    def update(self, values: ArrayLike) -> MeanSequence:
        """The state after `values`, shape (k,), in order of time. A million values take about 0.1 s."""
        x = scaled(values, self.low, self.high)
        if not len(x):
            return self
        path = plug_in(x, self.n, self.total, self.squares, self.tuned_alpha)
        bet = np.minimum(path.bets, LARGEST_BET)
        cost = (-np.log1p(-bet) - bet) / 4.0
        return msgspec.structs.replace(
            self,
            n=self.n + len(x),
            total=path.total,
            squares=path.squares,
            bets=self.bets + float(bet.sum()),
            won=self.won + float(bet @ x),
            price=self.price + float(4.0 * np.square(x - path.means_before) @ cost),
        )

    def interval(self, alpha: float | None = None) -> Estimate:
        """The interval now; over all looks together it misses the mean with probability at most `alpha`.

        `value` is the sample mean (clipped into the interval). Raises NotEnoughData before the first value.
        """
        alpha = open_unit(self.tuned_alpha if alpha is None else alpha, "alpha")
        if not self.n:
            raise NotEnoughData("a mean needs at least 1 value, got n=0", n=0, needed_n=1)
        centre, half = self.won / self.bets, (math.log(2 / alpha) + self.price) / self.bets
        low, high = max(0.0, centre - half), min(1.0, centre + half)
        mean, width = min(max(self.total / self.n, low), high), self.high - self.low
        return Estimate(
            value=self.low + width * mean,
            low=self.low + width * low,
            high=self.low + width * high,
            n=self.n,
            level=1 - alpha,
        )


class PlugInPath(msgspec.Struct, frozen=True):
    """What is known before each value of a batch: `means_before` and `bets`, shape (k,), and the totals
    after it.
    """

    means_before: Vector
    bets: Vector
    total: float
    squares: float


def plug_in(x: Vector, n: int, total: float, squares: float, alpha: float) -> PlugInPath:
    """Running means and bets lambda_t = sqrt(2 log(2/alpha) / (variance_{t-1} t log(1 + t))) for scaled
    values `x` that follow `n` earlier ones.
    """
    step = n + np.arange(1, len(x) + 1, dtype=np.float64)
    totals = total + np.cumsum(x)
    means = (0.5 + totals) / (step + 1)
    square_sums = squares + np.cumsum(np.square(x - means))
    variances = (0.25 + square_sums) / (step + 1)
    mean_before = (0.5 + total) / (n + 1)
    variance_before = (0.25 + squares) / (n + 1)
    means_before = np.concatenate([[mean_before], means[:-1]])
    variances_before = np.concatenate([[variance_before], variances[:-1]])
    bets = np.sqrt(2 * math.log(2 / alpha) / (variances_before * step * np.log1p(step)))
    return PlugInPath(means_before, bets, float(totals[-1]), float(square_sums[-1]))


def scaled(values: ArrayLike, low: float, high: float) -> Vector:
    """Values clipped to [low, high] and mapped to [0, 1]."""
    x: Vector = (np.clip(finite_vector(values, "values"), low, high) - low) / (high - low)
    return x


def check_bounds(low: float, high: float) -> None:
    """Raise ValueError unless low < high are finite."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds must be finite with low < high, got low={low}, high={high}")


def paired_difference(bound: float, alpha: float = 0.05) -> MeanSequence:
    """An empty sequence for differences of two losses on the same row, clipped to [-bound, bound].

    >>> paired_difference(2.0).update([0.5, -0.1]).interval().contains(0.2)
    True
    """
    return MeanSequence(low=-bound, high=bound, tuned_alpha=alpha)


def mean_difference(champion: MeanSequence, challenger: MeanSequence, alpha: float = 0.05) -> Estimate:
    """Mean of the challenger minus mean of the champion, arms independent, n may differ; valid at every look.

    Each arm's sequence at alpha/2, joined by the union bound. `n` counts both arms.

    >>> one, two = MeanSequence(0.0, 1.0).update([0.2] * 400), MeanSequence(0.0, 1.0).update([0.6] * 40)
    >>> mean_difference(one, two).low > 0.1
    True
    """
    old, new = champion.interval(alpha / 2), challenger.interval(alpha / 2)
    return Estimate(
        value=new.value - old.value,
        low=new.low - old.high,
        high=new.high - old.low,
        n=old.n + new.n,
        level=1 - alpha,
    )
