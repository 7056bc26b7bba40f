"""The flights' tables, features and model: what is known when, and that ONNX says what the pipeline says."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.pipeline import Pipeline

from salus.demo.flights import data, features, model

MARCH = datetime(2013, 3, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def departures() -> pl.DataFrame:
    return data.departures()


@pytest.fixture(scope="module")
def frame(departures: pl.DataFrame) -> pl.DataFrame:
    return features.with_plane(features.with_weather(departures, data.weather()), data.planes())


@pytest.fixture(scope="module")
def january_and_february(frame: pl.DataFrame) -> pl.DataFrame:
    return features.labelled(frame, at=MARCH)


@pytest.fixture(scope="module")
def pipeline(january_and_february: pl.DataFrame) -> Pipeline:
    return model.train(january_and_february)


def test_every_departure_of_the_year_is_there_once_in_order(departures: pl.DataFrame) -> None:
    assert departures.height == 336_776 - 8_255
    assert departures["flight_id"].is_unique().all()
    assert departures["event_time"].is_sorted()
    assert departures["late"].null_count() == 1_175


def test_a_known_flight_reads_as_it_was(departures: pl.DataFrame) -> None:
    """United 1545 on New Year's Day: scheduled 5:15, left 5:17, 227 minutes in the air, 11 minutes late."""
    row = departures.row(by_predicate=pl.col("flight_id") == "2013-01-01/UA1545/EWR", named=True)
    assert row["event_time"] == datetime(2013, 1, 1, 10, 17, tzinfo=UTC)
    assert row["label_time"] == row["event_time"] + timedelta(minutes=227 + data.TAXI_MIN)
    assert (row["late"], row["dep_delay"], row["minute_of_day"], row["weekday"]) == (False, 2.0, 315.0, 2.0)
    assert row["scheduled_min"] == (8 * 60 + 19) - (5 * 60 + 15) + 60  # Houston is one hour behind


def test_labels_come_after_the_departure_and_within_a_day(departures: pl.DataFrame) -> None:
    wait = (departures["label_time"] - departures["event_time"]).drop_nulls()
    assert wait.len() == departures["late"].count()
    assert timedelta(minutes=45) < wait.min() < wait.max() < timedelta(hours=13)


def test_scheduled_minutes_fit_the_distance(departures: pl.DataFrame) -> None:
    speed_mph = departures["distance"] / (departures["scheduled_min"] / 60)
    assert speed_mph.min() >= 60
    assert speed_mph.max() < 500  # with summer time forgotten, San Juan comes out at 600


def test_weather_holds_no_impossible_wind_and_one_row_an_hour() -> None:
    weather = data.weather()
    assert weather["wind_speed"].max() < 60
    assert not weather.select("origin", "event_time").is_duplicated().any()


def test_weather_is_the_last_one_known_at_departure(departures: pl.DataFrame) -> None:
    weather = data.weather().with_columns(known_at="event_time")
    joined = features.with_weather(departures, weather)
    age = (joined["event_time"] - joined["known_at"]).drop_nulls()
    assert joined["flight_id"].equals(departures["flight_id"])
    assert timedelta(0) <= age.min()
    assert age.max() <= features.WEATHER_MAX_AGE
    assert age.len() > 0.99 * departures.height


def test_weather_of_the_future_changes_nothing(departures: pl.DataFrame) -> None:
    weather = data.weather()
    later = weather.with_columns(visib=pl.when(pl.col("event_time") < MARCH).then("visib").otherwise(pl.lit(-1.0)))
    before = departures.filter(pl.col("event_time") < MARCH)
    assert features.with_weather(before, later).equals(features.with_weather(before, weather))


def test_planes_add_columns_but_no_rows(frame: pl.DataFrame, departures: pl.DataFrame) -> None:
    assert frame["flight_id"].equals(departures["flight_id"])
    assert 0.8 < frame["seats"].count() / frame.height < 0.9


def test_labelled_holds_arrived_labels_only(january_and_february: pl.DataFrame) -> None:
    assert january_and_february["label_time"].max() < MARCH
    assert january_and_february["late"].null_count() == 0
    assert 49_000 < january_and_february.height < 50_100


@pytest.mark.parametrize("fault", [features.feed_without_values, features.feed_in_metric_units])
def test_a_fault_touches_its_days_only(fault: object) -> None:
    weather, end = data.weather(), MARCH + timedelta(days=3)
    assert callable(fault)
    broken = fault(weather, start=MARCH, end=end)
    outside = ~pl.col("event_time").is_between(MARCH, end, closed="left")
    assert broken.columns == weather.columns
    assert broken.filter(outside).equals(weather.filter(outside))
    assert not broken.filter(~outside).equals(weather.filter(~outside))


def test_the_model_ranks_flights_it_has_not_seen(frame: pl.DataFrame, pipeline: Pipeline) -> None:
    march = frame.filter(pl.col("event_time").dt.month() == 3, pl.col("late").is_not_null())
    p = model.probability(pipeline, march)
    late = march["late"].to_numpy()
    log_loss = -np.mean(np.log(np.where(late, p, 1 - p)))
    assert 0.2 < log_loss < 0.26  # the base rate alone gives 0.54


def test_onnx_agrees_with_the_pipeline_with_gaps_and_unknown_codes(frame: pl.DataFrame, pipeline: Pipeline) -> None:
    rows = frame.sample(2_000, seed=1).with_columns(
        carrier=pl.lit("??"), visib=pl.lit(None, pl.Float64), seats=pl.lit(None, pl.Float64)
    )
    rows = pl.concat([rows, frame.sample(2_000, seed=2)])
    graph = model.to_onnx(pipeline, rows)
    np.testing.assert_allclose(model.run_onnx(graph, rows), model.probability(pipeline, rows), atol=1e-4)
    assert model.run_onnx(graph, rows.head(1)).shape == (1,)


def test_training_refuses_what_it_cannot_learn_from(january_and_february: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="needs the columns visib"):
        model.train(january_and_february.drop("visib"))
    with pytest.raises(ValueError, match="late must be known"):
        model.train(january_and_february.head(10).with_columns(late=pl.lit(None, pl.Boolean)))
