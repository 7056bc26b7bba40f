"""How far two samples are apart, each distance with its unit.

| Distance | Unit | Input |
|---|---|---|
| `psi` | nats (sum of both Kullback-Leibler divergences); 0.1 is small, 0.25 is large | counts |
| `jensen_shannon` | bits, 0 (equal) to 1 (no common value) | counts |
| `wasserstein_1` | standard deviations of the reference | values |
| `kolmogorov_smirnov` | largest gap of the distribution functions, 0 to 1 | values |
| `cramers_v` | square root of chi-squared over n, 0 to 1 | counts |

Counts have shape (..., cells), the same cells in both; leading axes are computed at once. Missing values
are a cell of their own (`category_counts`, `bin_counts`). With k cells, n reference and m current rows the
plug-in PSI of equal distributions is about (k - 1)(1/n + 1/m) and Jensen-Shannon an eighth of it
(second-order expansion; G. Miller, "Note on the bias of information estimates", 1955): that bias is
subtracted, so small true distances come out around zero, and may come out slightly below it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import Vector, finite_vector

Cells: TypeAlias = NDArray[np.float64]
Categories: TypeAlias = Iterable[str | None] | Mapping[str | None, int]
MISSING = None
"""The key of the missing cell in `category_counts`."""


def psi(reference: ArrayLike, current: ArrayLike) -> Cells:
    """Population stability index of counts in nats, bias subtracted; shape (...). Half a row is added to
    every cell.

    >>> float(psi([500, 500], [250, 750]).round(3))
    0.272
    """
    old, new = _counts(reference, current)
    used = (old + new) > 0
    cells = used.sum(axis=-1)
    p = np.where(used, old + 0.5, 1.0) / (old.sum(axis=-1) + cells / 2)[..., None]
    q = np.where(used, new + 0.5, 1.0) / (new.sum(axis=-1) + cells / 2)[..., None]
    raw: Cells = np.where(used, (q - p) * np.log(q / p), 0.0).sum(axis=-1)
    corrected: Cells = raw - (cells - 1) * _noise(old, new)
    return corrected


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> Cells:
    """Jensen-Shannon divergence of counts in bits, bias subtracted; shape (...).

    Source: J. Lin, "Divergence measures based on the Shannon entropy", 1991, eq. 4.1 with equal weights.

    >>> float(jensen_shannon([1000, 0], [0, 1000]).round(3))
    1.0
    """
    old, new = _counts(reference, current)
    p, q = old / old.sum(axis=-1, keepdims=True), new / new.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2
    raw: Cells = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    cells = ((old + new) > 0).sum(axis=-1)
    # The expansion overshoots where cells hold less than a row each; the divergence cannot exceed log 2.
    corrected: Cells = (raw - np.minimum((cells - 1) * _noise(old, new) / 8, math.log(2))) / math.log(2)
    return corrected


def cramers_v(reference: ArrayLike, current: ArrayLike) -> Cells:
    """Effect size of the chi-squared test of two rows of counts, bias subtracted; shape (...), 0 to 1.

    Source: W. Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", 2013.

    >>> float(cramers_v([90, 10], [10, 90]).round(2))
    0.8
    """
    statistic, degrees = chi_squared(reference, current)
    old, new = _counts(reference, current)
    n = old.sum(axis=-1) + new.sum(axis=-1)
    v: Cells = np.sqrt(np.clip(statistic / n - degrees / (n - 1), 0.0, 1.0))
    return v


def chi_squared(reference: ArrayLike, current: ArrayLike) -> tuple[Cells, Cells]:
    """Pearson's statistic that both rows of counts come from one distribution, and its degrees of freedom.

    >>> statistic, degrees = chi_squared([60, 40], [40, 60])
    >>> float(statistic), float(degrees)
    (8.0, 1.0)
    """
    old, new = _counts(reference, current)
    total = old + new
    n, m = old.sum(axis=-1, keepdims=True), new.sum(axis=-1, keepdims=True)
    gap = old * np.sqrt(m / n) - new * np.sqrt(n / m)
    statistic: Cells = np.divide(np.square(gap), total, out=np.zeros_like(gap), where=total > 0).sum(axis=-1)
    degrees: Cells = ((total > 0).sum(axis=-1) - 1).astype(np.float64)
    return statistic, degrees


def wasserstein_1(reference: ArrayLike, current: ArrayLike) -> float:
    """Area between the distribution functions in standard deviations of `reference`; arrays of any lengths.

    A shift of all values by one standard deviation is 1.0. A constant reference has no standard deviation:
    both samples together give the unit then, and two equal constants are 0.0. Source: S. Vallender,
    "Calculation of the Wasserstein distance between probability distributions on the line", 1974.

    >>> wasserstein_1([-1.0, 1.0], [1.0, 3.0])
    2.0
    """
    old, new = _samples(reference, current)
    unit = float(old.std()) or float(np.concatenate([old, new]).std())
    if not unit:
        return 0.0
    points, gap = _gaps(old, new)
    return float(np.abs(gap[:-1]) @ np.diff(points)) / unit


def wasserstein_1_of_counts(reference: ArrayLike, current: ArrayLike, positions: ArrayLike) -> Cells:
    """`wasserstein_1` of counts at ascending `positions`, shape (cells,); shape (...).

    >>> float(wasserstein_1_of_counts([1, 1, 0], [0, 1, 1], [0.0, 1.0, 2.0]))
    2.0
    """
    old, new = _counts(reference, current)
    place = finite_vector(positions, "positions")
    p, q = old / old.sum(axis=-1, keepdims=True), new / new.sum(axis=-1, keepdims=True)
    area = np.abs(np.cumsum(p - q, axis=-1))[..., :-1] @ np.diff(place)
    own, both = _spread(p, place), _spread((p + q) / 2, place)
    unit = np.where(own > 0, own, both)
    distance: Cells = np.divide(area, unit, out=np.zeros_like(area), where=unit > 0)
    return distance


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> float:
    """Largest gap between the distribution functions, 0 to 1.

    >>> kolmogorov_smirnov([1.0, 2.0], [3.0, 4.0])
    1.0
    """
    _, gap = _gaps(*_samples(reference, current))
    return float(np.abs(gap).max())


def category_counts(reference: Categories, current: Categories) -> tuple[list[str | None], Cells]:
    """Categories of both samples (missing last, as None) and their counts, shape (2, categories).

    Values or counts already made are both welcome.

    >>> category_counts(["a", "b"], {"b": 3, None: 1})
    (['a', 'b', None], array([[1., 1., 0.],
           [0., 3., 1.]]))
    """
    old, new = _tally(reference), _tally(current)
    named: list[str | None] = [*sorted(key for key in old.keys() | new.keys() if key is not None)]
    if MISSING in old or MISSING in new:
        named.append(MISSING)
    return named, np.array([[float(side.get(key, 0)) for key in named] for side in (old, new)])


def reference_edges(values: ArrayLike, bins: int = 10) -> Vector:
    """Inner edges of about `bins` bins with equal numbers of reference rows, ascending and distinct; NaN is
    ignored.

    Few distinct values give fewer bins, each value its own.

    >>> reference_edges(np.arange(100.0), 4)
    array([24.75, 49.5 , 74.25])
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    distinct = np.unique(x)
    if len(distinct) <= bins:
        middles: Vector = (distinct[:-1] + distinct[1:]) / 2
        return middles
    edges: Vector = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    return edges


def bin_counts(values: ArrayLike, edges: ArrayLike) -> Cells:
    """Counts of `values` between inner `edges`, missing (NaN) last: shape (len(edges) + 2,). Infinity is in
    the end bins.

    >>> bin_counts([0.5, 1.5, 1.6, float("nan")], [1.0])
    array([1., 2., 1.])
    """
    x, inner = np.asarray(values, dtype=np.float64), finite_vector(edges, "edges")
    missing = np.isnan(x)
    cells = np.where(missing, len(inner) + 1, np.searchsorted(inner, x, side="right"))
    return np.bincount(cells, minlength=len(inner) + 2).astype(np.float64)


def _counts(reference: ArrayLike, current: ArrayLike) -> tuple[Cells, Cells]:
    old, new = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if not old.ndim or not new.ndim or old.shape[-1] != new.shape[-1]:
        raise ValueError(f"counts must have the same cells last, got shapes {old.shape} and {new.shape}")
    for name, side in (("reference", old), ("current", new)):
        if not np.all(np.isfinite(side)) or np.any(side < 0):
            raise ValueError(f"{name} counts must be finite and at least 0")
        if not np.all(side.sum(axis=-1) > 0):
            raise ValueError(f"{name} counts must hold at least one row, got none")
    both = np.broadcast_arrays(old, new)
    return both[0], both[1]


def _noise(old: Cells, new: Cells) -> Cells:
    noise: Cells = 1 / old.sum(axis=-1) + 1 / new.sum(axis=-1)
    return noise


def _relative_entropy(p: Cells, q: Cells) -> Cells:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    total: Cells = (p * np.log(ratio)).sum(axis=-1)
    return total


def _samples(reference: ArrayLike, current: ArrayLike) -> tuple[Vector, Vector]:
    old, new = finite_vector(reference, "reference"), finite_vector(current, "current")
    if not len(old) or not len(new):
        raise ValueError(f"both samples must hold at least one row, got {len(old)} and {len(new)}")
    return old, new


def _gaps(old: Vector, new: Vector) -> tuple[Vector, Vector]:
    """All values in order, and the gap of the distribution functions from each value on."""
    old, new = np.sort(old), np.sort(new)
    points = np.sort(np.concatenate([old, new]), kind="stable")
    below = np.searchsorted(old, points, side="right") / len(old)
    return points, below - np.searchsorted(new, points, side="right") / len(new)


def _spread(p: Cells, place: Vector) -> Cells:
    mean = (p * place).sum(axis=-1, keepdims=True)
    spread: Cells = np.sqrt((p * np.square(place - mean)).sum(axis=-1))
    return spread


def _tally(values: Categories) -> Mapping[str | None, int]:
    return values if isinstance(values, Mapping) else Counter(values)
