"""Broken input is named and dated; seasons, storms and quiet days are not broken."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest

from salus.monitoring.model.watches import DAY_MS, WatchSettings
from salus.monitoring.quality import Examined, examine
from salus.monitoring.reference import Profile, State, learn, normalised
from salus.testing.clinic import FIRST_DAY, QUIET, SIGNATURE, Truth, day_rows, reference_rows

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def profile() -> Profile:
    frame = normalised(reference_rows(np.random.default_rng(0)), SIGNATURE)
    return learn(frame, SIGNATURE, window_ms=DAY_MS, settings=WatchSettings())


def live(rng: np.random.Generator, day: int, truth: Truth = QUIET) -> pl.DataFrame:
    return normalised(day_rows(rng, day, 500, truth), SIGNATURE)


def examined(profile: Profile, days: Iterable[pl.DataFrame]) -> list[Examined]:
    """The days one after the other, each good one joining what the next is compared with."""
    state, found = State(), []
    recent: dict[str, tuple[object, ...]] = dict(state.recent)
    for day in days:
        seen = examine(day, profile.columns, recent, {})  # type: ignore[arg-type]
        for name, summary in seen.summaries.items():
            if name not in seen.broken:
                recent[name] = (*recent.get(name, ()), summary)[-6:]
        found.append(seen)
    return found


def test_quiet_days_and_a_whole_year_of_seasons_are_not_broken(profile: Profile) -> None:
    rng = np.random.default_rng(1)
    quiet = [live(rng, day) for day in range(200)]
    seasons = [live(rng, day, Truth(warmth=10 + 15 * np.sin(day / 58), centre=day / 300)) for day in range(365)]
    assert [seen.findings for seen in examined(profile, quiet) if seen.findings] == []
    assert [seen.findings for seen in examined(profile, seasons) if seen.findings] == []


@pytest.mark.parametrize("hour", [0, 7, 12, 17])
def test_fahrenheit_that_comes_as_celsius_is_named_and_dated_to_the_hour(profile: Profile, hour: int) -> None:
    rng = np.random.default_rng(2)
    days = [live(rng, day) for day in range(4)] + [live(rng, 4, Truth(celsius=True, from_hour=hour))]
    (finding,) = examined(profile, days)[-1].findings
    assert (finding.kind, finding.column, finding.conversion) == ("unit", "temp", "°F -> °C")
    begun = (FIRST_DAY + 4) * DAY_MS + hour * HOUR_MS
    assert begun - HOUR_MS / 2 <= finding.since_ms <= begun + HOUR_MS / 2


@pytest.mark.parametrize(
    ("factor", "name"), [(60.0, "minute -> second"), (1000.0, "x -> 1000 x"), (0.44704, "mph -> m/s"), (0.01, "100 x")]
)
def test_a_column_without_distinct_values_that_is_rescaled_is_named(factor: float, name: str) -> None:
    rng = np.random.default_rng(3)

    def rows(day: int, by: float = 1.0) -> pl.DataFrame:
        return live(rng, day).with_columns(pl.Series("in.x", rng.gamma(20, 1, 500) * by))

    reference = pl.concat(rows(day) for day in range(-40, 0))
    known = learn(reference, SIGNATURE, window_ms=DAY_MS, settings=WatchSettings())
    found = examined(known, [rows(0), rows(1), rows(2, factor), rows(3)])
    assert [len(seen.findings) for seen in found] == [0, 0, 1, 0]
    assert name in (found[2].findings[0].conversion or "")


def test_missing_values_are_dated_and_end(profile: Profile) -> None:
    rng = np.random.default_rng(4)
    truths = [QUIET, Truth(unknown=0.9, from_hour=18), Truth(unknown=0.9), QUIET]
    days = [live(rng, day, truth) for day, truth in enumerate(truths)]
    found = examined(profile, days)
    assert [[finding.kind for finding in seen.findings] for seen in found] == [[], ["missing"], ["missing"], []]
    hours = (found[1].findings[0].since_ms % DAY_MS) / HOUR_MS
    assert 17.9 <= hours <= 19


def test_a_stuck_column_new_categories_and_a_sentinel_are_named(profile: Profile) -> None:
    rng = np.random.default_rng(5)
    days = [live(rng, day) for day in range(3)]
    stuck = live(rng, 3).with_columns(pl.lit(0.5).alias("in.x"))
    strange = live(rng, 4).with_columns(pl.lit("ZZ").alias("in.carrier"))
    sentinel = live(rng, 5).with_columns(
        pl.when(pl.int_range(pl.len()) % 4 == 0).then(-999.0).otherwise(pl.col("in.x")).alias("in.x")
    )
    found = examined(profile, [*days, stuck, strange, sentinel])
    kinds = [[(finding.kind, finding.column) for finding in seen.findings] for seen in found[3:]]
    assert kinds[0] == [("constant", "x")]
    assert ("constant", "carrier") in kinds[1] or ("new_categories", "carrier") in kinds[1]
    assert kinds[2] == [("out_of_range", "x")]
