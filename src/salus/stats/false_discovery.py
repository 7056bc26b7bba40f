"""Many tests at once: how many of the findings may be false."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import Vector, finite_vector, open_unit, within


def adjusted_p_values(p_values: ArrayLike, *, dependent: bool = False) -> Vector:
    """Benjamini-Hochberg adjusted p-values, in the order given, shape (k,): reject those at most the false
    discovery rate.

    Sources: Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", 1995, eq. 1 (independent or
    positively dependent tests); with `dependent` D. Yekutieli's factor, Benjamini & Yekutieli 2001, theorem
    1.3 (any dependence).

    >>> adjusted_p_values([0.01, 0.04, 0.03, 0.5])
    array([0.04      , 0.05333333, 0.05333333, 0.5       ])
    """
    p = finite_vector(p_values, "p_values")
    within("p_values", p, 0.0, 1.0)
    tests = len(p)
    order = np.argsort(p)[::-1]
    factor = float(np.sum(1 / np.arange(1, tests + 1))) if dependent else 1.0
    stepped = np.minimum.accumulate(p[order] * tests * factor / np.arange(tests, 0, -1))
    adjusted = np.empty(tests)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def discoveries(p_values: ArrayLike, rate: float = 0.05, *, dependent: bool = False) -> NDArray[np.bool_]:
    """Which tests to call findings so that on average at most `rate` of them are false; shape (k,).

    >>> discoveries([0.001, 0.9, 0.02]).tolist()
    [True, False, True]
    """
    found: NDArray[np.bool_] = adjusted_p_values(p_values, dependent=dependent) <= open_unit(rate, "rate")
    return found
