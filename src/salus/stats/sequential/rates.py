"""Confidence sequences for rates (errors, clicks) and for the difference of two arms, valid at every look.

Source: H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970; beta-binomial
mixture as in S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 2021. For independent arms the product of the two
test martingales is one.
"""

from __future__ import annotations

import math

import msgspec
from scipy import special

from salus.stats.arrays import NotEnoughData, open_unit
from salus.stats.intervals import Estimate
from salus.stats.roots import STEPS, boundary

PRIOR = 0.5


class RateSequence(msgspec.Struct, frozen=True):
    """Counts of yes in n trials; the whole state of the sequence.

    Also valid, though wide, for the mean of any values in [0, 1] (pass their sum), since the mixture's
    factors are convex in the value.

    >>> print(RateSequence().update(yes=12, n=400).interval(0.05))
    0.03 [0.008912, 0.0702] (n=400)
    """

    yes: float = 0.0
    n: int = 0

    def update(self, yes: float, n: int) -> RateSequence:
        """The state after `n` more trials of which `yes` succeeded. Raises ValueError unless 0 <= yes <= n."""
        if not 0 <= yes <= n:
            raise ValueError(f"yes must lie in [0, n], got {yes} of {n}")
        return RateSequence(self.yes + yes, self.n + n)

    def log_evidence(self, rate: float) -> float:
        """Log of the test martingale against the hypothesis that each trial succeeds with `rate`; may be
        infinite.

        exp of it is an e-value: under the hypothesis it ever reaches 1/alpha with probability at most alpha.
        """
        no = self.n - self.yes
        if (rate <= 0 and self.yes) or (rate >= 1 and no):
            return math.inf
        fit = (self.yes * math.log(rate) if self.yes else 0.0) + (no * math.log1p(-rate) if no else 0.0)
        return self._log_mixture() - fit

    def interval(self, alpha: float = 0.05) -> Estimate:
        """The rate now; over all looks together the interval misses it with probability at most `alpha`.

        Raises NotEnoughData before the first trial.
        """
        threshold = -math.log(open_unit(alpha, "alpha"))
        share = self.share()

        def excess(rate: float) -> float:
            return self.log_evidence(rate) - threshold

        low, high = boundary(excess, share, 0.0), boundary(excess, share, 1.0)
        return Estimate(value=share, low=low, high=high, n=self.n, level=1 - alpha)

    def share(self) -> float:
        """Observed rate. Raises NotEnoughData before the first trial."""
        if not self.n:
            raise NotEnoughData("a rate needs at least 1 trial, got n=0", n=0, needed_n=1)
        return self.yes / self.n

    def _log_mixture(self) -> float:
        no = self.n - self.yes
        return float(special.betaln(self.yes + PRIOR, no + PRIOR) - special.betaln(PRIOR, PRIOR))


def rate_difference(champion: RateSequence, challenger: RateSequence, alpha: float = 0.05) -> Estimate:
    """Rate of the challenger minus rate of the champion; arms independent, n may differ; valid at every look.

    A difference d is refuted when for every pair (p, p + d) the product of both martingales reached
    1/alpha. `n` counts both arms. About 10 ms.

    >>> champion, canary = RateSequence(200, 19_000), RateSequence(60, 1_000)
    >>> print(rate_difference(champion, canary))
    0.04947 [0.01941, 0.09311] (n=20,000)
    """
    threshold = -math.log(open_unit(alpha, "alpha"))
    gap = challenger.share() - champion.share()
    mixtures = champion._log_mixture() + challenger._log_mixture()

    def excess(difference: float) -> float:
        return mixtures - _best_fit(champion, challenger, difference) - threshold

    return Estimate(
        value=gap,
        low=boundary(excess, gap, -1.0),
        high=boundary(excess, gap, 1.0),
        n=champion.n + challenger.n,
        level=1 - alpha,
    )


def _best_fit(champion: RateSequence, challenger: RateSequence, difference: float) -> float:
    """Largest log-likelihood of both arms over champion rates p with challenger rate p + difference
    (concave in p).
    """
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    yes, no = champion.yes, champion.n - champion.yes
    new_yes, new_no = challenger.yes, challenger.n - challenger.yes
    for _ in range(STEPS):
        p = (low + high) / 2
        q = p + difference
        slope = _ratio(yes, p) - _ratio(no, 1 - p) + _ratio(new_yes, q) - _ratio(new_no, 1 - q)
        if slope > 0:
            low = p
        else:
            high = p
    p = (low + high) / 2
    return _fit(yes, no, p) + _fit(new_yes, new_no, p + difference)


def _ratio(count: float, rate: float) -> float:
    if not count:
        return 0.0
    return count / rate if rate > 0 else math.inf


def _fit(yes: float, no: float, rate: float) -> float:
    if (rate <= 0 and yes) or (rate >= 1 and no):
        return -math.inf
    return (yes * math.log(rate) if yes else 0.0) + (no * math.log1p(-rate) if no else 0.0)
