import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from salus.stats.arrays import NotEnoughData
from salus.stats.ranking import auc, auc_influence


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60))
def test_auc_agrees_with_scikit_learn_under_ties(rows: list[tuple[bool, int]]) -> None:
    y, score = [row[0] for row in rows], [float(row[1]) for row in rows]
    if len(set(y)) < 2:
        with pytest.raises(NotEnoughData):
            auc(y, score)
        return
    estimate = auc(y, score)
    assert estimate.value == pytest.approx(roc_auc_score(y, score))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_variance_is_delongs() -> None:
    rng = np.random.default_rng(3)
    y = rng.uniform(size=80) < 0.3
    score = rng.normal(size=80) + y
    wins = (score[y][:, None] > score[~y]) + 0.5 * (score[y][:, None] == score[~y])
    expected = wins.mean(axis=1).var(ddof=1) / y.sum() + wins.mean(axis=0).var(ddof=1) / (~y).sum()
    _, influence, _ = auc_influence(y, score)
    assert np.square(influence).sum() == pytest.approx(expected)


@pytest.mark.parametrize(("n", "shift"), [(200, 1.0), (400, 0.0), (60, 2.0)])
def test_interval_covers(n: int, shift: float) -> None:
    rng = np.random.default_rng(4)
    truth = float(np.mean(rng.normal(size=400_000) + shift > rng.normal(size=400_000)))
    hits = 0
    for _ in range(400):
        y = np.arange(n) % 4 == 0
        hits += auc(y, rng.normal(size=n) + shift * y).contains(truth)
    assert 0.92 <= hits / 400 <= 0.985


def test_perfect_separation_is_not_called_certain() -> None:
    estimate = auc([0] * 15 + [1] * 15, list(range(30)))
    assert estimate.value == estimate.high == 1.0
    assert 0.8 < estimate.low < 0.99
