"""The online side's law: of each key the newest rows are kept, and a look-up takes the newest of its past. Pure.

It is the law of the point-in-time join (`salus.features.join`) for one row at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def newest_at(rows: Iterable[tuple[int, T]], at_ms: int, ttl_ms: int | None) -> T | None:
    """Of rows (event time, value) the value with the newest event time at or before `at_ms`; None where there is
    none, or where it is older than `ttl_ms`. Of equal event times the last row counts.

    >>> newest_at([(10, "a"), (20, "b")], 19, None), newest_at([(10, "a")], 19, 5)
    ('a', None)
    """
    best: tuple[int, T] | None = None
    for event_ms, value in rows:
        if event_ms <= at_ms and (best is None or event_ms >= best[0]):
            best = (event_ms, value)
    if best is None or (ttl_ms is not None and at_ms - best[0] > ttl_ms):
        return None
    return best[1]


def moments_kept(held: Iterable[int], incoming: Iterable[int], depth: int) -> set[int]:
    """The newest `depth` event times of those held and those that come: newer wins, whatever the order of arrival.

    >>> sorted(moments_kept([10, 20], [15, 5], 2))
    [15, 20]
    """
    return set(sorted({*held, *incoming}, reverse=True)[:depth])


def plan(
    held: Mapping[str, Sequence[int]], incoming: Mapping[str, Sequence[int]], depth: int
) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    """What a push means for the online state, by key: the event times to write and the ones to drop."""
    write: dict[str, set[int]] = {}
    drop: dict[str, set[int]] = {}
    for key, moments in incoming.items():
        kept = moments_kept(held.get(key, ()), moments, depth)
        if wanted := kept.intersection(moments):
            write[key] = wanted
        if gone := set(held.get(key, ())) - kept:
            drop[key] = gone
    return write, drop
