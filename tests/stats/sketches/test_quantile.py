import math
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.stats.arrays import NotEnoughData
from salus.stats.sketches.quantile import BUCKETS, QuantileSketch

numbers = st.lists(st.floats(-1e9, 1e9), max_size=80)


@settings(max_examples=80, deadline=None)
@given(numbers, numbers)
def test_merge_equals_the_sketch_of_both_streams(one: list[float], two: list[float]) -> None:
    merged = QuantileSketch().update(one).merge(QuantileSketch().update(two))
    assert merged == QuantileSketch().update(one + two)
    assert merged == QuantileSketch().update(two).update(one)
    assert merged.n == len(one) + len(two)
    assert msgspec.json.decode(msgspec.json.encode(merged), type=QuantileSketch) == merged


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=80), st.floats(0, 1))
def test_quantile_is_within_its_accuracy(values: list[float], probability: float) -> None:
    sketch = QuantileSketch().update(values)
    rank = max(1, math.ceil(probability * len(values)))
    truth = sorted(values)[rank - 1]
    assert sketch.quantile(probability) == pytest.approx(truth, rel=1.0001 * sketch.accuracy, abs=1e-12)
    low, high = sketch.rank_bracket(rank)
    assert low - 1e-9 * abs(low) - 1e-12 <= truth <= high + 1e-9 * abs(high) + 1e-12


def test_memory_is_bounded_and_accuracy_says_what_is_left() -> None:
    rng = np.random.default_rng(38)
    values = np.exp(rng.uniform(-25, 300, size=200_000)) * rng.choice([-1, 1], size=200_000)
    sketch = QuantileSketch()
    for part in np.array_split(values, 7):
        sketch = sketch.update(part)
    assert len(sketch.codes) <= BUCKETS
    assert 0.01 < sketch.accuracy < 0.2
    for probability in (0.01, 0.3, 0.9):
        truth = np.sort(values)[math.ceil(probability * len(values)) - 1]
        assert sketch.quantile(probability) == pytest.approx(truth, rel=1.0001 * sketch.accuracy)
    assert sketch == QuantileSketch().update(values)


def test_a_million_values_within_a_second_and_a_histogram_on_request() -> None:
    values = np.random.default_rng(39).normal(size=1_000_000)
    start = time.process_time()
    sketch = QuantileSketch().update(values)
    assert time.process_time() - start < 1
    counts = sketch.histogram([-1.0, 0.0, 1.0])
    assert counts.sum() == 1_000_000
    assert counts / 1e6 == pytest.approx([0.1587, 0.3413, 0.3413, 0.1587], abs=0.005)


def test_empty_and_wrong() -> None:
    with pytest.raises(NotEnoughData):
        QuantileSketch().quantile(0.5)
    with pytest.raises(ValueError, match="got 3 of 1"):
        QuantileSketch().update([1.0]).rank_bracket(3)
    with pytest.raises(ValueError, match="finite, got inf"):
        QuantileSketch().update([float("inf")])
