"""Has the mean loss of whole windows gone up by more than windows differ by themselves?

Rows of a day share its weather, so their number says little about how sure a day's mean is; how much quiet
days differ does. Source: the e-detector of `salus.stats.sequential.detection` (Shin, Ramdas, Rinaldo 2023)
on the normal e-factors exp(lambda z - lambda^2 / 2). Approximate: exact if window means are normal with the
learned spread.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from salus.stats.arrays import NotEnoughData, block_codes, block_sums, finite_vector
from salus.stats.intervals import student_quantile
from salus.stats.sequential.detection import Detection, check_budget

BETS = (0.25, 0.5, 1.0, 1.5, 2.0)
FEWEST_WINDOWS = 5
CAUTION = 0.9
LARGEST_Z = 4.0


class WindowChangeDetector(msgspec.Struct, frozen=True):
    """State of a detector for a rise of the mean of a loss, fed window by window; `learned` makes one from
    a reference.

    A quiet window of n rows has mean `mean` and variance `between_sd`^2 + `within_sd`^2 / n. A rise counts
    from `tolerance` on. At most one false alarm in `windows_per_alarm` windows. One window counts as at
    most 4 standard deviations, so no single freak window raises an alarm in a budget of 1,000 windows.

    >>> rng = np.random.default_rng(0)
    >>> days = np.repeat(np.arange(30), 100)
    >>> losses = rng.exponential(0.4, size=3000) + rng.normal(0, 0.05, size=30)[days]
    >>> calm = WindowChangeDetector.learned(losses, days, tolerance=0.01, windows_per_alarm=1000)
    >>> quiet = calm.update_window(rng.exponential(0.4, size=100))
    >>> sick = quiet.update_window(rng.exponential(0.7, size=100)).update_window(rng.exponential(0.7, size=100))
    >>> quiet.alarm, sick.alarm, sick.detection.started_at
    (False, True, 1)
    """

    mean: float
    between_sd: float
    within_sd: float
    tolerance: float
    windows_per_alarm: float
    n: int = 0
    detection: Detection = Detection.empty(len(BETS))

    def __post_init__(self) -> None:
        for name in ("tolerance", "between_sd", "within_sd"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        if not self.between_sd and not self.within_sd:
            raise ValueError("between_sd and within_sd must not both be 0: nothing would ever be noise")
        check_budget("windows_per_alarm", self.windows_per_alarm)

    @classmethod
    def learned(
        cls, losses: ArrayLike, windows: ArrayLike, *, tolerance: float, windows_per_alarm: float
    ) -> WindowChangeDetector:
        """A detector from quiet `losses`, shape (n,), and the window each belongs to, shape (n,).

        Variance components by the analysis of variance for unequal sizes (S. Searle, G. Casella, C.
        McCulloch, "Variance Components", 1992). Since they and the mean are estimated, the upper
        90 % confidence bound of the mean and of the spread between windows are kept. Raises NotEnoughData
        below 5 windows.
        """
        rows = finite_vector(losses, "losses")
        codes, groups = block_codes(windows, len(rows))
        if groups < FEWEST_WINDOWS or len(rows) <= groups:
            raise NotEnoughData(
                f"learning how windows differ needs at least {FEWEST_WINDOWS} windows of several rows, "
                f"got {groups} windows with {len(rows)} rows",
                n=groups,
                needed_n=max(FEWEST_WINDOWS, groups),
            )
        sizes = np.bincount(codes, minlength=groups).astype(np.float64)
        means = block_sums(codes, rows, groups) / sizes
        within = float(np.square(rows - means[codes]).sum()) / (len(rows) - groups)
        between_square = float(sizes @ np.square(means - rows.mean())) / (groups - 1)
        typical = (len(rows) - float(np.square(sizes).sum()) / len(rows)) / (groups - 1)
        caution = (groups - 1) / float(special.chdtri(groups - 1, CAUTION))
        between = max(0.0, (caution * between_square - within) / typical)
        spread = math.sqrt(float(np.square(means - means.mean()).sum()) / (groups - 1) / groups)
        return cls(
            mean=float(rows.mean()) + student_quantile(CAUTION, groups - 1) * spread,
            between_sd=math.sqrt(between),
            within_sd=math.sqrt(within),
            tolerance=tolerance,
            windows_per_alarm=windows_per_alarm,
        )

    @property
    def alarm(self) -> bool:
        """Whether the detector has raised its alarm; it then keeps its evidence until a new one is learned."""
        return self.detection.alarmed_at is not None

    @property
    def evidence(self) -> float:
        """Evidence of a change as a share of what an alarm takes: 1.0 or more is an alarm."""
        return self.detection.evidence(self.windows_per_alarm)

    def update_window(self, losses: ArrayLike) -> WindowChangeDetector:
        """The state after one window's losses, shape (k,), as one step; an empty window is no step."""
        rows = finite_vector(losses, "losses")
        if not len(rows):
            return self
        spread = math.sqrt(self.between_sd**2 + self.within_sd**2 / len(rows))
        z = min((float(rows.mean()) - self.mean - self.tolerance) / spread, LARGEST_Z)
        bets = np.array(BETS)
        detection = self.detection.advanced((bets * z - bets**2 / 2)[None, :], self.windows_per_alarm)
        return msgspec.structs.replace(self, n=self.n + len(rows), detection=detection)
