"""What a change detector has seen: the evidence of several bets, the budget, the alarm.

Source: J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", 2023: the mixture e-SR detector. Let each step multiply
in a factor whose mean is at most 1 while nothing has changed; M_t = (M_{t-1} + 1) x factor, averaged over
bets. Then M_t - t is a supermartingale, so the mean time to a false alarm at M_t >= N is at least N steps,
and the chance of one within T steps at most T / N.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

NOTHING = -1e300
"""log(0), finite so that the state survives JSON."""


class Detection(msgspec.Struct, frozen=True):
    """Shiryaev-Roberts sums (`log_evidence`), CUSUMs (`log_peaks`) and their starts, one per bet, after
    `steps` steps.
    """

    log_evidence: tuple[float, ...]
    log_peaks: tuple[float, ...]
    starts: tuple[int, ...]
    steps: int = 0
    alarmed_at: int | None = None

    @classmethod
    def empty(cls, bets: int) -> Detection:
        """Nothing seen yet, with this many bets."""
        return cls(log_evidence=(NOTHING,) * bets, log_peaks=(0.0,) * bets, starts=(0,) * bets)

    @property
    def started_at(self) -> int | None:
        """Steps seen before the likely start of the change (the leading bet's CUSUM left zero); None if
        calm.
        """
        leading = int(np.argmax(self.log_evidence))
        return self.starts[leading] if self.log_peaks[leading] > 0 else None

    def evidence(self, steps_per_alarm: float) -> float:
        """The mixture M_t as a share of the alarm threshold: 1.0 or more is an alarm."""
        if not self.steps:
            return 0.0
        mixture = float(np.logaddexp.reduce(self.log_evidence)) - math.log(len(self.log_evidence) * steps_per_alarm)
        return math.exp(min(mixture, 700.0))

    def advanced(self, log_factors: NDArray[np.float64], steps_per_alarm: float) -> Detection:
        """The state after k steps with these log-factors, shape (k, bets); it keeps its evidence from an
        alarm on.
        """
        steps, bets = log_factors.shape
        if self.alarmed_at is not None or not steps:
            return msgspec.structs.replace(self, steps=self.steps + steps)
        sums = np.cumsum(log_factors, axis=0)
        begun = np.vstack([self.log_evidence, np.zeros(bets), -sums[:-1]])
        evidence = sums + np.logaddexp.accumulate(begun, axis=0)[1:]
        over = np.logaddexp.reduce(evidence, axis=1) >= math.log(bets * steps_per_alarm)
        last = int(np.argmax(over)) if over.any() else steps - 1
        walk = np.asarray(self.log_peaks) + sums[: last + 1]
        peaks = walk - np.minimum(0.0, np.minimum.accumulate(walk, axis=0))
        return Detection(
            log_evidence=tuple(evidence[last].tolist()),
            log_peaks=tuple(peaks[-1].tolist()),
            starts=self._last_zeros(peaks),
            steps=self.steps + steps,
            alarmed_at=self.steps + last + 1 if over.any() else None,
        )

    def _last_zeros(self, peaks: NDArray[np.float64]) -> tuple[int, ...]:
        """Per bet: how many steps had been seen when its CUSUM last stood at zero."""
        zero = peaks[::-1] == 0.0
        last = self.steps + len(peaks) - np.argmax(zero, axis=0)
        return tuple(int(step) for step in np.where(zero.any(axis=0), last, self.starts))


def check_budget(name: str, value: float) -> None:
    """Raise ValueError unless a budget of steps per false alarm is finite and above 1."""
    if not 1 < value < math.inf:
        raise ValueError(f"{name} must be finite and above 1, got {value}")
