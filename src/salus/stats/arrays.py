"""Checks on arrays that every statistic asks for before it computes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float64]
"""A one-dimensional array of finite floats, shape (n,)."""


class NotEnoughData(ValueError):  # noqa: N818 - the name is the answer: "cannot tell yet"
    """The statistic does not exist yet for so few rows; `needed_n` says from how many rows on it does."""

    def __init__(self, message: str, *, n: int, needed_n: int) -> None:
        super().__init__(message)
        self.n = n
        self.needed_n = needed_n


def finite_vector(values: ArrayLike, name: str) -> Vector:
    """`values` as a vector of finite floats.

    Raises ValueError when the shape is not (n,) or a value is NaN or infinite; the position is named.

    >>> finite_vector([1, 2], "loss")
    array([1., 2.])
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {vector.shape}; pass one value per row")
    finite = np.isfinite(vector)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(
            f"{name} must be finite, got {vector[position]} - at {name}[{position}]; drop or impute such rows first"
        )
    return vector


def same_length(first: NDArray[np.generic], second: NDArray[np.generic], names: str) -> None:
    """Raise ValueError unless both arrays have the same number of rows."""
    if len(first) != len(second):
        raise ValueError(f"{names} must have one value per row each, got {len(first)} and {len(second)} rows")


def binary_labels(y: ArrayLike) -> Vector:
    """`y` as a vector of 0.0 and 1.0. Raises ValueError at the first other value.

    >>> binary_labels([True, False])
    array([1., 0.])
    """
    vector = finite_vector(y, "y")
    wrong = (vector != 0.0) & (vector != 1.0)
    if wrong.any():
        position = int(np.argmax(wrong))
        raise ValueError(f"labels must be 0 or 1, got {vector[position]} - at y[{position}]")
    return vector


def probabilities(p: ArrayLike) -> Vector:
    """`p` as a vector of values in [0, 1]. Raises ValueError at the first value outside."""
    vector = finite_vector(p, "p")
    within("p", vector, 0.0, 1.0)
    return vector


def within(name: str, vector: Vector, low: float, high: float) -> None:
    """Raise ValueError unless every value lies in [low, high]; the first offender is named."""
    wrong = (vector < low) | (vector > high)
    if wrong.any():
        position = int(np.argmax(wrong))
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {vector[position]} - at {name}[{position}]")


def open_unit(value: float, name: str) -> float:
    """`value` if 0 < value < 1 (a level, an error probability), else ValueError."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
    return value


def block_codes(blocks: ArrayLike, rows: int) -> tuple[NDArray[np.intp], int]:
    """Cluster labels (days, users; any dtype, shape (rows,)) as codes 0..g-1, and g."""
    labels = np.asarray(blocks)
    if labels.shape != (rows,):
        raise ValueError(f"blocks must give one label per row, shape ({rows},), got shape {labels.shape}")
    distinct, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.intp), len(distinct)


def block_sums(codes: NDArray[np.intp], values: Vector, blocks: int) -> Vector:
    """Sum of `values` per block code, shape (blocks,)."""
    return np.bincount(codes, weights=values, minlength=blocks).astype(np.float64)
