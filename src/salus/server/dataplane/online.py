"""Online features in this process's memory, fed by the control plane's changes; looked up as of a moment.

For each view and key the last few values (as many as the view's depth) are kept in order of event time, so that a
replay of the past gets the value that was the newest then and never one from its future.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping
from typing import Any

from salus.features.model import DEFAULT_DEPTH, OnlineChanges, entity_key


class OnlineFeatures:
    """The values by view and key. Written by one thread, read by another: an entry is replaced, never changed."""

    def __init__(self) -> None:
        self._views: dict[str, dict[str, tuple[tuple[int, ...], tuple[dict[str, Any], ...]]]] = {}
        self.rows = 0

    def apply(self, changes: OnlineChanges) -> None:
        """Takes changes in. A second value for the same event time replaces the first."""
        for row in changes.rows:
            entries = self._views.setdefault(row.view, {})
            key = entity_key(row.key)
            held = entries.get(key)
            if held is None:
                self.rows += 1
            entries[key] = _with(held, row.event_ms, row.values, changes.depths.get(row.view, DEFAULT_DEPTH))

    def find(self, view: str, key: str, event_ms: int, ttl_s: float | None) -> Mapping[str, Any] | None:
        """The newest values at or before `event_ms`, or None where there are none or they are older than `ttl_s`."""
        entries = self._views.get(view)
        held = entries.get(key) if entries is not None else None
        if held is None:
            return None
        moments, values = held
        place = bisect_right(moments, event_ms) - 1
        if place < 0 or (ttl_s is not None and event_ms - moments[place] > ttl_s * 1000):
            return None
        return values[place]


def _with(
    held: tuple[tuple[int, ...], tuple[dict[str, Any], ...]] | None,
    event_ms: int,
    values: dict[str, Any],
    depth: int,
) -> tuple[tuple[int, ...], tuple[dict[str, Any], ...]]:
    if held is None:
        return (event_ms,), (values,)
    by_moment = dict(zip(*held, strict=True))
    moments = list(held[0])
    if event_ms not in by_moment:
        insort(moments, event_ms)
    by_moment[event_ms] = values
    kept = moments[-depth:]
    return tuple(kept), tuple(by_moment[moment] for moment in kept)
