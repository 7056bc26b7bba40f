import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from salus.stats.paired import PairedComparison, mcnemar, paired_auc, paired_loss


def test_skewed_differences_are_covered_and_false_claims_stay_rare() -> None:
    rng = np.random.default_rng(7)
    hits, claims = 0, 0
    for trial in range(400):
        gains = rng.exponential(size=60) - 1.0
        outcome = paired_loss(gains, np.zeros(60), resamples=600, seed=trial)
        assert outcome.effect is not None
        hits += outcome.effect.contains(0.0)
        claims += outcome.verdict != "cannot tell"
    assert hits / 400 >= 0.925
    assert claims / 400 <= 0.075


def test_many_rows_take_the_analytic_road_and_cover_too() -> None:
    rng = np.random.default_rng(8)
    hits = sum(
        paired_loss(rng.lognormal(0, 1.5, size=3000), np.full(3000, np.exp(1.125))).effect.contains(0.0)  # type: ignore[union-attr]
        for _ in range(300)
    )
    assert hits / 300 >= 0.9


def test_rows_of_a_day_that_move_together_do_not_fake_significance() -> None:
    rng = np.random.default_rng(9)
    days = np.repeat(np.arange(20), rng.integers(20, 80, size=20))
    wrong = {"blocks": 0, "rows": 0}
    for trial in range(200):
        gains = rng.normal(size=20)[days] + rng.normal(size=len(days))
        zeros = np.zeros(len(days))
        wrong["blocks"] += paired_loss(gains, zeros, blocks=days, resamples=600, seed=trial).verdict != "cannot tell"
        wrong["rows"] += paired_loss(gains, zeros, resamples=600, seed=trial).verdict != "cannot tell"
    assert wrong["blocks"] / 200 <= 0.09
    assert wrong["rows"] / 200 > 0.5


def test_cannot_tell_says_how_many_rows_would_do_and_they_do() -> None:
    rng = np.random.default_rng(10)
    gains = rng.normal(0.1, 1.0, size=20_000)
    asked = []
    for start in range(0, 4000, 100):
        few = paired_loss(gains[start : start + 100], np.zeros(100), resamples=600)
        if few.verdict == "cannot tell" and few.needed_n is not None:
            assert few.more_n == few.needed_n - 100
            assert "need about" in str(few)
            asked.append(few.needed_n)
    # The truth (effect 0.1 standard deviations, power 0.8) is 785 rows.
    assert 100 < np.median(asked) < 4000
    decided = [
        paired_loss(gains[start : start + 785], np.zeros(785), resamples=600).verdict == "better"
        for start in range(0, 19_000, 785)
    ]
    assert 0.6 <= np.mean(decided) <= 0.95


def test_margin_separates_no_difference_from_cannot_tell() -> None:
    rng = np.random.default_rng(11)
    old = rng.exponential(size=1000)
    same = old + rng.normal(0, 0.01, size=1000)
    assert paired_loss(old, same, margin=0.05).verdict == "no difference"
    assert paired_loss(old, old + rng.normal(0, 5, size=1000), margin=0.05).verdict == "cannot tell"
    assert paired_loss(old, same + 0.2, margin=0.05).verdict == "worse"
    significant_but_small = paired_loss(old, same - 0.049, margin=0.05, alternative="better")
    assert significant_but_small.verdict in {"no difference", "cannot tell"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=40), st.sampled_from(["two-sided", "better", "worse"]))
def test_interval_and_p_value_agree_and_swapping_sides_mirrors(gains: list[float], side: str) -> None:
    zeros = [0.0] * len(gains)
    outcome = paired_loss(gains, zeros, alternative=side, resamples=200)  # type: ignore[arg-type]
    assert outcome.effect is not None
    assert outcome.effect.low <= outcome.effect.value <= outcome.effect.high
    assert np.isfinite([outcome.effect.low, outcome.effect.high]).all()
    assert 0 <= outcome.p_value <= 1
    if outcome.verdict == "better":
        assert outcome.effect.low > 0
        assert outcome.p_value <= 0.05 + 1e-9
    assert paired_loss(gains, zeros, resamples=200) == paired_loss(gains, zeros, resamples=200)
    mirrored = paired_loss(zeros, gains, resamples=200)
    assert mirrored.effect is not None
    assert mirrored.effect.value == pytest.approx(-outcome.effect.value, abs=1e-12)


def test_too_little_data_is_an_answer_not_an_error() -> None:
    for rows in (0, 1):
        outcome = paired_loss([1.0] * rows, [0.0] * rows)
        assert (outcome.verdict, outcome.effect) == ("cannot tell", None)
        assert outcome.needed_n
    one_day = paired_loss([1.0, 2.0], [0.0, 0.0], blocks=["mon", "mon"])
    assert one_day.verdict == "cannot tell"
    assert paired_auc([1, 1], [0.1, 0.2], [0.1, 0.2]).verdict == "cannot tell"
    assert mcnemar([True], [False]).verdict == "cannot tell"


def test_identical_models_do_not_differ() -> None:
    loss = np.random.default_rng(12).exponential(size=50)
    assert paired_loss(loss, loss).verdict == "no difference"
    assert paired_loss(loss[:3], loss[:3]).verdict == "cannot tell"


def test_mcnemar_p_value_is_mid_p_and_its_interval_covers() -> None:
    outcome = mcnemar([False] * 9 + [True] * 2 + [True] * 30, [True] * 9 + [False] * 2 + [True] * 30)
    law = scipy_stats.binom(11, 0.5)
    assert outcome.p_value == pytest.approx(2 * (law.cdf(2) - 0.5 * law.pmf(2)))
    rng = np.random.default_rng(13)
    hits, claims = 0, 0
    for _ in range(500):
        draw = rng.choice(4, size=50, p=[0.1, 0.1, 0.2, 0.6])
        outcome = mcnemar((draw == 0) | (draw == 3), (draw == 1) | (draw == 3))
        assert outcome.effect is not None
        hits += outcome.effect.contains(0.0)
        claims += outcome.verdict != "cannot tell"
    assert hits / 500 >= 0.93
    assert claims / 500 <= 0.07


def test_paired_auc_finds_the_better_score_and_keeps_quiet_otherwise() -> None:
    rng = np.random.default_rng(14)
    claims, found = 0, 0
    for _ in range(200):
        y = (np.arange(300) % 3 == 0).astype(float)
        signal = rng.normal(size=300) + y
        one, two = signal + rng.normal(size=300), signal + rng.normal(size=300)
        claims += paired_auc(y, one, two).verdict != "cannot tell"
        found += paired_auc(y, one, signal, alternative="better").verdict == "better"
    assert claims / 200 <= 0.085
    assert found / 200 >= 0.8


@pytest.mark.parametrize("rows", [13, 50, 3000])
def test_one_row_that_differs_decides_nothing_and_stays_finite(rows: int) -> None:
    outcome = paired_loss([1.0] + [0.0] * (rows - 1), [0.0] * rows)
    assert outcome.verdict == "cannot tell"
    assert outcome.effect is not None
    assert np.isfinite([outcome.effect.low, outcome.effect.high]).all()
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=PairedComparison) == outcome


def test_comparison_survives_json() -> None:
    outcome = paired_loss([1.0, 2.0, 4.0], [0.0, 0.5, 1.0])
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=PairedComparison) == outcome
    with pytest.raises(ValueError, match="margin must be"):
        paired_loss([1.0], [1.0], margin=-1)
