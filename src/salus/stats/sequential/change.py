"""Has the mean of a loss gone up? A detector with a budget: at most one false alarm in N steps.

Source: J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", 2023: the mixture e-SR detector (definitions 2.1 and 2.2, section 4.1) on the betting e-factors
1 + lambda (x - m) of Waudby-Smith & Ramdas (2024). While the mean given the past stays at most m, M_t - t
is a supermartingale, so the mean time to a false alarm at M_t >= N is at least N steps, and the chance of
one within the first T steps at most T / N.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from salus.stats.arrays import Vector, finite_vector, within
from salus.stats.sequential.means import check_bounds

BETS = 12
ROWS_AT_ONCE = 65_536
NOTHING = -1e300
"""log(0), finite so that the state survives JSON."""


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
    log_evidence: tuple[float, ...] = (NOTHING,) * BETS
    log_peaks: tuple[float, ...] = (0.0,) * BETS
    starts: tuple[int, ...] = (0,) * BETS

    def __post_init__(self) -> None:
        check_bounds(self.low, self.high)
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be at least 0, got {self.tolerance}")
        if not self.low < self.mean + self.tolerance < self.high:
            raise ValueError(
                "mean + tolerance must lie strictly between low and high, got "
                f"{self.mean} + {self.tolerance} in [{self.low}, {self.high}]; a rise could not be seen otherwise"
            )
        if not 1 < self.steps_per_alarm < math.inf:
            raise ValueError(f"steps_per_alarm must be finite and above 1, got {self.steps_per_alarm}")

    @property
    def alarm(self) -> bool:
        """Whether the detector has raised its alarm; it then keeps its state until `restarted`."""
        return self.alarmed_at is not None

    @property
    def started_at(self) -> int | None:
        """Steps seen before the likely start of the change (where the leading bet's CUSUM left zero); None
        if calm.
        """
        leading = int(np.argmax(self.log_evidence))
        return self.starts[leading] if self.log_peaks[leading] > 0 else None

    @property
    def evidence(self) -> float:
        """The mixture M_t as a share of the alarm threshold: 1.0 or more is an alarm."""
        if not self.steps:
            return 0.0
        mixture = float(np.logaddexp.reduce(self.log_evidence)) - math.log(BETS * self.steps_per_alarm)
        return math.exp(min(mixture, 700.0))

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
        """The state after k steps with these log e-factors, shape (k, BETS); it stops at the first alarm."""
        if self.alarm:
            return self._grown(values, len(log_factors))
        sums = np.cumsum(log_factors, axis=0)
        starts = np.vstack([self.log_evidence, np.zeros(BETS), -sums[:-1]])
        evidence = sums + np.logaddexp.accumulate(starts, axis=0)[1:]
        mixture = np.logaddexp.reduce(evidence, axis=1) - math.log(BETS)
        over = mixture >= math.log(self.steps_per_alarm)
        last = int(np.argmax(over)) if over.any() else len(over) - 1
        walk = np.asarray(self.log_peaks) + sums[: last + 1]
        peaks = walk - np.minimum(0.0, np.minimum.accumulate(walk, axis=0))
        return msgspec.structs.replace(
            self._grown(values, len(log_factors)),
            alarmed_at=self.steps + last + 1 if over.any() else None,
            log_evidence=tuple(evidence[last].tolist()),
            log_peaks=tuple(peaks[-1].tolist()),
            starts=tuple(self._last_zeros(peaks)),
        )

    def _last_zeros(self, peaks: NDArray[np.float64]) -> list[int]:
        """Per bet: how many steps had been seen when its CUSUM last stood at zero."""
        zero = peaks[::-1] == 0.0
        last = self.steps + len(peaks) - np.argmax(zero, axis=0)
        return [int(step) for step in np.where(zero.any(axis=0), last, self.starts)]

    def _grown(self, values: int, steps: int) -> ChangeDetector:
        return msgspec.structs.replace(self, n=self.n + values, steps=self.steps + steps)
