"""Challenger against champion on the same rows: effect, interval, p-value, and a verdict that may be
"cannot tell".

Effects are signed so that positive is good for the challenger. Rows that belong together (one day) are
correlated; name them in `blocks` and whole blocks are compared.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from salus.stats.arrays import NotEnoughData, block_codes, block_sums, finite_vector, open_unit, same_length
from salus.stats.intervals import Estimate, normal_quantile, standard_error
from salus.stats.pivots import FEW_UNITS, Pivot, StudentPivot, pivot_for
from salus.stats.ranking import auc_influence

Verdict: TypeAlias = Literal["better", "worse", "no difference", "cannot tell"]
Alternative: TypeAlias = Literal["two-sided", "better", "worse"]

FIRST_LOOK = 30
POWER = 0.8
UNREALISTIC = 1e10


class PairedComparison(msgspec.Struct, frozen=True):
    """What the rows say about challenger and champion.

    `effect` is the gain of the challenger (None when no interval exists yet). `verdict` is "better" or
    "worse" when the interval excludes 0 and the gain is at least `margin` in size, "no difference" when the
    interval lies within +-margin, else "cannot tell". Then `needed_n` is the number of rows at which an
    effect of the size seen would be decided with probability 0.8 (None when no realistic number would do).
    """

    effect: Estimate | None
    p_value: float
    n: int
    verdict: Verdict
    margin: float = 0.0
    needed_n: int | None = None

    @property
    def more_n(self) -> int | None:
        """How many rows are still needed."""
        return None if self.needed_n is None else max(0, self.needed_n - self.n)

    def __str__(self) -> str:
        if self.verdict != "cannot tell":
            return f"{self.verdict}: gain {self.effect}, p = {self.p_value:.3g}"
        more = "no realistic amount would decide"
        if self.more_n is not None:
            more = f"need about {self.more_n:,} more rows"
        return f"cannot tell yet, {more} (gain {self.effect})"


def paired_loss(
    loss_champion: ArrayLike,
    loss_challenger: ArrayLike,
    level: float = 0.95,
    alternative: Alternative = "two-sided",
    *,
    margin: float = 0.0,
    blocks: ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Mean of champion's loss minus challenger's, per row, shape (n,) each; positive: the challenger loses
    less.

    Studentised bootstrap over rows, or over `blocks` (cluster bootstrap; A. Cameron, J. Gelbach, D. Miller,
    "Bootstrap-based improvements for inference with clustered errors", 2008); see `salus.stats.pivots` for
    few and for many units. With a one-sided `alternative` the interval's two tails hold 1 - level each, so
    that it excludes 0 exactly when p < 1 - level. `margin` is the smallest difference of loss that matters.
    Same seed, same answer.

    >>> rng = np.random.default_rng(0)
    >>> champion = rng.exponential(size=500)
    >>> print(paired_loss(champion, champion - 0.1 + rng.normal(0, 0.5, size=500)))
    better: gain 0.1364 [0.0946, 0.1776] (n=500), p = 0.001
    """
    old = finite_vector(loss_champion, "loss_champion")
    new = finite_vector(loss_challenger, "loss_challenger")
    same_length(old, new, "loss_champion and loss_challenger")
    _check(level, margin)
    n = len(old)
    codes, units = (np.arange(n), n) if blocks is None else block_codes(blocks, n)
    if units < 2:
        return _too_few(n, units, margin)
    gains = old - new
    gain = float(gains.mean())
    sizes = np.bincount(codes, minlength=units).astype(np.float64)
    deviations = block_sums(codes, gains - gain, units)
    error, _ = standard_error(deviations / n)
    if error <= 1e-12 * max(1.0, abs(gain)):
        return _without_spread(gain, n, units, level, margin)
    pivot = pivot_for(deviations, sizes, resamples=resamples, seed=seed)
    return _judge(gain, error, pivot, n, level, alternative, margin, bounds=None)


def paired_auc(
    y: ArrayLike,
    score_champion: ArrayLike,
    score_challenger: ArrayLike,
    level: float = 0.95,
    alternative: Alternative = "two-sided",
    *,
    margin: float = 0.0,
    blocks: ArrayLike | None = None,
) -> PairedComparison:
    """AUC of the challenger minus AUC of the champion on the same labels, by DeLong's test (1988).

    Over `blocks` by Obuchowski (1997). "cannot tell" when one class is absent.

    >>> y = [0, 1] * 50
    >>> paired_auc(y, [0.5] * 100, y).verdict
    'better'
    """
    _check(level, margin)
    n = len(np.asarray(y))
    try:
        old, old_influence, _ = auc_influence(y, score_champion)
        new, new_influence, _ = auc_influence(y, score_challenger)
        error, units = standard_error(new_influence - old_influence, blocks)
    except NotEnoughData:
        return _too_few(n, n, margin)
    gain = new - old
    if error <= 1e-12:
        return _without_spread(gain, n, units, level, margin)
    return _judge(gain, error, StudentPivot(units - 1), n, level, alternative, margin, bounds=(-1.0, 1.0))


def mcnemar(
    right_champion: ArrayLike,
    right_challenger: ArrayLike,
    level: float = 0.95,
    alternative: Alternative = "two-sided",
    *,
    margin: float = 0.0,
) -> PairedComparison:
    """Accuracy of the challenger minus accuracy of the champion, from rows each got right (bool, shape (n,)).

    Mid-p McNemar test (M. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary matched-pairs
    data: mid-p and asymptotic are better than exact conditional", 2013) and the adjusted Wald interval (D.
    Bonett, R. Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", 2012): one added to both discordant counts, two to n. Exact for small counts; rows count
    as independent: with blocks use `paired_loss` on 0/1 losses.

    >>> print(mcnemar([True] * 80 + [False] * 20, [True] * 95 + [False] * 5))
    better: gain 0.15 [0.07315, 0.221] (n=100), p = 3.05e-05
    """
    old, new = np.asarray(right_champion, dtype=bool), np.asarray(right_challenger, dtype=bool)
    same_length(old, new, "right_champion and right_challenger")
    _check(level, margin)
    n = len(old)
    if n < 2:
        return _too_few(n, n, margin)
    won, lost = int((new & ~old).sum()), int((old & ~new).sum())
    up, down = _mid_p(lost, won + lost), _mid_p(won, won + lost)
    p_value = {"better": up, "worse": down, "two-sided": min(1.0, 2 * min(up, down))}[alternative]
    share_won, share_lost = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((share_won + share_lost - (share_won - share_lost) ** 2) / (n + 2))
    half = normal_quantile(1 - _tail(level, alternative)) * error
    gain, centre = (won - lost) / n, share_won - share_lost
    effect = Estimate(
        value=gain,
        low=max(-1.0, min(gain, centre - half)),
        high=min(1.0, max(gain, centre + half)),
        n=n,
        level=_interval_level(level, alternative),
    )
    return _conclude(effect, p_value, error, level, alternative, margin)


def _mid_p(successes: int, trials: int) -> float:
    """Chance of at most `successes` heads in `trials` fair tosses, the last one counted half."""
    at_most = float(special.bdtr(successes, trials, 0.5))
    below = float(special.bdtr(successes - 1, trials, 0.5)) if successes else 0.0
    return (at_most + below) / 2


def _judge(
    gain: float,
    error: float,
    pivot: Pivot,
    n: int,
    level: float,
    alternative: Alternative,
    margin: float,
    *,
    bounds: tuple[float, float] | None,
) -> PairedComparison:
    tail = _tail(level, alternative)
    low, high = gain - pivot.quantile(1 - tail) * error, gain - pivot.quantile(tail) * error
    floor, ceiling = bounds or (-math.inf, math.inf)
    effect = Estimate(
        value=gain,
        low=max(floor, min(low, gain)),
        high=min(ceiling, max(high, gain)),
        n=n,
        level=_interval_level(level, alternative),
    )
    up = pivot.upper_tail(gain / error)
    p_value = {"better": up, "worse": 1 - up, "two-sided": min(1.0, 2 * min(up, 1 - up))}[alternative]
    return _conclude(effect, p_value, error, level, alternative, margin)


def _conclude(
    effect: Estimate, p_value: float, error: float, level: float, alternative: Alternative, margin: float
) -> PairedComparison:
    significant = p_value <= 1 - level
    verdict: Verdict = "cannot tell"
    if margin > 0 and -margin <= effect.low and effect.high <= margin:
        verdict = "no difference"
    elif significant and effect.low > 0 and effect.value >= margin and alternative != "worse":
        verdict = "better"
    elif significant and effect.high < 0 and -effect.value >= margin and alternative != "better":
        verdict = "worse"
    needed = _needed(effect, error, level, alternative, margin) if verdict == "cannot tell" else None
    return PairedComparison(effect, p_value, effect.n, verdict, margin, needed)


def _needed(effect: Estimate, error: float, level: float, alternative: Alternative, margin: float) -> int | None:
    """Rows at which an effect as seen is decided with probability POWER: n (z se / distance to decide)^2."""
    size = abs(effect.value)
    target = size if size >= margin else margin - size
    if target <= 0:
        return None
    reach = normal_quantile(1 - _tail(level, alternative)) + normal_quantile(POWER)
    rows = effect.n * (reach * error / target) ** 2
    return None if rows > UNREALISTIC else max(effect.n + 1, math.ceil(rows))


def _too_few(n: int, units: int, margin: float) -> PairedComparison:
    rows_per_unit = n / units if units else 1
    return PairedComparison(None, 1.0, n, "cannot tell", margin, math.ceil(FIRST_LOOK * rows_per_unit))


def _without_spread(gain: float, n: int, units: int, level: float, margin: float) -> PairedComparison:
    """Every unit shows the same difference: decide by the sign test, and only from FEW_UNITS units on."""
    effect = Estimate(value=gain, low=gain, high=gain, n=n, level=level)
    p_value = min(1.0, 2.0 ** (1 - units)) if gain else 1.0
    if units < FEW_UNITS:
        return PairedComparison(effect, p_value, n, "cannot tell", margin, math.ceil(FIRST_LOOK * n / units))
    verdict: Verdict = "better" if gain > 0 else "worse"
    if gain == 0 or abs(gain) < margin:
        verdict = "no difference"
    return PairedComparison(effect, p_value, n, verdict, margin)


def _check(level: float, margin: float) -> None:
    open_unit(level, "level")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin must be a finite number of at least 0, got {margin}")


def _tail(level: float, alternative: Alternative) -> float:
    return (1 - level) / 2 if alternative == "two-sided" else 1 - level


def _interval_level(level: float, alternative: Alternative) -> float:
    return 1 - 2 * _tail(level, alternative)
