"""Metrics of one model, each with its interval and its n.

Every function returns an `Estimate`. Rows that belong together (one day, one user) are correlated; name
them in `blocks` and the interval is computed over blocks (cluster-robust: Liang & Zeger, "Longitudinal data
analysis using generalized linear models", 1986, with Student's t on blocks - 1 degrees of freedom). Without
blocks rows count as independent, which makes intervals too narrow when they are not.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from salus.stats.arrays import (
    NotEnoughData,
    Vector,
    binary_labels,
    block_codes,
    block_sums,
    finite_vector,
    open_unit,
    probabilities,
    same_length,
)

CLIP = 1e-15
"""Probabilities are moved this far from 0 and 1 before a logarithm is taken."""


class Estimate(msgspec.Struct, frozen=True):
    """A number with its interval: `low <= value <= high`, from `n` rows, covering the truth with
    probability `level`.
    """

    value: float
    low: float
    high: float
    n: int
    level: float

    def contains(self, truth: float) -> bool:
        """Whether `truth` lies in the interval."""
        return self.low <= truth <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n:,})"


def log_loss_rows(y: ArrayLike, p: ArrayLike, eps: float = CLIP) -> Vector:
    """Log loss per row in nats, shape (n,): -log of the probability given to what happened, p clipped to
    [eps, 1-eps].

    >>> log_loss_rows([1, 0], [0.5, 0.5]).round(4)
    array([0.6931, 0.6931])
    """
    labels, chance = _labels_and_probabilities(y, p)
    chance = np.clip(chance, eps, 1.0 - eps)
    rows: Vector = -np.log(np.where(labels == 1.0, chance, 1.0 - chance))
    return rows


def squared_error_rows(y: ArrayLike, prediction: ArrayLike) -> Vector:
    """Squared error per row, in the square of the unit of y, shape (n,).

    >>> squared_error_rows([1.0, 2.0], [0.0, 2.0])
    array([1., 0.])
    """
    truth, guess = finite_vector(y, "y"), finite_vector(prediction, "prediction")
    same_length(truth, guess, "y and prediction")
    rows: Vector = np.square(truth - guess)
    return rows


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval; honest at 0, at n and at small n.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    Raises NotEnoughData when n is 0.

    >>> print(wilson(0, 20))
    0 [0, 0.1611] (n=20)
    """
    if n < 1:
        raise NotEnoughData(f"a proportion needs at least 1 row, got n={n}", n=n, needed_n=1)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, n], got {successes} of {n}")
    z = normal_quantile(0.5 + open_unit(level, "level") / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(value=share, low=low, high=high, n=n, level=level)


def mean_interval(values: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None) -> Estimate:
    """Mean of `values`, shape (n,), with Student's t interval over rows, or over `blocks` when given.

    Raises NotEnoughData below 2 rows (or 2 blocks). Equal values give an interval of width zero: the data
    say nothing about their spread; use `wilson` for yes/no values.

    >>> print(mean_interval([1.0, 2.0, 3.0]))
    2 [-0.4841, 4.484] (n=3)
    """
    rows = finite_vector(values, "values")
    if not len(rows):
        raise NotEnoughData("the interval of a mean needs at least 2 rows, got n=0", n=0, needed_n=2)
    centre = float(rows.mean())
    error, units = standard_error((rows - centre) / len(rows), blocks)
    half = student_quantile(0.5 + open_unit(level, "level") / 2, units - 1) * error
    return Estimate(value=centre, low=centre - half, high=centre + half, n=len(rows), level=level)


def log_loss(y: ArrayLike, p: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None) -> Estimate:
    """Mean log loss in nats of probabilities `p` for labels `y` in {0, 1}; 0 is perfect, a coin is 0.693.

    >>> print(log_loss([1, 0, 1, 1], [0.8, 0.3, 0.6, 0.9]))
    0.299 [0.02119, 0.5768] (n=4)
    """
    return _nonnegative(mean_interval(log_loss_rows(y, p), level, blocks=blocks))


def brier(y: ArrayLike, p: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None) -> Estimate:
    """Mean squared distance of probability and label (G. W. Brier, 1950); 0 is perfect, a coin is 0.25.

    >>> print(brier([1, 0, 1, 1], [0.8, 0.3, 0.6, 0.9]))
    0.075 [0, 0.1793] (n=4)
    """
    labels, chance = _labels_and_probabilities(y, p)
    return _nonnegative(mean_interval(np.square(labels - chance), level, blocks=blocks))


def accuracy(y: ArrayLike, predicted: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None) -> Estimate:
    """Share of rows where the predicted class equals `y` (any dtype): Wilson's interval, or t over `blocks`.

    >>> print(accuracy(["late", "fine"], ["late", "late"]))
    0.5 [0.09453, 0.9055] (n=2)
    """
    truth, guess = np.asarray(y), np.asarray(predicted)
    same_length(truth, guess, "y and predicted")
    right = truth == guess
    if blocks is None:
        return wilson(int(right.sum()), len(right), level)
    spread = mean_interval(right.astype(np.float64), level, blocks=blocks)
    return msgspec.structs.replace(spread, low=max(0.0, spread.low), high=min(1.0, spread.high))


def mean_absolute_error(
    y: ArrayLike, prediction: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None
) -> Estimate:
    """Mean absolute error in the unit of y.

    >>> print(mean_absolute_error([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))
    1 [0, 3.484] (n=3)
    """
    return _nonnegative(mean_interval(np.sqrt(squared_error_rows(y, prediction)), level, blocks=blocks))


def root_mean_squared_error(
    y: ArrayLike, prediction: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None
) -> Estimate:
    """Root of the mean squared error in the unit of y; the interval is the root of the interval of the mean
    square.

    >>> print(root_mean_squared_error([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 2.0]))
    1.225 [0, 2.063] (n=4)
    """
    square = _nonnegative(mean_interval(squared_error_rows(y, prediction), level, blocks=blocks))
    return msgspec.structs.replace(
        square, value=math.sqrt(square.value), low=math.sqrt(square.low), high=math.sqrt(square.high)
    )


def standard_error(influence: Vector, blocks: ArrayLike | None = None) -> tuple[float, int]:
    """Standard error of an estimate from its influence values (shape (n,), summing to 0), and the number of
    units.

    A unit is a row, or a block when `blocks` are given (their influences are summed first). Raises
    NotEnoughData below 2 units.
    """
    sums = influence
    if blocks is not None:
        codes, groups = block_codes(blocks, len(influence))
        sums = block_sums(codes, influence, groups)
    units = len(sums)
    if units < 2:
        word = "rows" if blocks is None else "blocks"
        raise NotEnoughData(f"an interval needs at least 2 {word}, got {units}", n=units, needed_n=2)
    return math.sqrt(float(np.square(sums).sum()) * units / (units - 1)), units


def design_effect(values: ArrayLike, blocks: ArrayLike) -> float:
    """How many times larger the variance of the mean is because rows of a block move together; at least 1.

    Source: L. Kish, "Survey Sampling", 1965. Raises NotEnoughData below 2 blocks.

    >>> round(design_effect([1.0, 1.0, 5.0, 5.0, 3.0, 3.0], ["a", "a", "b", "b", "c", "c"]), 6)
    2.5
    """
    rows = finite_vector(values, "values")
    influence = rows - rows.mean()
    clustered, _ = standard_error(influence, blocks)
    single, _ = standard_error(influence)
    return max(1.0, (clustered / single) ** 2) if single else 1.0


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    return float(special.ndtri(probability))


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution with `degrees` degrees of freedom."""
    return float(special.stdtrit(degrees, probability))


def _labels_and_probabilities(y: ArrayLike, p: ArrayLike) -> tuple[Vector, Vector]:
    labels, chance = binary_labels(y), probabilities(p)
    same_length(labels, chance, "y and p")
    return labels, chance


def _nonnegative(estimate: Estimate) -> Estimate:
    return msgspec.structs.replace(estimate, low=max(0.0, estimate.low))
