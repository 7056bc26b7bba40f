"""Data quality: is an input broken? Abrupt against the windows before *and* far from the reference. Pure.

Seasons move inputs slowly, and a summer lies outside a winter's range: each law therefore compares with what the
reference's own blocks do, and with the last good windows, and asks for a breach of both. A broken column stays broken
until it is good again, because only good windows join those that it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.monitoring.columns import (
    FEWEST_ROWS,
    ColumnProfile,
    ColumnSummary,
    Numbers,
    distance,
    is_known,
    known_values,
    numbers,
    summarise,
    texts,
)
from salus.monitoring.model.windows import Finding
from salus.monitoring.units import by_shape, by_values, example

HOUR_MS = 3_600_000
RECENT = 6
"""So many good windows are what a new one is compared with."""

_JUMP = 0.10
_STEPS = 2.0
_FAR_STEPS = 6.0
_LEAST = 0.1
_CONVERTED = 0.05
_ENOUGH_RECENT = 3
_STRANGE = 0.2
_OUT = 0.05


class Examined:
    """A window's columns: what they show, and what is broken in them."""

    def __init__(self) -> None:
        self.summaries: dict[str, ColumnSummary] = {}
        self.findings: list[Finding] = []

    @property
    def broken(self) -> tuple[str, ...]:
        """The broken columns."""
        return tuple(dict.fromkeys(finding.column for finding in self.findings))


def examine(
    frame: pl.DataFrame,
    profiles: Sequence[ColumnProfile],
    recent: Mapping[str, Sequence[ColumnSummary]],
    seen: Mapping[str, Sequence[float | str]],
) -> Examined:
    """Examines a window's live rows: columns `event_ms` and `in.<column>`.

    Args:
        recent: by column, its last good windows, oldest first.
        seen: by column, the values that good windows have shown beyond the reference's.
    """
    found = Examined()
    times = frame["event_ms"].to_numpy()
    for profile in profiles:
        name = f"in.{profile.name}"
        if name not in frame.columns or frame.height < FEWEST_ROWS:
            continue
        series = frame[name]
        known = known_values(profile, seen)
        summary = summarise(series, profile, known)
        found.summaries[profile.name] = summary
        last = list(recent.get(profile.name, ()))[-RECENT:]
        finding = _first_broken(series, profile, summary, last, known, times)
        if finding is not None:
            found.findings.append(finding)
    return found


def _first_broken(
    series: pl.Series,
    profile: ColumnProfile,
    summary: ColumnSummary,
    recent: Sequence[ColumnSummary],
    known: frozenset[float | str],
    times: NDArray[np.int64],
) -> Finding | None:
    """The first law that the column breaks: one cause is named once."""
    if (finding := _missing(series, profile, summary, recent, times)) is not None:
        return finding
    if summary.rows - summary.missing < FEWEST_ROWS:
        return None
    if profile.kind == "categorical":
        return _constant(profile, summary, recent, times) or _new_categories(
            series, profile, summary, recent, known, times
        )
    if profile.kind == "numeric":
        values = numbers(series)
        return (
            _constant(profile, summary, recent, times)
            or _converted_values(profile, summary, values, known, recent, times)
            or _converted_shape(profile, summary, recent, times)
            or _out_of_range(profile, values, recent, times)
        )
    return None


def _missing(
    series: pl.Series,
    profile: ColumnProfile,
    summary: ColumnSummary,
    recent: Sequence[ColumnSummary],
    times: NDArray[np.int64],
) -> Finding | None:
    before = max([profile.worst_missing, *(window.missing_ratio for window in recent)])
    limit = before + max(_JUMP, (1 - before) / 4 if before > _JUMP else 0.0)
    ratio = summary.missing_ratio
    if ratio <= limit:
        return None
    empty = np.isnan(numbers(series)) if profile.kind == "numeric" else texts(series).is_null().to_numpy()
    usual = _mean_of([window.missing_ratio for window in recent]) if recent else profile.missing_ratio
    return Finding(
        kind="missing",
        column=profile.name,
        text=f"`{profile.name}` is missing in {ratio:.0%} of the rows (before: {usual:.1%})",
        value=ratio,
        limit=limit,
        unit="share of rows",
        since_ms=onset_ms(empty, times),
    )


def _constant(
    profile: ColumnProfile, summary: ColumnSummary, recent: Sequence[ColumnSummary], times: NDArray[np.int64]
) -> Finding | None:
    before = max([profile.worst_top, *(window.top_ratio for window in recent)])
    limit = before + (1 - before) / 2
    if summary.top_ratio < 1.0 or before > 0.95 or len(profile.counts) < 2:
        return None
    shown = "" if not summary.quantiles else f" ({summary.quantiles[0]:.4g})"
    return Finding(
        kind="constant",
        column=profile.name,
        text=f"`{profile.name}` is stuck at one value{shown} (commonest value before: {before:.0%} of a window)",
        value=summary.top_ratio,
        limit=limit,
        unit="share of rows",
        since_ms=int(times[0]),
    )


def _new_categories(
    series: pl.Series,
    profile: ColumnProfile,
    summary: ColumnSummary,
    recent: Sequence[ColumnSummary],
    known: frozenset[float | str],
    times: NDArray[np.int64],
) -> Finding | None:
    before = max([profile.worst_unseen, *(window.unseen_ratio for window in recent)])
    limit = before + max(_STRANGE, (1 - before) / 4)
    if not known or summary.unseen_ratio <= limit:
        return None
    rows = texts(series)
    strange = rows.is_not_null() & ~rows.is_in(list(known)).fill_null(value=True)
    examples = ", ".join(repr(value) for value in rows.filter(strange).unique(maintain_order=True).head(3).to_list())
    return Finding(
        kind="new_categories",
        column=profile.name,
        text=f"`{profile.name}` has values never seen before in {summary.unseen_ratio:.0%} of the rows: {examples}",
        value=summary.unseen_ratio,
        limit=limit,
        unit="share of rows",
        since_ms=onset_ms(strange.to_numpy(), times),
    )


def _converted_values(
    profile: ColumnProfile,
    summary: ColumnSummary,
    values: Numbers,
    known: frozenset[float | str],
    recent: Sequence[ColumnSummary],
    times: NDArray[np.int64],
) -> Finding | None:
    shown = [window.unseen_ratio for window in recent]
    before = max(shown) if len(shown) >= _ENOUGH_RECENT else max([profile.worst_unseen, *shown])
    limit = min(0.9, before + _CONVERTED)
    if not known or summary.unseen_ratio <= limit:
        return None
    present = ~np.isnan(values)
    way = by_values(values[present], known, profile.common)
    if way is None:
        return None
    strange = present & ~is_known(np.nan_to_num(values), known)
    told = example(way, np.sort(values[strange]))
    return _unit_finding(profile, way.name, told, summary.unseen_ratio, limit, "share of values never seen before",
                         onset_ms(strange, times))  # fmt: skip


def _converted_shape(
    profile: ColumnProfile, summary: ColumnSummary, recent: Sequence[ColumnSummary], times: NDArray[np.int64]
) -> Finding | None:
    """A step from the windows before that is far larger than any between the reference's blocks."""
    now = np.array(summary.quantiles)
    usual = _usual(profile, recent)
    natural = max(profile.worst_step, _largest_step(profile, recent), _LEAST)
    step, far = distance(now, usual, profile.spread), distance(now, np.array(profile.quantiles), profile.spread)
    limit = _STEPS * natural
    if min(step / limit, far / (_STEPS * max(profile.worst_far, _LEAST))) <= 1 or len(profile.counts) < 3:
        return None
    way = by_shape(now, usual, profile.spread, profile.usual_step)
    if way is not None:
        return _unit_finding(profile, way.name, example(way, now), step, limit,
                             "standard deviations from the windows before", int(times[0]))  # fmt: skip
    limit = _FAR_STEPS * max(natural, 0.5)
    if min(step, far) <= limit or _inside(profile, float(np.median(now))):
        return None
    return Finding(
        kind="jump",
        column=profile.name,
        text=f"`{profile.name}` jumped by {step:.1f} standard deviations from one window to the next "
        f"(largest step in the reference: {profile.worst_step:.1f})",
        value=step,
        limit=limit,
        unit="standard deviations from the windows before",
        since_ms=int(times[0]),
    )


def _unit_finding(
    profile: ColumnProfile,
    conversion: str,
    shown: str,
    value: float,
    limit: float,
    unit: str,
    since_ms: int,
) -> Finding:
    return Finding(
        kind="unit",
        column=profile.name,
        text=f"`{profile.name}` arrives in other units ({conversion}): {shown}",
        value=value,
        limit=limit,
        unit=unit,
        since_ms=since_ms,
        conversion=conversion,
    )


def _out_of_range(
    profile: ColumnProfile, values: Numbers, recent: Sequence[ColumnSummary], times: NDArray[np.int64]
) -> Finding | None:
    if profile.low is None or profile.high is None:
        return None
    lows = [profile.low, *(window.low for window in recent if window.low is not None)]
    highs = [profile.high, *(window.high for window in recent if window.high is not None)]
    low, high = min(lows), max(highs)
    room = max(high - low, profile.spread)
    out = (values < low - room) | (values > high + room)
    ratio = float(out.sum()) / max(1, int((~np.isnan(values)).sum()))
    if ratio <= _OUT:
        return None
    return Finding(
        kind="out_of_range",
        column=profile.name,
        text=f"`{profile.name}` lies far outside [{low:.4g}, {high:.4g}] in {ratio:.0%} of the rows "
        f"(for example {values[out][0]:.4g})",
        value=ratio,
        limit=_OUT,
        unit="share of rows",
        since_ms=onset_ms(out, times),
    )


def onset_ms(bad: NDArray[np.bool_], times: NDArray[np.int64]) -> int:
    """When the bad rows began: the first bad row of the stretch that parts mostly good from mostly bad rows best.

    >>> onset_ms(np.array([False, True, False, False, True, True, True]), np.arange(7))
    4
    """
    gain = np.cumsum((bad.astype(np.float64) - 0.5)[::-1])[::-1]
    start = int(np.argmax(gain))
    later = np.flatnonzero(bad[start:])
    return int(times[start + int(later[0])]) if len(later) else int(times[0])


def hourly(ms: int) -> int:
    """The hour that `ms` lies in."""
    return ms - ms % HOUR_MS


def _usual(profile: ColumnProfile, recent: Sequence[ColumnSummary]) -> Numbers:
    sketches = [window.quantiles for window in recent if window.quantiles]
    return np.mean(np.array(sketches[-4:] or [profile.quantiles]), axis=0, dtype=np.float64)  # type: ignore[no-any-return]


def _largest_step(profile: ColumnProfile, recent: Sequence[ColumnSummary]) -> float:
    sketches = [np.array(window.quantiles) for window in recent if window.quantiles]
    return max((distance(b, a, profile.spread) for a, b in pairwise(sketches)), default=0.0)


def _inside(profile: ColumnProfile, centre: float) -> bool:
    if profile.centre_low is None or profile.centre_high is None:
        return True
    room = 2 * (profile.centre_high - profile.centre_low) + profile.spread
    return profile.centre_low - room <= centre <= profile.centre_high + room


def _mean_of(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
