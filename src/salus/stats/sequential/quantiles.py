"""Confidence sequence for a quantile (latency p95), valid at every look, on a mergeable sketch.

Source: S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and
best-arm identification", Bernoulli 2022, in the beta-binomial form: how many of n values lie
below the true p-quantile is a sum of Bernoulli(p) (up to ties), so the ranks that a test martingale does
not refute bracket the quantile.
"""

from __future__ import annotations

import math

from scipy import special

from salus.stats.arrays import NotEnoughData, open_unit
from salus.stats.intervals import Estimate
from salus.stats.sketches.quantile import QuantileSketch

TUNED_FOR_N = 1000


def quantile_interval(sketch: QuantileSketch, probability: float, alpha: float = 0.05) -> Estimate:
    """The `probability` quantile of all values a sketch has seen, with an interval valid at every look.

    The sketch is the state: update it as values arrive and ask whenever you like; over all looks together
    the interval misses with probability at most `alpha`. Ends are rounded outward by the sketch's relative
    accuracy. Raises NotEnoughData while the ranks do not bracket the quantile (p95 needs about 150 values).

    >>> print(quantile_interval(QuantileSketch().update(range(1, 2001)), 0.95))
    1901 [1845, 1959] (n=2,000)
    """
    open_unit(probability, "probability")
    threshold = -math.log(open_unit(alpha, "alpha"))
    n = sketch.n
    lowest, highest = rank_bounds(n, probability, threshold)
    if lowest < 1 or highest >= n:
        raise NotEnoughData(
            f"the {probability:g} quantile cannot be bracketed yet with n={n} at alpha={alpha:g}",
            n=n,
            needed_n=_enough(n, probability, threshold),
        )
    value = sketch.quantile(probability)
    low, high = sketch.rank_bracket(lowest)[0], sketch.rank_bracket(highest + 1)[1]
    return Estimate(value=min(max(value, low), high), low=low, high=high, n=n, level=1 - alpha)


def quantile_difference(
    champion: QuantileSketch, challenger: QuantileSketch, probability: float, alpha: float = 0.05
) -> Estimate:
    """Quantile of the challenger minus quantile of the champion, independent arms; valid at every look.

    Each arm at alpha/2, joined by the union bound; `n` counts both arms. Raises NotEnoughData like
    `quantile_interval`.
    """
    old = quantile_interval(champion, probability, alpha / 2)
    new = quantile_interval(challenger, probability, alpha / 2)
    return Estimate(
        value=new.value - old.value,
        low=new.low - old.high,
        high=new.high - old.low,
        n=old.n + new.n,
        level=1 - alpha,
    )


def rank_bounds(n: int, probability: float, threshold: float) -> tuple[int, int]:
    """Smallest and largest count of n Bernoulli(`probability`) trials whose log-evidence is below
    `threshold`.
    """
    middle = round(n * probability)
    lowest = _furthest(n, probability, threshold, middle, 0)
    highest = _furthest(n, probability, threshold, middle, n)
    return lowest, highest


def _furthest(n: int, probability: float, threshold: float, inside: int, outside: int) -> int:
    """The accepted count furthest towards `outside` (evidence is convex in the count)."""
    if _log_evidence(outside, n, probability) < threshold:
        return outside
    accepted, rejected = inside, outside
    while abs(accepted - rejected) > 1:
        middle = (accepted + rejected) // 2
        if _log_evidence(middle, n, probability) < threshold:
            accepted = middle
        else:
            rejected = middle
    return accepted


def _log_evidence(count: int, n: int, probability: float) -> float:
    """Log of the mixture martingale; its beta prior is centred at the hypothesis and tuned for n = 1,000."""
    weight = TUNED_FOR_N / 10.0
    yes, no = weight * probability, weight * (1 - probability)
    mixture = special.betaln(count + yes, n - count + no) - special.betaln(yes, no)
    return float(mixture - count * math.log(probability) - (n - count) * math.log1p(-probability))


def _enough(n: int, probability: float, threshold: float) -> int:
    """The first n (to a factor of 1.1) at which the ranks bracket the quantile."""
    size = max(n, 8)
    while True:
        size = math.ceil(size * 1.1)
        lowest, highest = rank_bounds(size, probability, threshold)
        if lowest >= 1 and highest < size:
            return size
