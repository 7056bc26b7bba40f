import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from salus.stats.arrays import NotEnoughData
from salus.stats.intervals import (
    Estimate,
    accuracy,
    brier,
    design_effect,
    log_loss,
    log_loss_rows,
    mean_absolute_error,
    mean_interval,
    root_mean_squared_error,
    wilson,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.data(), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy_and_holds_the_share(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    mine = wilson(successes, n, level)
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert mine.low == pytest.approx(theirs.low, abs=1e-9)
    assert mine.high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= mine.low <= mine.value <= mine.high <= 1


def test_mean_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(2, size=40)
    low, high = scipy_stats.t.interval(0.9, 39, values.mean(), scipy_stats.sem(values))
    mine = mean_interval(values, 0.9)
    assert (mine.low, mine.high) == (pytest.approx(low), pytest.approx(high))


def test_interval_over_blocks_covers_where_rows_of_a_day_move_together() -> None:
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(30), 50)
    hits, naive = 0, 0
    for _ in range(300):
        values = rng.normal(size=30)[days] + rng.normal(size=len(days))
        hits += mean_interval(values, 0.9, blocks=days).contains(0.0)
        naive += mean_interval(values, 0.9).contains(0.0)
    assert 0.86 <= hits / 300 <= 0.94
    assert naive / 300 < 0.4


def test_design_effect_is_one_for_independent_rows_and_block_size_for_equal_ones() -> None:
    rng = np.random.default_rng(43)
    days = np.repeat(np.arange(200), 25)
    assert design_effect(rng.normal(size=5000), days) < 1.4
    assert design_effect(rng.normal(size=200)[days], days) == pytest.approx(25, rel=0.02)
    assert design_effect([2.0, 2.0], ["a", "b"]) == 1.0


def test_metrics_have_their_textbook_values() -> None:
    y, p = [1, 0, 1, 0], [0.9, 0.2, 0.4, 0.4]
    assert log_loss(y, p).value == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.6])))
    assert brier(y, p).value == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.16]))
    assert accuracy(y, [1, 0, 0, 0]).value == 0.75
    assert mean_absolute_error([0.0, 4.0], [1.0, 1.0]).value == 2.0
    assert root_mean_squared_error([0.0, 4.0], [1.0, 1.0]).value == pytest.approx(np.sqrt(5))
    assert np.isfinite(log_loss_rows([1, 0], [0.0, 1.0])).all()


def test_estimate_survives_json() -> None:
    estimate = wilson(3, 10)
    assert msgspec.json.decode(msgspec.json.encode(estimate), type=Estimate) == estimate


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: log_loss([0, 2], [0.1, 0.2]), r"0 or 1, got 2.0 - at y\[1\]"),
        (lambda: log_loss([0, 1], [0.1, 1.2]), r"\[0, 1\], got 1.2 - at p\[1\]"),
        (lambda: log_loss([0, 1], [0.1, np.nan]), r"finite, got nan - at p\[1\]"),
        (lambda: log_loss([0, 1], [0.1]), "2 and 1 rows"),
        (lambda: mean_interval([[1.0]]), "one-dimensional"),
        (lambda: mean_interval([1.0, 2.0], 95), "strictly between 0 and 1, got 95"),
        (lambda: mean_interval([1.0, 2.0], blocks=["a"]), "one label per row"),
    ],
)
def test_bad_input_is_refused_with_the_law_and_the_place(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]


def test_too_few_rows_say_how_many_are_needed() -> None:
    with pytest.raises(NotEnoughData) as caught:
        mean_interval([1.0])
    assert (caught.value.n, caught.value.needed_n) == (1, 2)
    with pytest.raises(NotEnoughData):
        wilson(0, 0)
    with pytest.raises(NotEnoughData):
        mean_interval([1.0, 2.0, 3.0], blocks=["a", "a", "a"])
