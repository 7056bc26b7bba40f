import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.arrays import NotEnoughData
from salus.stats.sequential.rates import RateSequence, rate_difference


def test_looking_after_every_trial_misses_at_most_alpha() -> None:
    rng = np.random.default_rng(20)
    missed = 0
    for _ in range(400):
        yes = np.cumsum(rng.uniform(size=1000) < 0.03)
        threshold = math.log(1 / 0.05)
        missed += any(RateSequence(float(yes[n - 1]), n).log_evidence(0.03) >= threshold for n in range(1, 1001, 5))
    assert missed / 400 <= 0.06


def test_a_healthy_canary_is_left_alone_and_a_sick_one_is_caught() -> None:
    rng = np.random.default_rng(21)
    rolled_back, caught_after = 0, []
    for _ in range(100):
        champion, healthy, sick = RateSequence(), RateSequence(), RateSequence()
        wrong, caught = False, None
        for look in range(1, 21):
            champion = champion.update(int(rng.binomial(1900, 0.01)), 1900)
            healthy = healthy.update(int(rng.binomial(100, 0.01)), 100)
            sick = sick.update(int(rng.binomial(100, 0.05)), 100)
            wrong = wrong or rate_difference(champion, healthy).low > 0
            if caught is None and rate_difference(champion, sick).low > 0:
                caught = look * 100
        rolled_back += wrong
        caught_after.append(caught or 10_000)
    assert rolled_back / 100 <= 0.05
    assert np.median(caught_after) <= 700


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_difference_is_inside_its_interval_and_mirrors(n: int, m: int, data: st.DataObject) -> None:
    one = RateSequence(data.draw(st.integers(0, n)), n)
    two = RateSequence(data.draw(st.integers(0, m)), m)
    gap, back = rate_difference(one, two), rate_difference(two, one)
    assert -1 <= gap.low <= gap.value <= gap.high <= 1
    assert gap.low == pytest.approx(-back.high, abs=1e-6)


def test_product_of_both_arms_is_tighter_than_the_union_bound() -> None:
    one, two = RateSequence(20, 1000), RateSequence(50, 1000)
    gap = rate_difference(one, two)
    old, new = one.interval(0.025), two.interval(0.025)
    assert gap.high - gap.low < 0.92 * (new.high - old.low - (new.low - old.high))


def test_certain_rates_and_bad_counts() -> None:
    assert RateSequence(0, 100).interval().low == 0.0
    assert RateSequence(100, 100).interval().high == 1.0
    assert RateSequence(1, 10).log_evidence(0.0) == math.inf
    with pytest.raises(ValueError, match=r"\[0, n\], got 3 of 2"):
        RateSequence().update(3, 2)
    with pytest.raises(NotEnoughData):
        RateSequence().interval()
