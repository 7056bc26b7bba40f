import msgspec
import numpy as np
import pytest

from salus.stats.arrays import NotEnoughData
from salus.stats.sequential.window_change import WindowChangeDetector


def quiet_days(rng: np.random.Generator, number: int, level: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Skewed losses of days that differ by a skewed day effect and in size."""
    days = np.repeat(np.arange(number), rng.integers(100, 300, size=number))
    effect = rng.gamma(4.0, 0.02, size=number) - 0.08
    return rng.exponential(level + effect[days]), days


def learned(rng: np.random.Generator, number: int = 40) -> WindowChangeDetector:
    return WindowChangeDetector.learned(*quiet_days(rng, number), tolerance=0.005, windows_per_alarm=1000)


def test_false_alarms_stay_within_the_budget_with_a_learned_baseline() -> None:
    rng = np.random.default_rng(44)
    alarms = 0
    for _ in range(100):
        state = learned(rng)
        losses, days = quiet_days(rng, 100)
        for part in np.split(losses, np.flatnonzero(np.diff(days)) + 1):
            state = state.update_window(part)
        alarms += state.alarm
    assert alarms / 100 <= 0.12  # the budget allows 100 windows / 1,000


def test_a_harmful_change_is_found_within_a_few_windows_and_dated() -> None:
    rng = np.random.default_rng(45)
    delays, dates = [], []
    for _ in range(40):
        state = learned(rng)
        for level, number in ((0.4, 10), (0.55, 10)):
            losses, days = quiet_days(rng, number, level)
            for part in np.split(losses, np.flatnonzero(np.diff(days)) + 1):
                state = state.update_window(part)
        assert state.detection.alarmed_at is not None
        delays.append(state.detection.alarmed_at - 10)
        dates.append(state.detection.started_at)
    assert np.median(delays) <= 3
    assert abs(np.median(dates) - 10) <= 1


def test_variance_components_are_recovered_on_the_cautious_side() -> None:
    rng = np.random.default_rng(46)
    found = []
    for _ in range(500):
        days = np.repeat(np.arange(50), rng.integers(20, 60, size=50))
        state = WindowChangeDetector.learned(
            rng.normal(0, 0.3, size=50)[days] + rng.normal(0, 1, size=len(days)),
            days,
            tolerance=0.0,
            windows_per_alarm=100,
        )
        found.append((state.between_sd, state.within_sd, state.mean))
    between, within, mean = np.array(found).T
    assert 0.85 <= np.mean(between >= 0.3) <= 0.95
    assert between.mean() < 0.42
    assert within.mean() == pytest.approx(1, abs=0.02)
    assert 0.86 <= np.mean(mean >= 0) <= 0.94


def test_one_freak_window_raises_no_alarm_and_the_state_survives_json() -> None:
    state = learned(np.random.default_rng(47)).update_window([1e6] * 50)
    assert not state.alarm
    assert msgspec.json.decode(msgspec.json.encode(state), type=WindowChangeDetector) == state
    assert state.update_window([]) == state
    assert state.update_window([1e6] * 50).evidence >= 1


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(NotEnoughData, match="at least 5 windows"):
        WindowChangeDetector.learned([1.0, 2.0], ["a", "a"], tolerance=0.0, windows_per_alarm=100)
    with pytest.raises(ValueError, match="must not both be 0"):
        WindowChangeDetector(mean=0, between_sd=0, within_sd=0, tolerance=0, windows_per_alarm=100)
    with pytest.raises(ValueError, match="windows_per_alarm must be finite and above 1"):
        WindowChangeDetector(mean=0, between_sd=1, within_sd=0, tolerance=0, windows_per_alarm=1)
