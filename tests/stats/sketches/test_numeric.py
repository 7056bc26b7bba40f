import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.sketches.numeric import NumericProfile

columns = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]), max_size=60)


@settings(max_examples=80, deadline=None)
@given(columns, columns, st.integers(0, 5))
def test_merge_equals_the_profile_of_both_streams(one: list[float], two: list[float], missing: int) -> None:
    merged = NumericProfile().update(one, missing=missing).merge(NumericProfile().update(two))
    whole = NumericProfile().update(one + two, missing=missing)
    exact = ("n", "missing", "nan", "positive_inf", "negative_inf", "quantiles", "minimum", "maximum")
    assert [getattr(merged, name) for name in exact] == [getattr(whole, name) for name in exact]
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert merged.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-3)
    assert msgspec.json.decode(msgspec.json.encode(merged), type=NumericProfile) == merged


def test_moments_are_those_of_numpy_far_from_zero() -> None:
    values = np.random.default_rng(40).normal(1e6, 1.0, size=5000)
    profile = NumericProfile()
    for part in np.array_split(values, 50):
        profile = profile.update(part)
    assert profile.mean == pytest.approx(values.mean(), rel=1e-12)
    assert profile.standard_deviation == pytest.approx(values.std(ddof=1), rel=1e-6)


def test_every_row_is_accounted_for() -> None:
    profile = NumericProfile().update([1.0, np.nan, np.inf, -np.inf], missing=3)
    assert (profile.n, profile.finite, profile.missing_ratio) == (7, 1, pytest.approx(4 / 7))
    assert profile.standard_deviation is None
    assert NumericProfile().missing_ratio == 0.0
    with pytest.raises(ValueError, match="missing must be at least 0"):
        profile.update([], missing=-1)


def test_live_traffic_fits_on_one_core() -> None:
    rows = np.random.default_rng(41).lognormal(size=(20_000, 30))
    start = time.process_time()
    profiles = [NumericProfile().update(rows[:, column]) for column in range(30)]
    assert time.process_time() - start < 1
    assert all(profile.n == 20_000 for profile in profiles)
