"""Has the mean of a bounded loss gone up? An exact detector: at most one false alarm in N steps.

Source: the e-detector of `salus.stats.sequential.detection` (Shin, Ramdas, Rinaldo 2023) on the betting
e-factors 1 + lambda (x - m) of I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by
betting", 2024. It assumes nothing but the bounds; for losses whose days differ much, `window_change` is
faster and approximate.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import Vector, finite_vector, within
from salus.stats.sequential.detection import Detection, check_budget
from salus.stats.sequential.means import check_bounds

BETS = 12
ROWS_AT_ONCE = 65_536


class ChangeDetector(msgspec.Struct, frozen=True):
    """State of an e-detector for a rise of the mean of values in [`low`, `high`] above `mean` + `tolerance`.

    `steps_per_alarm` is the budget N: at most one false alarm in N steps on average. A step is one value
    (`update`) or one whole window (`update_window`); do not mix the two on one detector. Values above
    `high` are clipped, which keeps the budget (it only hides part of a rise); values below `low` are
    refused. `mean` is what the loss is known to be in good times: with a baseline from few rows pass the
    upper end of its interval.

    >>> calm = ChangeDetector(low=0.0, high=1.0, mean=0.2, tolerance=0.05, steps_per_alarm=1000)
    >>> quiet = calm.update([0.2, 0.3, 0.1] * 100)
    >>> sick = quiet.update([0.5] * 50)
    >>> quiet.alarm, sick.alarm, sick.detection.started_at
    (False, True, 300)
    """

    low: float
    high: float
    mean: float
    tolerance: float
    steps_per_alarm: float
    n: int = 0
    detection: Detection = Detection.empty(BETS)

    def __post_init__(self) -> None:
        check_bounds(self.low, self.high)
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be at least 0, got {self.tolerance}")
        if not self.low < self.mean + self.tolerance < self.high:
            raise ValueError(
                "mean + tolerance must lie strictly between low and high, got "
                f"{self.mean} + {self.tolerance} in [{self.low}, {self.high}]; a rise could not be seen otherwise"
            )
        check_budget("steps_per_alarm", self.steps_per_alarm)

    @property
    def alarm(self) -> bool:
        """Whether the detector has raised its alarm; it then keeps its evidence until `restarted`."""
        return self.detection.alarmed_at is not None

    @property
    def evidence(self) -> float:
        """Evidence of a change as a share of what an alarm takes: 1.0 or more is an alarm."""
        return self.detection.evidence(self.steps_per_alarm)

    def restarted(self, *, mean: float | None = None) -> ChangeDetector:
        """A fresh detector with the same budget, around a new `mean` when given (after retraining)."""
        return ChangeDetector(
            low=self.low,
            high=self.high,
            mean=self.mean if mean is None else mean,
            tolerance=self.tolerance,
            steps_per_alarm=self.steps_per_alarm,
        )

    def update(self, values: ArrayLike) -> ChangeDetector:
        """The state after `values`, shape (k,), each one step. A million values take about a second."""
        x, state = self._scaled(values), self
        for start in range(0, len(x), ROWS_AT_ONCE):
            part = x[start : start + ROWS_AT_ONCE]
            state = state._advanced(self._log_factors(part), len(part))
        return state

    def update_window(self, values: ArrayLike, *, design_effect: float = 1.0) -> ChangeDetector:
        """The state after one whole window as one step; an empty window is no step.

        `design_effect` >= 1 divides the window's evidence. 1 is right when each value's mean given the
        earlier ones stays at most `mean + tolerance`; the number of values is right under any dependence
        inside the window (Hoelder's inequality); between them use 1 + (rows per block - 1) x intraclass
        correlation on the reference.
        """
        if not 1 <= design_effect < math.inf:
            raise ValueError(f"design_effect must be finite and at least 1, got {design_effect}")
        x = self._scaled(values)
        if not len(x):
            return self
        total = np.zeros(BETS)
        for start in range(0, len(x), ROWS_AT_ONCE):
            total += self._log_factors(x[start : start + ROWS_AT_ONCE]).sum(axis=0)
        return self._advanced(total[None, :] / design_effect, len(x))

    def _scaled(self, values: ArrayLike) -> Vector:
        x = finite_vector(values, "values")
        within("values", x, self.low, math.inf)
        scaled: Vector = (np.minimum(x, self.high) - self.low) / (self.high - self.low)
        return scaled

    def _log_factors(self, x: Vector) -> NDArray[np.float64]:
        """log(1 + lambda (x - m)) for each value and each of a geometric grid of bets, shape (k, BETS)."""
        limit = (self.mean + self.tolerance - self.low) / (self.high - self.low)
        bets = 0.9 / limit * 1.7 ** -np.arange(BETS)
        factors: NDArray[np.float64] = np.log1p(bets * (x[:, None] - limit))
        return factors

    def _advanced(self, log_factors: NDArray[np.float64], values: int) -> ChangeDetector:
        detection = self.detection.advanced(log_factors, self.steps_per_alarm)
        return msgspec.structs.replace(self, n=self.n + values, detection=detection)
