"""Cron expressions: five fields, in UTC.

`minute hour day-of-month month day-of-week`, each `*`, a number, a range `a-b`, a list `a,b`, any of them
with a step `/n`; months and days of the week also by their English three-letter names; Sunday is 0 or 7.
When both days are restricted, either one is enough. Source: IEEE Std 1003.1-2017, crontab; steps and names
as in P. Vixie's cron (1987).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from salus.kernel.errors import InvalidInput
from salus.kernel.structs import Record

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_ITEM = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")
_HORIZON_DAYS = 366 * 9
"""29 February may be eight years away (2096 to 2104)."""


class Cron(Record):
    """A parsed expression: it names the moments whose minute, hour, month and day are all in its sets."""

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def names(self, moment: datetime) -> bool:
        """Whether the (UTC) minute of `moment` is one of the expression's."""
        return moment.minute in self.minutes and moment.hour in self.hours and self._on(moment)

    def _on(self, day: datetime) -> bool:
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (in_month or in_week if self.either_day else in_month and in_week)

    def next_after(self, at_ms: int) -> int:
        """The first moment later than `at_ms`, in milliseconds since 1970.

        >>> parse_cron("30 6 * * mon-fri").next_after(0) // 60_000 == 6 * 60 + 30
        True
        """
        start = datetime.fromtimestamp(at_ms // 60_000 * 60, UTC) + timedelta(minutes=1)
        day = start.replace(hour=0, minute=0)
        for _ in range(_HORIZON_DAYS):
            if self._on(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        moment = day.replace(hour=hour, minute=minute)
                        if moment >= start:
                            return round(moment.timestamp() * 1000)
            day += timedelta(days=1)
        raise InvalidInput(
            f"the schedule {self.expression!r} never comes: no month of it has that day",
            path="$.cron",
            remedy="Check day of month against month.",
        )


def parse_cron(expression: str) -> Cron:
    """The expression's meaning.

    Raises:
        InvalidInput: it is not five lawful fields, or names no day that exists.
    """
    fields = _NICKNAMES.get(expression.strip().lower(), expression).lower().split()
    if len(fields) != 5:
        raise InvalidInput(
            f"a schedule has five fields (minute hour day month weekday), got {len(fields)}: {expression!r}",
            path="$.cron",
            remedy="For example '0 6 * * mon' is Mondays at 06:00 UTC.",
        )
    sets = [_field(text, *law) for text, law in zip(fields, _FIELDS, strict=True)]
    cron = Cron(
        expression=expression,
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=frozenset(sets[2]),
        months=frozenset(sets[3]),
        weekdays=frozenset(day % 7 for day in sets[4]),
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )
    cron.next_after(0)
    return cron


def _field(text: str, name: str, low: int, high: int, words: dict[str, int]) -> set[int]:
    chosen: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise _unlawful(name, item, f"'*', a number, a-b, or one of them with /n, from {low} to {high}")
        whole, first, last, step = match.groups()
        if whole == "*":
            start, end = low, high
        else:
            start = _number(first, name, low, high, words)
            end = _number(last, name, low, high, words) if last else high if step else start
        if end < start:
            raise _unlawful(name, item, "a range from low to high")
        if step is not None and int(step) < 1:
            raise _unlawful(name, item, "a step of at least 1")
        chosen.update(range(start, end + 1, int(step or 1)))
    return chosen


def _number(text: str, name: str, low: int, high: int, words: dict[str, int]) -> int:
    if text in words:
        return words[text]
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise _unlawful(name, text, f"a number from {low} to {high}")
    return int(text)


def _unlawful(name: str, got: str, law: str) -> InvalidInput:
    return InvalidInput(f"the {name} of a schedule must be {law}, got {got!r}", path="$.cron")
