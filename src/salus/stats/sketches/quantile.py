"""Quantiles of a stream in bounded memory with a guaranteed relative accuracy; mergeable.

Source: C. Masson, J. Rim, H. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019; uniform collapse when buckets run out from I. Epicoco, C. Melle, M. Cafaro, M.
Pulimeno, A. Aloisio, "UDDSketch: accurate tracking of quantiles in data streams", 2020.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import NotEnoughData, Vector, finite_vector

ACCURACY = 0.01
BUCKETS = 2048
SMALLEST = 1e-12
OFFSET = 1400
"""Added to a bucket's index so that magnitudes from SMALLEST up have indexes of at least 1."""


class QuantileSketch(msgspec.Struct, frozen=True):
    """Counts of values in buckets whose edges grow geometrically; at most 2,048 buckets.

    A quantile is within 1 % of the value at that rank. When the values span more than 2,048 buckets
    neighbours are joined and the accuracy halves (`accuracy` tells). Magnitudes below 1e-12 count as 0.
    `merge` of two sketches equals the sketch of both streams, whatever the order. Size: two integers per
    occupied bucket.

    >>> sketch = QuantileSketch().update(np.arange(1, 1001))
    >>> abs(sketch.quantile(0.95) / 950 - 1) < 0.01
    True
    """

    codes: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    collapses: int = 0
    minimum: float | None = None
    maximum: float | None = None

    @property
    def n(self) -> int:
        """How many values were seen."""
        return sum(self.counts)

    @property
    def accuracy(self) -> float:
        """Guaranteed relative accuracy of a quantile."""
        growth = self._growth()
        return (growth - 1) / (growth + 1)

    def update(self, values: ArrayLike) -> QuantileSketch:
        """The sketch after `values`, shape (k,), finite. A million values take about 0.1 s."""
        x = finite_vector(np.asarray(values), "values")
        if not len(x):
            return self
        magnitude = np.abs(x)
        seen = magnitude >= SMALLEST
        logs = np.log(magnitude, out=np.zeros(len(x)), where=seen) / math.log(self._growth())
        codes = np.where(seen, np.sign(x) * (np.ceil(logs) + OFFSET), 0.0).astype(np.int64)
        distinct, counts = np.unique(codes, return_counts=True)
        batch = QuantileSketch(
            codes=tuple(distinct.tolist()),
            counts=tuple(counts.tolist()),
            collapses=self.collapses,
            minimum=float(x.min()),
            maximum=float(x.max()),
        )
        return self.merge(batch)

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """The sketch of both streams."""
        mine, theirs = self, other
        while mine.collapses < theirs.collapses:
            mine = mine._collapsed()
        while theirs.collapses < mine.collapses:
            theirs = theirs._collapsed()
        codes, counts = _summed(mine.codes + theirs.codes, mine.counts + theirs.counts)
        lows = [s.minimum for s in (mine, theirs) if s.minimum is not None]
        highs = [s.maximum for s in (mine, theirs) if s.maximum is not None]
        merged = QuantileSketch(
            codes=codes,
            counts=counts,
            collapses=mine.collapses,
            minimum=min(lows, default=None),
            maximum=max(highs, default=None),
        )
        while len(merged.codes) > BUCKETS:
            merged = merged._collapsed()
        return merged

    def quantile(self, probability: float) -> float:
        """The value at rank ceil(probability x n), within `accuracy`. Raises NotEnoughData when empty.

        Cost: O(buckets).
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}")
        if self.minimum is None or self.maximum is None:
            raise NotEnoughData("a quantile needs at least 1 value, got n=0", n=0, needed_n=1)
        rank = max(1, math.ceil(probability * self.n))
        position = int(np.searchsorted(np.cumsum(self.counts), rank))
        value = float(self.representatives()[position])
        return min(max(value, self.minimum), self.maximum)

    def rank_bracket(self, rank: int) -> tuple[float, float]:
        """Bounds of the `rank`-th smallest value, 1 <= rank <= n."""
        if self.minimum is None or self.maximum is None or not 1 <= rank <= self.n:
            raise ValueError(f"rank must lie in [1, n], got {rank} of {self.n}")
        code = self.codes[int(np.searchsorted(np.cumsum(self.counts), rank))]
        edges = (0.0, 0.0)
        if code:
            outer = self._growth() ** (abs(code) - OFFSET)
            inner = outer / self._growth()
            edges = (inner, outer) if code > 0 else (-outer, -inner)
        return max(edges[0], self.minimum), min(edges[1], self.maximum)

    def representatives(self) -> Vector:
        """One value per bucket, ascending, within `accuracy` of all values in it; shape (buckets,)."""
        codes = np.asarray(self.codes, dtype=np.float64)
        growth = self._growth()
        size = np.exp((np.abs(codes) - OFFSET) * math.log(growth)) * 2 / (1 + growth)
        values: Vector = np.where(codes == 0, 0.0, np.sign(codes) * size)
        return values

    def histogram(self, edges: ArrayLike) -> NDArray[np.int64]:
        """Counts below, between and from the last of ascending `edges` on, shape (len(edges) + 1,);
        approximate.
        """
        cells = np.searchsorted(finite_vector(edges, "edges"), self.representatives(), side="right")
        return np.bincount(cells, weights=self.counts, minlength=len(np.asarray(edges)) + 1).astype(np.int64)

    def _growth(self) -> float:
        return float(((1 + ACCURACY) / (1 - ACCURACY)) ** (2**self.collapses))

    def _collapsed(self) -> QuantileSketch:
        codes = np.asarray(self.codes, dtype=np.int64)
        index = -((OFFSET - np.abs(codes)) // 2)
        joined = np.where(codes == 0, 0, np.sign(codes) * (index + OFFSET))
        kept, counts = _summed(tuple(joined.tolist()), self.counts)
        return msgspec.structs.replace(self, codes=kept, counts=counts, collapses=self.collapses + 1)


def _summed(codes: tuple[int, ...], counts: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Codes in ascending order, each once, with the sum of its counts."""
    distinct, inverse = np.unique(np.asarray(codes, dtype=np.int64), return_inverse=True)
    sums = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sums, inverse, np.asarray(counts, dtype=np.int64))
    return tuple(distinct.tolist()), tuple(sums.tolist())
