import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.sequential.change import ChangeDetector


def detector(steps_per_alarm: float = 500.0) -> ChangeDetector:
    return ChangeDetector(low=0.0, high=1.0, mean=0.2, tolerance=0.02, steps_per_alarm=steps_per_alarm)


def test_false_alarms_stay_within_the_budget_at_the_edge_of_tolerance() -> None:
    rng = np.random.default_rng(24)
    alarms = sum(detector(400).update((rng.uniform(size=200) < 0.22).astype(float)).alarm for _ in range(400))
    # At most 200 / 400 of the runs may alarm; a good detector stays well below.
    assert alarms / 400 <= 0.5
    windows = 0
    for _ in range(200):
        state = detector(1000)
        for _ in range(100):
            state = state.update_window((rng.uniform(size=50) < 0.22).astype(float))
        windows += state.alarm
    assert windows / 200 <= 0.13


def test_dependence_inside_a_window_is_paid_for_by_the_design_effect() -> None:
    rng = np.random.default_rng(25)
    honest, naive = 0, 0
    for _ in range(100):
        state = plain = detector(1000)
        for _ in range(60):
            values = np.full(200, rng.beta(2.2, 7.8))
            state = state.update_window(values, design_effect=200)
            plain = plain.update_window(values)
        honest += state.alarm
        naive += plain.alarm
    assert honest / 100 <= 0.1
    assert naive / 100 > 0.5


def test_a_harmful_change_is_found_soon_and_dated() -> None:
    rng = np.random.default_rng(26)
    delays, dates = [], []
    for _ in range(50):
        state = detector(1000)
        for window in range(40):
            rate = 0.2 if window < 30 else 0.3
            state = state.update_window((rng.uniform(size=500) < rate).astype(float))
        assert state.detection.alarmed_at is not None
        delays.append(state.detection.alarmed_at - 30)
        assert state.detection.started_at is not None
        dates.append(state.detection.started_at)
    assert min(delays) > 0
    assert np.median(delays) <= 2
    assert np.median(dates) == 30


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=80), st.integers(0, 80))
def test_batches_do_not_matter_and_the_state_survives_json(values: list[float], cut: int) -> None:
    whole = detector().update(values)
    first = detector().update(values[:cut])
    restored = msgspec.json.decode(msgspec.json.encode(first), type=ChangeDetector)
    assert restored == first
    parts = restored.update(values[cut:])
    assert (parts.n, parts.detection.steps) == (whole.n, whole.detection.steps)
    assert parts.detection.alarmed_at == whole.detection.alarmed_at
    assert parts.detection.starts == whole.detection.starts
    assert parts.evidence == pytest.approx(whole.evidence, rel=1e-6)
    assert parts.detection.log_peaks == pytest.approx(whole.detection.log_peaks, abs=1e-9)
    assert whole.alarm == (whole.evidence >= 1)


def test_recursion_is_the_shiryaev_roberts_one() -> None:
    values = np.random.default_rng(27).uniform(size=20)
    bets = 0.9 / 0.22 * 1.7 ** -np.arange(12)
    recursion = np.zeros(12)
    for value in values:
        recursion = (recursion + 1) * (1 + bets * (value - 0.22))
    assert detector(1e12).update(values).evidence == pytest.approx(recursion.mean() / 1e12)


def test_it_stops_at_its_alarm_until_restarted_and_takes_a_million_values() -> None:
    start = time.process_time()
    state = detector(1e6).update(np.full(1_000_000, 0.21))
    assert time.process_time() - start < 4
    assert not state.alarm
    loud = state.update([1.0] * 100)
    assert loud.alarm
    assert loud.update([0.0] * 100).detection.alarmed_at == loud.detection.alarmed_at
    fresh = loud.restarted(mean=0.4)
    assert (fresh.alarm, fresh.mean, fresh.n, fresh.evidence) == (False, 0.4, 0, 0.0)
    assert fresh.detection.started_at is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": 0.99, "tolerance": 0.02}, "strictly between low and high"),
        ({"tolerance": -0.1}, "tolerance must be at least 0"),
        ({"steps_per_alarm": 1.0}, "above 1, got 1.0"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChangeDetector(**{"low": 0.0, "high": 1.0, "mean": 0.2, "tolerance": 0.0, "steps_per_alarm": 9.0, **change})  # type: ignore[arg-type]


def test_values_below_the_bound_are_refused_and_above_it_clipped() -> None:
    with pytest.raises(ValueError, match=r"\[0, inf\], got -1.0 - at values\[0\]"):
        detector().update([-1.0])
    assert detector().update([7.0]) == detector().update([1.0])
    assert detector().update_window([]) == detector()
    with pytest.raises(ValueError, match="design_effect"):
        detector().update_window([0.1], design_effect=0.5)
