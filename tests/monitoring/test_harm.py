"""Harm alarms soon, quiet streams and harmless movement stay within the budget."""

from __future__ import annotations

import numpy as np
import pytest

from salus.monitoring.diagnosis import leading_cause, split_of
from salus.monitoring.harm import Detectors
from salus.monitoring.model.watches import DAY_MS, WatchSettings
from salus.monitoring.reference import Profile, learn, normalised
from salus.monitoring.rows import Rows, labelled_rows
from salus.testing.clinic import QUIET, SIGNATURE, Truth, day_rows, reference_rows


def learned(seed: int) -> Profile:
    frame = normalised(reference_rows(np.random.default_rng(seed)), SIGNATURE)
    return learn(frame, SIGNATURE, window_ms=DAY_MS, settings=WatchSettings())


def rows_of(profile: Profile, rng: np.random.Generator, truth: Truth = QUIET, rows: int = 500) -> Rows:
    found = labelled_rows(normalised(day_rows(rng, 0, rows, truth), SIGNATURE), "binary", profile.curve)
    assert found is not None
    return found


def windows_to_alarm(profile: Profile, seed: int, truth: Truth, most: int) -> int | None:
    rng, detectors = np.random.default_rng(seed), profile.detectors
    for window in range(most):
        detectors = detectors.update(rows_of(profile, rng, truth))
        if detectors.alarms():
            return window + 1
    return None


def false_alarms(profile: Profile, rng: np.random.Generator, windows: int, truth: Truth) -> int:
    detectors: Detectors = profile.detectors
    alarms = 0
    for _ in range(windows):
        detectors = detectors.update(rows_of(profile, rng, truth))
        if detectors.alarms():
            alarms, detectors = alarms + 1, profile.detectors
    return alarms


def test_quiet_years_alarm_at_most_once_a_year() -> None:
    alarms = sum(false_alarms(learned(seed), np.random.default_rng(100 + seed), 365, Truth()) for seed in range(6))
    assert alarms <= 6


def test_harmless_movement_does_not_alarm() -> None:
    moved = Truth(warmth=30.0, centre=0.3)
    assert sum(false_alarms(learned(seed), np.random.default_rng(seed), 100, moved) for seed in range(4)) <= 1


@pytest.mark.parametrize("truth", [Truth(intercept=0.2, slope=0.7), Truth(slope=-0.5), Truth(intercept=0.5)])
def test_a_sudden_change_of_the_relation_alarms_within_two_windows(truth: Truth) -> None:
    delays = [windows_to_alarm(learned(seed), 50 + seed, truth, 10) for seed in range(8)]
    assert all(delay is not None for delay in delays)
    assert np.median([delay for delay in delays if delay is not None]) <= 2


def test_the_split_tells_harder_ground_from_another_relation() -> None:
    profile = learned(0)
    assert profile.curve is not None
    rng = np.random.default_rng(7)
    reference = rows_of(profile, rng, rows=10_000)
    blocks = np.arange(3_000) // 500
    ground = split_of(rows_of(profile, rng, Truth(centre=0.7), 3_000), reference, profile.curve, blocks.tolist())
    relation = split_of(rows_of(profile, rng, Truth(slope=0.3), 3_000), reference, profile.curve, blocks.tolist())
    assert ground is not None
    assert ground.moved is not None
    assert ground.relation is not None
    assert ground.moved.low > 0.02
    assert abs(ground.relation.value) < 0.03
    assert leading_cause(ground, "changed_relationship") == "shifted_inputs"
    assert relation is not None
    assert leading_cause(relation, "shifted_inputs") == "changed_relationship"


def test_a_split_is_refused_where_the_scores_do_not_overlap() -> None:
    profile = learned(1)
    assert profile.curve is not None
    rng = np.random.default_rng(8)
    reference = rows_of(profile, rng, rows=10_000)
    far = split_of(rows_of(profile, rng, Truth(centre=9.0), 1_000), reference, profile.curve, [0] * 1_000)
    assert far is not None
    assert far.effective_ratio < 0.15
