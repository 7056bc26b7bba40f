"""Windows in event time: how long they are, which ones are over, which ones are ripe. Pure."""

from __future__ import annotations

from salus.monitoring.model.watches import DAY_MS, HOUR_MS, SIZES_MS

ROWS_PER_WINDOW = 300
_BUSY_ROWS = 10 * ROWS_PER_WINDOW
_GRACE_RATIO = 0.02


def window_size_ms(rows: int, span_ms: int) -> int | None:
    """The shortest of 1 h, 6 h, 1 d, 1 w that holds about 300 rows at the rate seen; None: cannot tell yet.

    Traffic has days and nights: less than a day tells only of an endpoint so busy that an hour holds ten times as many.

    >>> window_size_ms(900, DAY_MS) == DAY_MS, window_size_ms(20_000, 2 * HOUR_MS) == HOUR_MS
    (True, True)
    >>> window_size_ms(100, 2 * HOUR_MS) is None
    True
    """
    if span_ms < HOUR_MS:
        return None
    hourly = rows * HOUR_MS / span_ms
    if span_ms < DAY_MS:
        return HOUR_MS if hourly >= _BUSY_ROWS else None
    for size_ms in SIZES_MS:
        if hourly * size_ms / HOUR_MS >= ROWS_PER_WINDOW:
            return size_ms
    return SIZES_MS[-1]


def window_start(event_ms: int, window_ms: int) -> int:
    """The start of the window that `event_ms` lies in.

    >>> window_start(1_500, 1_000)
    1000
    """
    return event_ms - event_ms % window_ms


def grace_ms(window_ms: int, grace_s: float | None) -> int:
    """How long after its end a window waits for late predictions: 2 % of its length where nothing is set."""
    return round(window_ms * _GRACE_RATIO) if grace_s is None else round(grace_s * 1000)


def is_closed(start_ms: int, window_ms: int, grace: int, watermark_ms: int) -> bool:
    """Whether no more predictions are expected."""
    return watermark_ms >= start_ms + window_ms + grace


def is_mature(
    *, end_ms: int, rows: int, labelled: int, mature_ratio: float, label_delay_ms: int | None, watermark_ms: int
) -> bool:
    """Whether the labels are there, or as late as nearly all labels ever were."""
    if rows and labelled >= mature_ratio * rows:
        return True
    return label_delay_ms is not None and watermark_ms >= end_ms + label_delay_ms
