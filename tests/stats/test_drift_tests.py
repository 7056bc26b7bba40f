import msgspec
import numpy as np
import pytest
from scipy import stats as scipy_stats

from salus.stats.arrays import NotEnoughData
from salus.stats.distances import jensen_shannon, wasserstein_1_of_counts
from salus.stats.drift_tests import (
    Calibration,
    calibrate,
    column_drift,
    kolmogorov_smirnov_p_value,
    upper_quantile,
)


def days(rng: np.random.Generator, number: int, columns: int, cells: int = 8) -> dict[str, np.ndarray]:
    """Counts of correlated days: each day has its own mix around the common one."""
    return {
        f"c{c}": np.stack([rng.multinomial(800, rng.dirichlet(np.full(cells, 60.0))) for _ in range(number)])
        for c in range(columns)
    }


@pytest.mark.parametrize("window", [1, 7])
def test_quiet_windows_alarm_within_the_budget_over_all_columns(window: int) -> None:
    rng = np.random.default_rng(32)
    alarmed = []
    for trial in range(15):
        reference = days(rng, 60, 6)
        quiet = calibrate(reference, window_blocks=window, windows_per_alarm=100, seed=trial)
        assert quiet.measured_ratio <= 0.02
        fresh = days(rng, 40 * window, 6)
        for w in range(40):
            effects = {
                c: float(jensen_shannon(reference[c].sum(axis=0), fresh[c][w * window : (w + 1) * window].sum(axis=0)))
                for c in reference
            }
            alarmed.append(bool(quiet.alarms(effects)))
    assert np.mean(alarmed) <= 0.025


def test_a_shift_is_found_and_named() -> None:
    rng = np.random.default_rng(33)
    reference = days(rng, 60, 6)
    quiet = calibrate(reference, window_blocks=1, windows_per_alarm=1000)
    moved = rng.multinomial(800, np.linspace(0.2, 1.8, 8) / 8)
    effects = dict.fromkeys(reference, 0.0) | {"c3": float(jensen_shannon(reference["c3"].sum(axis=0), moved))}
    assert quiet.alarms(effects) == ["c3"]
    assert effects["c3"] > quiet.threshold("c3")
    assert msgspec.json.decode(msgspec.json.encode(quiet), type=Calibration) == quiet


def test_each_column_may_have_its_own_distance() -> None:
    rng = np.random.default_rng(34)
    reference = days(rng, 40, 2)
    place = np.arange(8.0)
    quiet = calibrate(
        reference,
        {"c0": jensen_shannon, "c1": lambda old, new: wasserstein_1_of_counts(old, new, place)},
        window_blocks=2,
        windows_per_alarm=100,
    )
    assert quiet.threshold("c1") > quiet.threshold("c0") > 0
    again = calibrate(reference, window_blocks=2, windows_per_alarm=100, seed=5)
    assert again == calibrate(reference, window_blocks=2, windows_per_alarm=100, seed=5)


def test_tail_beyond_the_sample_errs_to_the_high_side() -> None:
    rng = np.random.default_rng(35)
    rates = {}
    for size in (60, 1000):
        limits = [upper_quantile(rng.normal(size=size), 0.001) for _ in range(200)]
        rates[size] = float(np.mean(scipy_stats.norm.sf(limits)))
    assert rates[60] <= 0.002
    assert 0.00005 <= rates[1000] <= 0.0015
    assert upper_quantile([1.0] * 50, 0.001) == 1.0


def test_column_drift_gives_effect_and_evidence() -> None:
    rng = np.random.default_rng(36)
    old, new = rng.normal(10, 2, size=3000), rng.normal(11, 2, size=2000)
    drift = column_drift(old, new, "numeric")
    assert drift.distance == pytest.approx(0.5, abs=0.08)
    assert drift.p_value < 1e-6
    same = column_drift(old, rng.normal(10, 2, size=2000), "numeric")
    assert same.distance < 0.1
    nulls = column_drift(old, np.full(100, np.nan), "numeric")
    assert nulls.missing_change == 1.0
    assert nulls.psi > 1
    assert (nulls.distance, nulls.p_value) == (0.0, 1.0)
    words = column_drift(["a", "b", None] * 50, ["a", "b", "z"] * 50, "categorical")
    assert words.missing_change == pytest.approx(-1 / 3)
    assert words.distance > 0.1
    assert words.p_value < 1e-6


def test_p_values_are_uniform_without_drift() -> None:
    rng = np.random.default_rng(37)
    numeric = [column_drift(rng.normal(size=400), rng.normal(size=200), "numeric").p_value for _ in range(300)]
    words = [
        column_drift(rng.choice(list("abcd"), 400), rng.choice(list("abcd"), 200), "categorical").p_value
        for _ in range(200)
    ]
    assert 0.02 <= np.mean(np.array(numeric) < 0.05) <= 0.085
    assert 0.02 <= np.mean(np.array(words) < 0.05) <= 0.09
    exact = scipy_stats.ks_2samp(np.arange(200.0), np.arange(200.0) + 25)
    assert kolmogorov_smirnov_p_value(exact.statistic, 200, 200) == pytest.approx(exact.pvalue, rel=0.1)


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(NotEnoughData, match="at least 28 reference blocks, got 10"):
        calibrate({"a": np.ones((10, 3))}, window_blocks=7)
    with pytest.raises(ValueError, match="the same blocks"):
        calibrate({"a": np.ones((10, 3)), "b": np.ones((9, 3))}, window_blocks=1)
    with pytest.raises(NotEnoughData, match="rows on both sides"):
        column_drift([], [1.0], "numeric")
    with pytest.raises(ValueError, match="'numeric' or 'categorical', got 'text'"):
        column_drift([1.0], [1.0], "text")  # type: ignore[arg-type]
