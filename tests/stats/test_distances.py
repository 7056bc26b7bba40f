import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from salus.stats.distances import (
    bin_counts,
    category_counts,
    chi_squared,
    cramers_v,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    reference_edges,
    wasserstein_1,
    wasserstein_1_of_counts,
)

samples = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(samples, samples)
def test_wasserstein_agrees_with_scipy_and_ks_with_its_definition(old: list[float], new: list[float]) -> None:
    unit = np.std(old) or np.std(old + new)
    expected = scipy_stats.wasserstein_distance(old, new) / unit if unit else 0.0
    assert wasserstein_1(old, new) == pytest.approx(expected, abs=1e-9, rel=1e-6)
    gaps = [abs(np.mean(np.array(old) <= x) - np.mean(np.array(new) <= x)) for x in old + new]
    assert kolmogorov_smirnov(old, new) == pytest.approx(max(gaps))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_chi_squared_agrees_with_scipy(cells: list[tuple[int, int]]) -> None:
    table = np.array(cells).T
    if (table.sum(axis=1) == 0).any():
        with pytest.raises(ValueError, match="at least one row"):
            chi_squared(*table)
        return
    used = table[:, table.sum(axis=0) > 0]
    expected = scipy_stats.chi2_contingency(used, correction=False)
    statistic, degrees = chi_squared(*table)
    assert float(statistic) == pytest.approx(expected.statistic, abs=1e-9)
    assert float(degrees) == expected.dof
    assert 0 <= float(cramers_v(*table)) <= 1


@pytest.mark.parametrize(("cells", "n", "m"), [(5, 2000, 500), (100, 5000, 2000)])
def test_bias_is_gone_on_equal_distributions(cells: int, n: int, m: int) -> None:
    rng = np.random.default_rng(28)
    p = rng.dirichlet(np.full(cells, 5.0))
    old, new = rng.multinomial(n, p, size=400), rng.multinomial(m, p, size=400)
    plug_in = (cells - 1) * (1 / n + 1 / m)
    assert abs(psi(old, new).mean()) < 0.1 * plug_in
    assert abs(jensen_shannon(old, new).mean()) < 0.05 * plug_in / 8 / np.log(2)
    assert cramers_v(old, new).mean() < 0.03


def test_known_distances() -> None:
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    expected = float(np.sum((p - q) * np.log(p / q)))
    assert float(psi(1e7 * p, 1e7 * q)) == pytest.approx(expected, rel=1e-4)
    mixed = (p + q) / 2
    bits = float(np.sum(p * np.log2(p / mixed) + q * np.log2(q / mixed)) / 2)
    assert float(jensen_shannon(1e7 * p, 1e7 * q)) == pytest.approx(bits, rel=1e-4)
    rng = np.random.default_rng(29)
    values = rng.normal(5, 3, size=4000)
    assert wasserstein_1(values, values + 1.5) == pytest.approx(1.5 / values.std())
    assert wasserstein_1([2.0, 2.0], [2.0]) == 0.0
    assert wasserstein_1([2.0, 2.0], [3.0]) > 0


def test_wasserstein_of_counts_equals_that_of_values() -> None:
    rng = np.random.default_rng(30)
    place = np.array([0.0, 1.0, 3.0, 7.0])
    old, new = rng.multinomial(50, [0.25] * 4), rng.multinomial(30, [0.1, 0.2, 0.3, 0.4])
    expected = wasserstein_1(np.repeat(place, old), np.repeat(place, new))
    assert float(wasserstein_1_of_counts(old, new, place)) == pytest.approx(expected)
    assert wasserstein_1_of_counts(np.stack([old, new]), new, place).shape == (2,)


def test_missing_values_are_a_cell_of_their_own() -> None:
    names, counts = category_counts(["a", None, "a"], ["b", "a"])
    assert names == ["a", "b", None]
    assert counts.tolist() == [[2, 0, 1], [1, 1, 0]]
    values = np.concatenate([np.arange(100.0), np.full(10, np.nan)])
    edges = reference_edges(values, 4)
    assert bin_counts(values, edges).tolist() == [25, 25, 25, 25, 10]
    assert bin_counts([np.inf, -np.inf], edges).tolist() == [1, 0, 0, 1, 0]
    gone = bin_counts(np.full(50, np.nan), edges)
    assert float(psi(bin_counts(values, edges), gone)) > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=60), st.integers(1, 12))
def test_every_row_lands_in_one_bin(values: list[float], bins: int) -> None:
    edges = reference_edges(values, bins)
    assert (np.diff(edges) > 0).all()
    assert bin_counts(values, edges).sum() == len(values)


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same cells last, got shapes \(2,\) and \(3,\)"):
        psi([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite and at least 0"):
        jensen_shannon([1, -2], [1, 2])
