"""Cron expressions against a minute-by-minute reading of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.kernel.cron import parse_cron
from salus.kernel.errors import InvalidInput


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:30", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:45:00", "2026-01-01T01:00:00"),
        ("0 6 * * mon", "2026-11-21T00:00:00", "2026-11-23T06:00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("30 9-17/4 * * 1-5", "2026-11-20T13:30:00", "2026-11-20T17:30:00"),
        ("0 0 13 * fri", "2026-11-01T00:00:00", "2026-11-06T00:00:00"),
        ("0 0 * * 7", "2026-11-16T00:00:00", "2026-11-22T00:00:00"),
        ("59 23 31 dec *", "2026-01-01T00:00:00", "2026-12-31T23:59:00"),
        ("5/20 0 * * *", "2026-01-01T00:05:00", "2026-01-01T00:25:00"),
        ("@monthly", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_the_next_moment(expression: str, after: str, expected: str) -> None:
    assert parse_cron(expression).next_after(ms(after)) == ms(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "1,,2 * * * *",
        "-1 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "¼ * * * *",
        "* * * foo *",
    ],
)
def test_an_unlawful_expression_is_refused(expression: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_cron(expression)
    assert caught.value.path == "$.cron"


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(st.one_of(st.just("*"), span), st.integers(1, 20)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    one = st.one_of(number.map(str), span, stepped)
    return st.one_of(st.just("*"), st.lists(one, min_size=1, max_size=3).map(",".join))


def chosen(text: str, low: int, high: int) -> set[int]:
    """The field's meaning, read naively: each number that some item matches."""
    found = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        first, last = (low, high) if body == "*" else (int(body.split("-")[0]), int(body.split("-")[-1]))
        found |= {n for n in range(low, high + 1) if first <= n <= last and (n - first) % int(step or 1) == 0}
    return found


@settings(max_examples=60, deadline=None)
@given(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7), st.integers(0, 10**9))
def test_it_agrees_with_a_walk_over_the_minutes(
    minute: str, hour: str, day: str, month: str, weekday: str, offset_s: int
) -> None:
    at = datetime.fromtimestamp(1_600_000_000 + offset_s, UTC)
    cron = parse_cron(f"{minute} {hour} {day} {month} {weekday}")
    next_ms = cron.next_after(round(at.timestamp() * 1000))
    either = not day.startswith("*") and not weekday.startswith("*")
    weekdays = {n % 7 for n in chosen(weekday, 0, 7)}

    def lawful(moment: datetime) -> bool:
        by_month_day = moment.day in chosen(day, 1, 31)
        by_weekday = (moment.weekday() + 1) % 7 in weekdays
        on_day = (by_month_day or by_weekday) if either else (by_month_day and by_weekday)
        return (
            on_day
            and moment.minute in chosen(minute, 0, 59)
            and moment.hour in chosen(hour, 0, 23)
            and moment.month in chosen(month, 1, 12)
        )

    following = datetime.fromtimestamp(next_ms / 1000, UTC)
    assert following > at
    assert lawful(following)
    walk = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3_000):
        if walk >= following:
            break
        assert not lawful(walk)
        assert not cron.names(walk)
        walk += timedelta(minutes=1)
