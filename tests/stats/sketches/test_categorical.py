from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.sketches.categorical import CategoricalProfile

words = st.lists(st.sampled_from([*"abcdefghij", None]), max_size=120)


@settings(max_examples=80, deadline=None)
@given(words, words, st.integers(1, 12))
def test_merge_keeps_the_bound_for_both_streams(one: list[str | None], two: list[str | None], capacity: int) -> None:
    empty = CategoricalProfile(capacity=capacity)
    merged = empty.update(one).merge(empty.update(two))
    truth = Counter(value for value in one + two if value is not None)
    assert merged.n == len(one) + len(two)
    assert merged.missing == (one + two).count(None)
    assert len(merged.counts) <= capacity
    assert merged.undercount <= sum(truth.values()) / (capacity + 1)
    for key, count in truth.items():
        kept = merged.counts.get(key, 0)
        assert kept <= count <= kept + merged.undercount
    assert merged.registers == empty.update(one + two).registers
    if merged.exact:
        assert merged == empty.update(one + two)
        assert merged.other == 0
    assert msgspec.json.decode(msgspec.json.encode(merged), type=CategoricalProfile) == merged


@pytest.mark.parametrize("distinct", [500, 3000, 40_000])
def test_distinct_values_are_estimated(distinct: int) -> None:
    values = [f"user-{i}" for i in range(distinct)]
    one = CategoricalProfile().update(values[: distinct * 2 // 3])
    two = CategoricalProfile().update(values[distinct // 3 :])
    estimate = one.merge(two).distinct()
    assert estimate == pytest.approx(distinct, rel=0.07)


def test_heavy_hitters_survive_a_long_tail() -> None:
    rng = np.random.default_rng(42)
    tail = [f"t{i}" for i in rng.integers(0, 20_000, size=50_000)]
    profile = CategoricalProfile(capacity=100)
    for part in range(10):
        profile = profile.update([*tail[part * 5000 : (part + 1) * 5000], *["JFK"] * 1000])
    assert max(profile.counts, key=lambda key: profile.counts[key]) == "JFK"
    assert 10_000 - profile.undercount <= profile.counts["JFK"] <= 10_000
    assert not profile.exact
    assert CategoricalProfile().update(["a"] * 3).distinct() == 1
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        CategoricalProfile(capacity=0)
