import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.arrays import NotEnoughData
from salus.stats.sequential.betting import BettingSequence
from salus.stats.sequential.means import MeanSequence, mean_difference, paired_difference

Sequence = MeanSequence | BettingSequence
both = pytest.mark.parametrize("kind", [MeanSequence, BettingSequence])


@both
@pytest.mark.parametrize("law", ["bernoulli", "beta", "skewed"])
def test_looking_all_the_time_misses_at_most_alpha(kind: type[Sequence], law: str) -> None:
    rng = np.random.default_rng(15)
    draw = {
        "bernoulli": lambda: (rng.uniform(size=600) < 0.1).astype(float),
        "beta": lambda: rng.beta(2, 2, size=600),
        "skewed": lambda: np.minimum(rng.exponential(0.05, size=600), 1.0),
    }[law]
    truth = {"bernoulli": 0.1, "beta": 0.5, "skewed": 0.05 * (1 - np.exp(-20))}[law]
    missed = 0
    for _ in range(120):
        values, state = draw(), kind(0.0, 1.0, 0.1)
        for start in range(0, 600, 20):
            state = state.update(values[start : start + 20])
            if not state.interval().contains(truth):
                missed += 1
                break
    assert missed / 120 <= 0.12


@both
def test_interval_shrinks_and_betting_is_tight(kind: type[Sequence]) -> None:
    values = np.random.default_rng(16).beta(10, 30, size=5000)
    width = [kind(0.0, 1.0).update(values[:n]).interval() for n in (50, 500, 5000)]
    sizes = [interval.high - interval.low for interval in width]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 6 * 2 * values.std() / np.sqrt(5000)


@both
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-3, 3), min_size=1, max_size=60), cut=st.integers(0, 60))
def test_batches_do_not_matter_and_the_state_survives_json(kind: type[Sequence], values: list[float], cut: int) -> None:
    whole = kind(-2.0, 2.0).update(values)
    first = kind(-2.0, 2.0).update(values[:cut])
    restored = msgspec.json.decode(msgspec.json.encode(first), type=kind)
    assert restored == first
    parts = restored.update(values[cut:])
    one, two = whole.interval(), parts.interval()
    assert (one.low, one.high, one.n) == (pytest.approx(two.low), pytest.approx(two.high), two.n)
    assert -2 <= one.low <= one.value <= one.high <= 2


def test_a_million_values_within_a_second_or_so() -> None:
    values = np.random.default_rng(17).uniform(size=1_000_000)
    start = time.process_time()
    MeanSequence(0.0, 1.0).update(values)
    assert time.process_time() - start < 1.5


def test_difference_of_arms_of_unequal_size_is_valid_and_decides() -> None:
    rng = np.random.default_rng(18)
    missed, found = 0, 0
    for _ in range(100):
        old, new, worse = MeanSequence(0.0, 1.0), MeanSequence(0.0, 1.0), MeanSequence(0.0, 1.0)
        wrong = False
        for _ in range(20):
            old = old.update(rng.beta(2, 8, size=190))
            new = new.update(rng.beta(2, 8, size=10))
            worse = worse.update(rng.beta(4, 6, size=10))
            wrong = wrong or not mean_difference(old, new).contains(0.0)
        missed += wrong
        found += mean_difference(old, worse).low > 0
    assert missed / 100 <= 0.05
    assert found / 100 >= 0.95


def test_paired_difference_finds_a_small_gain() -> None:
    rng = np.random.default_rng(19)
    state = paired_difference(2.0).update(rng.normal(0.05, 0.2, size=4000))
    assert 0 < state.interval().low < 0.05 < state.interval().high


def test_an_empty_sequence_has_no_interval() -> None:
    with pytest.raises(NotEnoughData):
        MeanSequence(0.0, 1.0).interval()
    with pytest.raises(ValueError, match=r"low < high, got low=1\.0, high=0\.0"):
        BettingSequence(1.0, 0.0)
    assert MeanSequence(0.0, 1.0).update([]).n == 0
