"""What the model may know of a departure: its own row, the weather of the hour before and its plane.

Pure functions on frames; the joins look back only, so that a row never sees what came after it left.
"""

from datetime import datetime, timedelta

import polars as pl

WEATHER_MAX_AGE = timedelta(hours=3)
"""Older weather counts as missing."""


def with_weather(departures: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    """`departures` with the last weather known at their origin when they left, null where it is too old.

    Both frames must be sorted by `event_time`; the rows and their order stay. Too old: `WEATHER_MAX_AGE`.
    """
    return departures.join_asof(
        weather,
        on="event_time",
        by="origin",
        strategy="backward",
        tolerance=WEATHER_MAX_AGE,
        check_sortedness=False,
    )


def with_plane(departures: pl.DataFrame, planes: pl.DataFrame) -> pl.DataFrame:
    """`departures` with the columns of their plane, null for planes that are not listed; rows stay."""
    return departures.join(planes, on="tailnum", how="left", maintain_order="left")


def labelled(frame: pl.DataFrame, *, at: datetime) -> pl.DataFrame:
    """The rows whose label had arrived before `at`: all that a training at that moment may use."""
    return frame.filter(pl.col("label_time") < at)


def feed_without_values(weather: pl.DataFrame, *, start: datetime, end: datetime) -> pl.DataFrame:
    """The upstream fault "nulls": every weather value is missing from `start` up to before `end`."""
    during = _during(start, end)
    return weather.with_columns(
        pl.when(~during).then(pl.col(name)) for name in weather.columns if name not in ("origin", "event_time")
    )


def feed_in_metric_units(weather: pl.DataFrame, *, start: datetime, end: datetime) -> pl.DataFrame:
    """The upstream fault "units": °C, m/s, mm and km from `start` up to before `end`."""
    metric = {
        "temp": (pl.col("temp") - 32) / 1.8,
        "wind_speed": pl.col("wind_speed") * 0.44704,
        "precip": pl.col("precip") * 25.4,
        "visib": pl.col("visib") * 1.609344,
    }
    during = _during(start, end)
    return weather.with_columns(
        pl.when(during).then(value).otherwise(pl.col(name)).alias(name) for name, value in metric.items()
    )


def _during(start: datetime, end: datetime) -> pl.Expr:
    return pl.col("event_time").is_between(start, end, closed="left")
