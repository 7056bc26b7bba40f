import numpy as np
import pytest

from salus.stats.arrays import NotEnoughData
from salus.stats.calibration import expected_calibration_error


def test_a_calibrated_model_is_called_calibrated() -> None:
    rng = np.random.default_rng(5)
    lows, values = [], []
    for _ in range(200):
        p = rng.uniform(size=1000)
        estimate = expected_calibration_error(rng.uniform(size=1000) < p, p)
        lows.append(estimate.low)
        values.append(estimate.value)
    assert np.mean(np.array(lows) == 0) >= 0.93
    assert np.mean(values) < 0.02  # the plug-in value averages 0.036 here


def test_interval_covers_a_known_miscalibration() -> None:
    rng = np.random.default_rng(6)
    hits, values = 0, []
    for _ in range(200):
        p = rng.uniform(0.2, 0.8, size=2000)
        estimate = expected_calibration_error(rng.uniform(size=2000) < p + 0.1, p)
        hits += estimate.contains(0.1)
        values.append(estimate.value)
    assert hits / 200 >= 0.94
    assert np.mean(values) == pytest.approx(0.1, abs=0.005)


def test_too_few_rows_for_the_bins() -> None:
    with pytest.raises(NotEnoughData, match="at least 50 rows, got n=2"):
        expected_calibration_error([0, 1], [0.5, 0.5])
