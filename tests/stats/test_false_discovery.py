import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from salus.stats.false_discovery import adjusted_p_values, discoveries


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.booleans())
def test_agrees_with_scipy(p_values: list[float], dependent: bool) -> None:
    expected = scipy_stats.false_discovery_control(p_values, method="by" if dependent else "bh")
    assert adjusted_p_values(p_values, dependent=dependent) == pytest.approx(expected)


def test_share_of_false_findings_stays_at_the_rate() -> None:
    rng = np.random.default_rng(31)
    shares = []
    for _ in range(300):
        p = rng.uniform(size=50)
        p[:10] = scipy_stats.norm.sf(rng.normal(3, 1, size=10))
        found = discoveries(p, 0.1)
        shares.append(found[10:].sum() / max(1, found.sum()))
    assert np.mean(shares) <= 0.1


def test_wrong_p_values_are_refused() -> None:
    assert len(adjusted_p_values([])) == 0
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5 - at p_values\[1\]"):
        discoveries([0.1, 1.5])
