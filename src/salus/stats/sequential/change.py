"""Has the mean of a loss gone up? A detector with a budget: at most one false alarm in N steps.

Source: J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2023:
the mixture e-SR detector (definitions 2.1 and 2.2, section 4.1) on the betting e-factors 1 + lambda (x - m) of
Waudby-Smith & Ramdas (2024). While the mean given the past stays at most m, M_t - t is a supermartingale, so the mean
time to a false alarm at M_t >= N is at least N steps, and the chance of one within the first T steps at most T / N.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import Vector, finite_vector, within
from salus.stats.sequential.means import check_bounds

BETS = 12
ROWS_AT_ONCE = 65_536
_NO_START = -math.inf


class ChangeDetector(msgspec.Struct, frozen=True):
    """State of an e-detector for a rise of the mean of values in [`low`, `high`] above `mean` + `tolerance`.

    `steps_per_alarm` is the budget N: at most one false alarm in N steps on average. A step is one value (`update`) or one
    whole window (`update_window`); do not mix the two on one detector. Values above `high` are clipped, which
    keeps the budget (it only hides part of a rise); values below `low` are refused. `mean` is
    what the loss is known to be in good times: with a baseline from few rows pass the upper end of its interval.

    >>> calm = ChangeDetector(low=0.0, high=1.0, mean=0.2, tolerance=0.05, steps_per_alarm=1000)
    >>> quiet = calm.update([0.2, 0.3, 0.1] * 100)
    >>> sick = quiet.update([0.5] * 50)
    >>> quiet.alarm, sick.alarm, sick.started_at
    (False, True, 300)
    """

    low: float
    high: float
    mean: float
    tolerance: float
    steps_per_alarm: float
    n: int = 0
    steps: int = 0
    alarmed_at: int | None = None
    log_evidence: tuple[float, ...] = (_NO_START,) * BETS
    log_peaks: tuple[float, ...] = (0.0,) * BETS
    starts: tuple[int, ...] = (0,) * BETS
