"""Views, pushes and the online state through the service functions, on both databases."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest

from salus.data.tables import write_arrow
from salus.features import ingest, service
from salus.features.model import OnlineRead, PutService, PutView, ServiceView
from salus.kernel import ledger
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.schema import Column
from salus.kernel.segments import Segments
from salus.testing.fixtures import row_counts

HOUR_MS = 3_600_000

WEATHER = PutView(
    entity="airport",
    keys=("origin",),
    event_time="at",
    features=(Column(name="temp", dtype="float"), Column(name="sky", dtype="string")),
    ttl_s=3600,
    online_depth=3,
)


def rows(*given):
    """(origin, event_ms, temp, sky) as a table."""
    schema = {"origin": pl.String, "at": pl.Int64, "temp": pl.Float64, "sky": pl.String}
    return pl.DataFrame(given, schema=schema, orient="row").with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC")))


@pytest.fixture
def segments(blobs):
    return Segments(blobs)


@pytest.fixture
def weather(database, actor):
    """The view `weather`."""
    return database.write(lambda tx: service.put_view(tx, actor, "weather", WEATHER))


@pytest.fixture
def push(database, segments, actor, weather):
    def push_(frame, key=None, body=None):
        return ingest.push(database, segments, actor, "weather", body or write_arrow(frame), key)

    return push_


@pytest.fixture
def online(database, actor):
    def online_(at_ms, *keys):
        body = OnlineRead(view="weather", keys=[[key] for key in keys], at_ms=at_ms)
        return database.read(lambda r: service.read_online(r, actor, body))

    return online_


def test_a_push_reaches_history_and_online_state_in_one_commit(database, segments, actor, push, online):
    pushed = push(rows(("EWR", 1_000, 1.0, "clear"), ("JFK", 1_000, 2.0, None)))
    assert (pushed.rows, pushed.online_rows, pushed.cursor) == (2, 2, 2)
    assert online(1_000, "JFK", "EWR", "LGA") == [
        {"temp": 2.0, "sky": None},
        {"temp": 1.0, "sky": "clear"},
        None,
    ]
    view, lazy = database.read(lambda r: ingest.history(r, segments, actor, "weather", None, None))
    assert lazy.collect().height == 2 == view.rows
    entry = database.read(lambda r: ledger.read(r, kinds=["FeaturesPushed"]))[0]
    assert (entry.data["rows"], entry.data["min_event_ms"]) == (2, 1_000)


def test_newer_wins_whatever_the_order_of_arrival(push, online):
    push(rows(("EWR", 3_000, 3.0, None)))
    late = push(rows(("EWR", 1_000, 1.0, None), ("EWR", 2_000, 2.0, None)))
    assert late.online_rows == 2
    assert [online(at, "EWR")[0]["temp"] for at in (1_500, 2_500, 9_000)] == [1.0, 2.0, 3.0]
    push(rows(("EWR", 4_000, 4.0, None)))
    assert online(1_500, "EWR") == [None]
    assert push(rows(("EWR", 500, 0.5, None))).online_rows == 0
    assert online(9_000, "EWR")[0]["temp"] == 4.0


def test_a_correction_replaces_the_row_of_the_same_event_time(push, online):
    push(rows(("EWR", 1_000, 1.0, None)))
    push(rows(("EWR", 1_000, 1.5, None), ("EWR", 1_000, 1.7, None)))
    assert online(1_000, "EWR") == [{"temp": 1.7, "sky": None}]


def test_the_time_to_live_ends_a_value(push, online):
    push(rows(("EWR", 1_000, 1.0, None)))
    assert online(1_000 + HOUR_MS, "EWR") == [{"temp": 1.0, "sky": None}]
    assert online(1_001 + HOUR_MS, "EWR") == [None]
    assert online(999, "EWR") == [None]


def test_a_plane_that_reads_by_cursor_sees_every_change_once(database, actor, push):
    push(rows(("EWR", 1_000, 1.0, "a"), ("JFK", 1_000, 2.0, "b")))
    first = database.read(lambda r: service.online_changes(r, actor, 0, 1))
    rest = database.read(lambda r: service.online_changes(r, actor, first.cursor, 100))
    assert [row.key for row in (*first.rows, *rest.rows)] == [["EWR"], ["JFK"]]
    assert rest.rows[0].values == {"temp": 2.0, "sky": "b"}
    push(rows(("EWR", 1_000, 9.0, "a")))
    news = database.read(lambda r: service.online_changes(r, actor, rest.cursor, 100))
    assert [(row.key, row.values["temp"]) for row in news.rows] == [(["EWR"], 9.0)]
    assert database.read(lambda r: service.online_changes(r, actor, news.cursor, 100)).rows == []
    strange = database.read(lambda r: service.online_changes(r, actor, news.cursor + 1, 100))
    assert (len(strange.rows), strange.cursor) == (2, news.cursor)
    other = Actor(principal="bob", role="admin", workspace="other")
    assert database.read(lambda r: service.online_changes(r, other, 0, 100)).rows == []


def test_a_repeated_push_adds_nothing(push):
    frame = rows(("EWR", 1_000, 1.0, None))
    assert push(frame, key="k") == push(frame, key="k")
    assert push(frame, key="l").cursor == 2
    with pytest.raises(Conflict):
        push(rows(("EWR", 2_000, 1.0, None)), key="k")


@pytest.mark.parametrize(
    ("frame", "rule", "column"),
    [
        (rows(("EWR", 1, 1.0, None)).drop("sky"), "missing_column", "sky"),
        (rows(("EWR", 1, 1.0, None)).with_columns(wind=1), "unknown_column", "wind"),
        (rows((None, 1, 1.0, None)), "not_null", "origin"),
        (rows(("EWR", None, 1.0, None)), "not_null", "at"),
        (rows(("EWR", 1, float("nan"), None)), "finite", "temp"),
        (rows(("EWR", 1, 1.0, None)).with_columns(temp=pl.lit("x")), "wrong_type", "temp"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(database, push, frame, rule, column):
    before = row_counts(database.engine)
    with pytest.raises(InvalidInput) as caught:
        push(frame)
    assert [(found["rule"], found["column"]) for found in caught.value.details["violations"]] == [(rule, column)]
    assert row_counts(database.engine) == before


@pytest.mark.parametrize("body", [b"", b"ARROW1 and more", b"ARROW1\x00\x00" + b"\xff" * 60 + b"ARROW1"])
def test_a_body_that_is_no_table_is_refused(push, body):
    with pytest.raises(InvalidInput):
        push(None, body=body or b"x")
    with pytest.raises(InvalidInput, match="at least one row"):
        push(rows())


def test_a_view_that_holds_rows_may_only_grow_at_its_end(database, segments, actor, push, online):
    push(rows(("EWR", 1_000, 1.0, "clear")))

    def put(**what):
        body = msgspec.structs.replace(WEATHER, **what)
        return database.write(lambda tx: service.put_view(tx, actor, "weather", body))

    for what in (
        {"keys": ("dest",)},
        {"event_time": "t"},
        {"features": WEATHER.features[:1]},
        {"features": (Column(name="temp", dtype="int"), WEATHER.features[1])},
    ):
        with pytest.raises(Conflict):
            put(**what)
    put(features=(*WEATHER.features, Column(name="wind", dtype="float")), ttl_s=None)
    assert online(10**15, "EWR") == [{"temp": 1.0, "sky": "clear", "wind": None}]
    view, lazy = database.read(lambda r: ingest.history(r, segments, actor, "weather", None, None))
    assert b"wind" in ingest.collect_history(view, lazy)
    push(rows(("EWR", 2_000, 2.0, None)).with_columns(wind=pl.lit(7.0)))
    assert online(2_000, "EWR")[0]["wind"] == 7.0


@pytest.mark.parametrize(
    ("what", "path"),
    [
        ({"keys": ()}, "$.keys"),
        ({"features": ()}, "$.features"),
        ({"keys": (Column(name="x", dtype="float"),)}, "$.keys[0]"),
        ({"keys": ("a", "a")}, "$.keys"),
        ({"features": (Column(name="origin", dtype="int"),)}, "$.features[0].name"),
        ({"features": (Column(name="created_ms", dtype="int"),)}, "$.features[0].name"),
        ({"ttl_s": 0}, "$.ttl_s"),
        ({"online_depth": 0}, "$.online_depth"),
    ],
)
def test_a_view_that_cannot_be_meant_is_refused(database, actor, what, path):
    body = msgspec.structs.replace(WEATHER, **what)
    with pytest.raises(InvalidInput) as caught:
        database.write(lambda tx: service.put_view(tx, actor, "w", body))
    assert caught.value.path == path


def test_lookups_of_keys_of_another_form_are_refused(database, actor, weather):
    for key, path in (([1], "$.keys[0][0]"), (["a", "b"], "$.keys[0]"), ([True], "$.keys[0][0]")):
        body = OnlineRead(view="weather", keys=[key])
        with pytest.raises(InvalidInput) as caught:
            database.read(lambda r, body=body: service.read_online(r, actor, body))
        assert caught.value.path == path
    with pytest.raises(NotFound):
        database.read(lambda r: service.read_online(r, actor, OnlineRead(view="no", keys=[])))


def test_keys_of_several_columns_come_back_as_they_were(database, segments, actor):
    keys = (Column(name="carrier", dtype="string"), Column(name="number", dtype="int"))
    body = PutView(entity="flight", keys=keys, event_time="at", features=(Column(name="late", dtype="bool"),))
    database.write(lambda tx: service.put_view(tx, actor, "f", body))
    frame = pl.DataFrame({"carrier": ["UA"], "number": [7], "at": [1_000], "late": [True]})
    frame = frame.with_columns(pl.col("at").cast(pl.Datetime("ms")))
    ingest.push(database, segments, actor, "f", write_arrow(frame))
    changes = database.read(lambda r: service.online_changes(r, actor, 0, 10))
    assert changes.rows[0].key == ["UA", 7]
    read = OnlineRead(view="f", keys=[["UA", 7], ["UA", 8]], at_ms=2_000)
    assert database.read(lambda r: service.read_online(r, actor, read)) == [{"late": True}, None]


def test_a_service_takes_what_its_views_have(database, actor, weather):
    def put(*views):
        return database.write(lambda tx: service.put_service(tx, actor, "delay", PutService(views=views)))

    assert put(ServiceView(view="weather", features=("temp",), keys={"origin": "from"})).name == "delay"
    for wrong, path in (
        (ServiceView(view="no"), "$.views[0].view"),
        (ServiceView(view="weather", features=("wind",)), "$.views[0].features"),
        (ServiceView(view="weather", keys={"dest": "x"}), "$.views[0].keys"),
    ):
        with pytest.raises(InvalidInput) as caught:
            put(wrong)
        assert caught.value.path == path
    with pytest.raises(InvalidInput, match="two views"):
        put(ServiceView(view="weather"), ServiceView(view="weather"))
