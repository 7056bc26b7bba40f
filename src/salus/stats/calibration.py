"""How far predicted probabilities are from observed frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from salus.stats.arrays import NotEnoughData, Vector, binary_labels, open_unit, probabilities, same_length
from salus.stats.intervals import Estimate

DRAWS = 2000


def expected_calibration_error(
    y: ArrayLike, p: ArrayLike, level: float = 0.95, *, bins: int = 10, seed: int = 0
) -> Estimate:
    """Mean absolute gap between predicted and observed frequency over `bins` bins of equal size; 0 is
    perfect.

    The raw value is biased upward (noise alone gives a gap in every bin): the bias is estimated by
    redrawing the bin gaps from their sampling distribution and subtracted. The interval is the raw value
    plus or minus the `level` quantile of the noise alone; by the triangle inequality that covers the truth,
    with some room. Sources: M. Pakdaman Naeini, G. Cooper, M. Hauskrecht, "Obtaining well calibrated
    probabilities using Bayesian binning", 2015; J. Bröcker, "Estimating reliability and resolution
    of probability forecasts through decomposition of the empirical score", 2012 (bias).

    Raises NotEnoughData below 5 rows per bin.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(size=4000)
    >>> expected_calibration_error(rng.uniform(size=4000) < p, p).low
    0.0
    """
    labels, chance = binary_labels(y), probabilities(p)
    same_length(labels, chance, "y and p")
    open_unit(level, "level")
    if len(labels) < 5 * bins:
        raise NotEnoughData(
            f"{bins} bins need at least {5 * bins} rows, got n={len(labels)}; ask for fewer bins",
            n=len(labels),
            needed_n=5 * bins,
        )
    gaps, errors, weights = _bin_gaps(labels, chance, bins)
    raw = float(weights @ np.abs(gaps))
    noise = np.random.default_rng(seed).normal(size=(DRAWS, bins)) * errors
    half = float(np.quantile(np.abs(noise) @ weights, level))
    value = max(0.0, 2 * raw - float((np.abs(gaps + noise) @ weights).mean()))
    low, high = max(0.0, raw - half), min(1.0, raw + half)
    return Estimate(value=max(value, low), low=low, high=high, n=len(labels), level=level)


def _bin_gaps(labels: Vector, chance: Vector, bins: int) -> tuple[Vector, Vector, Vector]:
    """Per bin: mean of label minus probability, its standard error, and the bin's share of rows."""
    order = np.argsort(chance, kind="stable")
    edges = np.linspace(0, len(labels), bins + 1).astype(np.intp)
    sizes = np.diff(edges).astype(np.float64)
    gaps = np.add.reduceat((labels - chance)[order], edges[:-1]) / sizes
    variance = np.add.reduceat((chance * (1 - chance))[order], edges[:-1]) / sizes
    return gaps, np.sqrt(variance / sizes), sizes / len(labels)
