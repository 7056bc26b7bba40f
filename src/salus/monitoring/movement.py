"""Movement: how far inputs and scores lie from the reference, and whether the reference does so by itself. Pure.

Movement never alarms: it is evidence in a diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from salus.monitoring.columns import ColumnProfile, ColumnSummary, distance
from salus.monitoring.model.windows import Movement
from salus.stats.arrays import NotEnoughData
from salus.stats.distances import jensen_shannon
from salus.stats.drift_tests import Calibration, calibrate

_FEWEST_ROWS = 30


def calibrated(profiles: Sequence[ColumnProfile], windows_per_alarm: float) -> Calibration | None:
    """What the reference's blocks show by themselves, the largest over all columns; None where they are too few."""
    counts = {
        profile.name: np.array(profile.counts)
        for profile in profiles
        if profile.kind != "time" and len(profile.counts) > 1 and np.array(profile.counts).sum(axis=1).min() > 0
    }
    if not counts:
        return None
    try:
        return calibrate(counts, jensen_shannon, window_blocks=1, windows_per_alarm=max(2.0, windows_per_alarm))
    except (NotEnoughData, ValueError):
        return None


def movements_of(
    profiles: Sequence[ColumnProfile], summaries: Mapping[str, ColumnSummary], calibration: Calibration | None
) -> tuple[Movement, ...]:
    """The columns that can be compared, the farthest beyond its natural range first."""
    found = [
        moved
        for profile in profiles
        if profile.name in summaries and (moved := _moved(profile, summaries[profile.name], calibration)) is not None
    ]
    return tuple(sorted(found, key=lambda moved: -(moved.excess if moved.excess is not None else moved.effect)))


def _moved(profile: ColumnProfile, summary: ColumnSummary, calibration: Calibration | None) -> Movement | None:
    if not profile.counts or not summary.counts or sum(summary.counts) < _FEWEST_ROWS:
        return None
    effect = float(jensen_shannon(np.array(profile.counts).sum(axis=0), np.array(summary.counts)))
    numeric = profile.kind == "numeric" and bool(summary.quantiles)
    apart = distance(np.array(summary.quantiles), np.array(profile.quantiles), profile.spread) if numeric else effect
    known = calibration is not None and profile.name in calibration.columns
    return Movement(
        column=profile.name,
        effect=effect,
        distance=apart,
        unit="standard deviations" if numeric else "bits",
        missing_change=summary.missing_ratio - profile.missing_ratio,
        excess=calibration.excess(profile.name, effect) if calibration is not None and known else None,
    )
