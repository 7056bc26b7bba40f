"""Profile of a numeric column in bounded memory: what it holds, without keeping it."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from salus.stats.sketches.quantile import QuantileSketch


class NumericProfile(msgspec.Struct, frozen=True):
    """Counts, moments and quantiles of a numeric column.

    `n` rows are all accounted for: n = missing + nan + positive_inf + negative_inf + finite. Moments,
    extremes and quantiles are of the finite values. `merge` of two profiles equals the profile of both
    streams (moments up to rounding). Source of the moments: T. Chan, G. Golub, R. LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances", 1979.

    >>> profile = NumericProfile().update([1.0, 2.0, 6.0, float("nan"), float("inf")])
    >>> profile.n, profile.nan, profile.positive_inf, profile.mean, profile.maximum
    (5, 1, 1, 3.0, 6.0)
    """

    n: int = 0
    missing: int = 0
    nan: int = 0
    positive_inf: int = 0
    negative_inf: int = 0
    mean: float = 0.0
    squares: float = 0.0
    quantiles: QuantileSketch = QuantileSketch()

    @property
    def finite(self) -> int:
        """How many values are finite."""
        return self.n - self.missing - self.nan - self.positive_inf - self.negative_inf

    @property
    def minimum(self) -> float | None:
        """Smallest finite value."""
        return self.quantiles.minimum

    @property
    def maximum(self) -> float | None:
        """Largest finite value."""
        return self.quantiles.maximum

    @property
    def standard_deviation(self) -> float | None:
        """Of the finite values, with n - 1; None below 2 values."""
        return math.sqrt(self.squares / (self.finite - 1)) if self.finite > 1 else None

    @property
    def missing_ratio(self) -> float:
        """Share of rows that hold no number: missing or NaN. 0 for an empty profile."""
        return (self.missing + self.nan) / self.n if self.n else 0.0

    def update(self, values: ArrayLike, *, missing: int = 0) -> NumericProfile:
        """The profile after `values`, shape (k,), NaN and infinity allowed, and `missing` more rows without
        a value.
        """
        x = np.asarray(values, dtype=np.float64)
        if x.ndim != 1:
            raise ValueError(f"values must be one-dimensional, got shape {x.shape}")
        if missing < 0:
            raise ValueError(f"missing must be at least 0, got {missing}")
        finite = x[np.isfinite(x)]
        mean = float(finite.mean()) if len(finite) else 0.0
        batch = NumericProfile(
            n=len(x) + missing,
            missing=missing,
            nan=int(np.isnan(x).sum()),
            positive_inf=int(np.isposinf(x).sum()),
            negative_inf=int(np.isneginf(x).sum()),
            mean=mean,
            squares=float(np.square(finite - mean).sum()),
            quantiles=QuantileSketch(collapses=self.quantiles.collapses).update(finite),
        )
        return self.merge(batch)

    def merge(self, other: NumericProfile) -> NumericProfile:
        """The profile of both streams."""
        mine, theirs = self.finite, other.finite
        both = mine + theirs
        gap = other.mean - self.mean
        return NumericProfile(
            n=self.n + other.n,
            missing=self.missing + other.missing,
            nan=self.nan + other.nan,
            positive_inf=self.positive_inf + other.positive_inf,
            negative_inf=self.negative_inf + other.negative_inf,
            mean=self.mean + gap * theirs / both if both else 0.0,
            squares=self.squares + other.squares + (gap * gap * mine * theirs / both if both else 0.0),
            quantiles=self.quantiles.merge(other.quantiles),
        )

    def quantile(self, probability: float) -> float:
        """A quantile of the finite values, within 1 %. Raises NotEnoughData when there are none."""
        return self.quantiles.quantile(probability)
