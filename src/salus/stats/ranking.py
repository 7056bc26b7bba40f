"""Area under the ROC curve with DeLong's variance, for one model and for two on the same rows.

Source: E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 1988; in O(n log n) by X. Sun, W. Xu, "Fast implementation of
DeLong's algorithm", IEEE Signal Processing Letters 2014; over blocks by N. Obuchowski, "Nonparametric
analysis of clustered ROC curve data", Biometrics 1997.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from salus.stats.arrays import NotEnoughData, Vector, binary_labels, finite_vector, open_unit, same_length
from salus.stats.intervals import Estimate, normal_quantile, standard_error, student_quantile
from salus.stats.roots import boundary

FEW_OF_A_CLASS = 10


def auc(y: ArrayLike, score: ArrayLike, level: float = 0.95, *, blocks: ArrayLike | None = None) -> Estimate:
    """Chance that a random positive row scores above a random negative one (ties count half), with its
    interval.

    The interval is DeLong's on the logit scale, so it stays inside [0, 1]; where that variance is zero
    (perfect separation) or a class has fewer than 10 rows it is Newcombe's score interval instead
    ("Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2", method
    5, 2006). Raises NotEnoughData when a class is absent.

    >>> print(auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.75 [0.2272, 0.9668] (n=4)
    """
    area, influence, labels = auc_influence(y, score)
    open_unit(level, "level")
    error, units = standard_error(influence, blocks)
    positives = int(labels.sum())
    if error < 1e-12 or min(positives, len(labels) - positives) < FEW_OF_A_CLASS:
        low, high = _newcombe(area, positives, len(labels) - positives, level)
    else:
        critical = student_quantile(0.5 + level / 2, units - 1)
        centre, half = math.log(area / (1 - area)), critical * error / (area * (1 - area))
        low, high = _logistic(centre - half), _logistic(centre + half)
    return Estimate(value=area, low=low, high=high, n=len(labels), level=level)


def auc_influence(y: ArrayLike, score: ArrayLike) -> tuple[float, Vector, Vector]:
    """The area, each row's influence on it (structural components, shape (n,), summing to 0), the labels.

    Raises NotEnoughData when a class is absent.
    """
    labels, scores = binary_labels(y), finite_vector(score, "score")
    same_length(labels, scores, "y and score")
    positive = labels == 1.0
    positives, negatives = int(positive.sum()), int(len(labels) - positive.sum())
    if not positives or not negatives:
        raise NotEnoughData(
            f"AUC needs rows of both classes, got {positives} positive and {negatives} negative",
            n=len(labels),
            needed_n=len(labels) + 1,
        )
    within_class = np.empty(len(scores))
    within_class[positive] = midranks(scores[positive])
    within_class[~positive] = midranks(scores[~positive])
    above = midranks(scores) - within_class
    component = np.where(positive, above / negatives, 1.0 - above / positives)
    area = float(component[positive].mean())
    # Divisors as in DeLong's unbiased covariances, so that the squared influences sum to their variance.
    spread = [math.sqrt(size * max(size - 1, 1)) for size in (positives, negatives)]
    influence: Vector = (component - area) / np.where(positive, spread[0], spread[1])
    return area, influence, labels


def midranks(values: Vector) -> Vector:
    """Ranks 1..n; equal values share the middle of their ranks.

    >>> midranks(np.array([3.0, 1.0, 3.0]))
    array([2.5, 1. , 2.5])
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Vector = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _newcombe(area: float, positives: int, negatives: int, level: float) -> tuple[float, float]:
    z = normal_quantile(0.5 + level / 2)
    extra = (positives + negatives) / 2 - 1

    def excess(truth: float) -> float:
        spread = truth * (1 - truth) / (positives * negatives)
        spread *= 1 + extra * (1 - truth) / (2 - truth) + extra * truth / (1 + truth)
        return abs(truth - area) - z * math.sqrt(spread)

    return boundary(excess, area, 0.0), boundary(excess, area, 1.0)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
