import numpy as np
import pytest

from salus.stats.arrays import NotEnoughData
from salus.stats.sequential.quantiles import quantile_difference, quantile_interval
from salus.stats.sketches.quantile import QuantileSketch


@pytest.mark.parametrize("discrete", [False, True])
def test_looking_all_the_time_misses_at_most_alpha(discrete: bool) -> None:
    rng = np.random.default_rng(22)
    truth = 3.0 if discrete else float(np.exp(1.6448536269514722))
    missed = 0
    for _ in range(150):
        # P(X <= 2) = 0.9 and P(X <= 3) = 0.97: the 0.95 quantile is 3.
        values = rng.choice([1.0, 2.0, 3.0, 4.0], p=[0.5, 0.4, 0.07, 0.03], size=2000)
        sketch = QuantileSketch()
        if not discrete:
            values = rng.lognormal(size=2000)
        for start in range(0, 2000, 200):
            sketch = sketch.update(values[start : start + 200])
            if not quantile_interval(sketch, 0.95, 0.1).contains(truth):
                missed += 1
                break
    assert missed / 150 <= 0.12


def test_a_slow_canary_is_seen() -> None:
    rng = np.random.default_rng(23)
    fast = QuantileSketch().update(rng.lognormal(3, 0.5, size=20_000))
    slow = QuantileSketch().update(rng.lognormal(3.4, 0.5, size=1500))
    same = QuantileSketch().update(rng.lognormal(3, 0.5, size=1500))
    assert quantile_difference(fast, slow, 0.95).low > 0
    assert quantile_difference(fast, same, 0.95).contains(0.0)


def test_too_few_values_say_how_many_are_needed() -> None:
    with pytest.raises(NotEnoughData) as caught:
        quantile_interval(QuantileSketch().update([1.0] * 20), 0.95)
    needed = caught.value.needed_n
    assert 50 < needed < 400
    assert quantile_interval(QuantileSketch().update(np.arange(1, needed + 1)), 0.95).n == needed
