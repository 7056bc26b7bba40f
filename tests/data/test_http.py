"""Datasets over real HTTP, through the SDK."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from litestar import Litestar
from litestar.di import Provide

from salus.data import routes as data_routes
from salus.data.client import DataClient
from salus.data.expectations import InRange
from salus.features import routes as feature_routes
from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.schema import Column, Schema
from salus.registry import routes as registry_routes
from salus.sdk.session import path
from salus.testing.servers import RunningServer
from salus.web.access import provide_actor, provide_context

FLIGHTS = pl.DataFrame(
    {
        "at": [datetime(2013, 1, day, tzinfo=UTC) for day in range(1, 29)],
        "origin": ["EWR", "JFK"] * 14,
        "temp": [float(day) for day in range(28)],
        "seats": [None, *range(27)],
    }
)


@pytest.fixture
def client(server: RunningServer) -> DataClient:
    return DataClient(server.session)


def test_what_is_committed_can_be_read_at_each_version(client: DataClient) -> None:
    client.commit("flights", FLIGHTS.head(10), message="January", description="departures", event_time="at")
    client.commit("flights", FLIGHTS.tail(18))
    assert client.read("flights").equals(FLIGHTS)
    assert client.read("flights", version=1).equals(FLIGHTS.head(10))
    assert client.read("flights", columns=["temp"]).columns == ["temp"]
    detail = client.get("flights")
    assert (detail.dataset.description, detail.dataset.event_time) == ("departures", "at")
    assert [version.version for version in detail.versions] == [2, 1]
    assert client.version("flights", 1).message == "January"
    assert [dataset.name for dataset in client.list()] == ["flights"]


def test_inferred_expectations_bind_the_next_batch(client: DataClient) -> None:
    client.commit("flights", FLIGHTS, expectations="infer")
    client.commit("flights", FLIGHTS)
    bad = FLIGHTS.with_columns(temp=pl.lit(None, pl.Float64), seats=pl.lit(5_000))
    assert not client.validate("flights", bad).passed
    with pytest.raises(InvalidInput) as caught:
        client.commit("flights", bad)
    rules = [(found["rule"], found["column"]) for found in caught.value.details["violations"]]
    assert rules == [("not_null", "temp"), ("in_range", "seats")]
    assert "Nothing was written" in (caught.value.remedy or "")
    assert client.get("flights").dataset.latest_version == 2


def test_older_rows_are_read_under_the_newer_schema(client: DataClient) -> None:
    client.commit("flights", FLIGHTS.select("origin", "seats").head(2))
    grown = Schema(columns=(Column(name="seats", dtype="float"), Column(name="wind", dtype="float")))
    client.put("flights", schema=grown)
    client.commit("flights", pl.DataFrame({"seats": [0.5], "wind": [9.0]}))
    assert client.read("flights").rows() == [(None, None), (0.0, None), (0.5, 9.0)]


def test_any_dataframe_will_do(client: DataClient) -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.to_datetime(["2013-01-01", "2013-01-02"])
    client.commit("p", pandas.DataFrame({"x": [1.5, None], "n": [1, 2], "s": ["a", None], "at": times}))
    first = datetime(2013, 1, 1, tzinfo=UTC)
    assert client.read("p").rows() == [(1.5, 1, "a", first), (None, 2, None, first + timedelta(days=1))]
    client.commit("d", {"x": [1, 2]})
    client.commit("r", [{"x": 1}, {"x": 2}])
    assert client.read("d").equals(client.read("r"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expectations": [{"kind": "in_rnge", "column": "x"}]}, "expectations"),
        ({"expectations": [{"kind": "in_range", "colum": "x"}]}, "expectations"),
        ({"schema": {"columns": [{"name": "x", "dtype": "int32"}]}}, "schema"),
        ({"descripton": "x"}, "$"),
        ({"event_time": "x", "schema": {"columns": [{"name": "x", "dtype": "int"}]}}, "event_time"),
    ],
)
def test_a_malformed_declaration_names_the_field(server: RunningServer, body: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        server.session.call("PUT", path("datasets", "flights"), body=body, expect=dict)
    assert field in str(caught.value)


def test_names_and_versions_that_are_not_there(client: DataClient, server: RunningServer) -> None:
    with pytest.raises(NotFound):
        client.read("nothing")
    with pytest.raises(InvalidInput):
        client.commit("a/../b", FLIGHTS)
    with pytest.raises(InvalidInput) as caught:
        client.put("flights", schema=Schema(columns=()), expectations=[InRange(column="x", low=1)])
    assert caught.value.path == "$.expectations[0]"
    with pytest.raises(InvalidInput):
        server.session.call("GET", path("datasets", "flights", "versions"), query={"cursor": "x"})


def test_the_routes_are_described() -> None:
    app = Litestar(
        route_handlers=[data_routes.router, feature_routes.router, registry_routes.router],
        dependencies={"context": Provide(provide_context), "actor": Provide(provide_actor)},
    )
    paths = app.openapi_schema.to_schema()["paths"]
    for route in ("datasets/{name}/versions", "features/views/{name}/rows", "models/{name}/versions"):
        assert f"/api/v1/{route}" in paths
