"""Sampling of curves: fewer points, the same shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

MetricPoint = tuple[int, int, float]


def sample(points: Sequence[MetricPoint], limit: int) -> list[MetricPoint]:
    """At most `limit` of `points` (`(step, at_ms, value)`, sorted): ends, and the extremes of each stretch between.

    A spike is never lost: of each stretch of neighbouring points the lowest and the highest stay. `limit` >= 4.
    Source of the idea: U. Jugel et al., M4: a visualization-oriented time series data aggregation, VLDB 2014.

    >>> sample([(0, 0, 0.0), (1, 0, 9.0), (2, 0, 0.0), (3, 0, 0.0), (4, 0, 0.0), (5, 0, 1.0)], 4)
    [(0, 0, 0.0), (1, 0, 9.0), (2, 0, 0.0), (5, 0, 1.0)]
    """
    if limit < 4:
        raise ValueError(f"a sample has at least 4 points, got {limit}")
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    stretches = (limit - 2) // 2
    chosen: list[MetricPoint] = [points[0]]
    for index in range(stretches):
        stretch = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        finite = [i for i, point in enumerate(stretch) if not math.isnan(point[2])] or [0]
        low = min(finite, key=lambda i: stretch[i][2])
        high = max(finite, key=lambda i: stretch[i][2])
        chosen.extend(stretch[i] for i in sorted({low, high}))
    chosen.append(points[-1])
    return chosen
