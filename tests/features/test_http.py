"""Features over real HTTP, through the SDK: training and serving see the same values."""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import polars as pl
import pytest

from salus.features.client import FeaturesClient
from salus.features.model import OnlineChanges, ServiceView
from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.schema import Column
from salus.sdk.session import path
from salus.server.dataplane.online import OnlineFeatures
from salus.testing.servers import RunningServer

FEATURES = (Column(name="temp", dtype="float"), Column(name="sky", dtype="string"))


@pytest.fixture
def client(server: RunningServer) -> FeaturesClient:
    made = FeaturesClient(server.session)
    made.put_view(
        "weather", entity="airport", keys=["origin"], event_time="at", features=FEATURES, ttl_s=0.05, online_depth=8
    )
    return made


def rows(*given: tuple[str, int, float | None, str | None]) -> pl.DataFrame:
    schema = {"origin": pl.String, "at": pl.Int64, "temp": pl.Float64, "sky": pl.String}
    table = pl.DataFrame(list(given), schema=schema, orient="row")
    return table.with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC")))


def changes(server: RunningServer, after: int, wait_s: float = 0.0, plane: str = "") -> bytes:
    query = {"after": after, "wait_s": wait_s, "plane": plane}
    return server.session.send("GET", path("features", "online", "changes"), query=query)


def test_training_and_serving_see_the_same_values(server: RunningServer, client: FeaturesClient) -> None:
    """Random rows, pushed in the order of their times; requests in between; a plane follows the feed."""
    chance = np.random.default_rng(11)
    plane, cursor = OnlineFeatures(), 0
    asked: list[tuple[str, int]] = []
    served: list[tuple[float | None, str | None]] = []
    service = client.put_service("delay", [ServiceView(view="weather", keys={"origin": "from"})])
    moment = 1_000
    for _ in range(25):
        pushed = []
        for _ in range(int(chance.integers(1, 5))):
            moment += int(chance.integers(0, 20))
            origin = str(chance.choice(["EWR", "JFK", "LGA"]))
            temp = None if chance.random() < 0.2 else float(chance.normal())
            pushed.append((origin, moment, temp, str(chance.choice(["clear", "rain"]))))
        client.push("weather", rows(*pushed))
        news = msgspec.msgpack.decode(changes(server, cursor), type=OnlineChanges)
        plane.apply(news)
        cursor = news.cursor
        for _ in range(4):
            origin, at = str(chance.choice(["EWR", "JFK", "LGA", "???"])), moment + int(chance.integers(-8, 90))
            if at > moment:
                at = moment
            found = plane.find("weather", origin, at, 0.05) or {}
            online = client.online("weather", [[origin]], at_ms=at)[0] or {}
            assert found == online
            asked.append((origin, at))
            served.append((found.get("temp"), found.get("sky")))
    spine = pl.DataFrame(asked, schema={"from": pl.String, "event_time": pl.Int64}, orient="row")
    trained = client.history_join(spine, service.name)
    assert trained.select("temp", "sky").rows() == served
    assert 0 < trained["sky"].null_count() < len(asked)


def test_the_join_of_several_views_keeps_the_spine(client: FeaturesClient) -> None:
    client.put_view(
        "plane", entity="plane", keys=["tailnum"], event_time="at", features=(Column(name="seats", dtype="int"),)
    )
    client.push("weather", rows(("EWR", 100, 1.0, "clear"), ("EWR", 120, None, None)))
    client.push("plane", rows(("N1", 5, None, None)).select(pl.col("origin").alias("tailnum"), "at", seats=pl.lit(180)))
    spine = pl.DataFrame({"tailnum": ["N1", "N2", "N1"], "origin": ["EWR", "EWR", "JFK"], "event_time": [130, 110, 1]})
    joined = client.history_join(spine, ["weather", "plane"])
    assert joined.columns == ["tailnum", "origin", "event_time", "temp", "sky", "seats"]
    assert joined.drop("tailnum", "origin", "event_time").rows() == [
        (None, None, 180),
        (1.0, "clear", None),
        (None, None, None),
    ]


def test_what_was_not_known_yet_can_be_left_out(client: FeaturesClient) -> None:
    client.push("weather", rows(("EWR", 100, 1.0, "clear")))
    spine = pl.DataFrame({"origin": ["EWR"], "event_time": [110]})
    assert client.history_join(spine, ["weather"])["temp"].to_list() == [1.0]
    assert client.history_join(spine, ["weather"], known_at=True)["temp"].to_list() == [None]


def test_the_feed_wakes_who_waits(server: RunningServer, client: FeaturesClient) -> None:
    answers: list[tuple[float, OnlineChanges]] = []

    def wait() -> None:
        raw = changes(server, 0, wait_s=20)
        answers.append((time.monotonic(), msgspec.msgpack.decode(raw, type=OnlineChanges)))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    assert not answers
    client.push("weather", rows(("EWR", 100, 1.0, "clear")))
    pushed_s = time.monotonic()
    waiting.join(10)
    assert answers[0][0] - pushed_s < 0.5
    assert [row.key for row in answers[0][1].rows] == [["EWR"]]
    assert msgspec.msgpack.decode(changes(server, answers[0][1].cursor, 0.05), type=OnlineChanges).rows == []


def test_a_push_can_wait_until_the_planes_have_it(server: RunningServer, client: FeaturesClient) -> None:
    fresh = client.push("weather", rows(("EWR", 100, 1.0, None)), wait_online_s=0.1)
    assert fresh.online is False, "a server that has just begun cannot know which planes there are"
    changes(server, 0, plane="pln_1")
    assert client.push("weather", rows(("EWR", 101, 1.0, None)), wait_online_s=0.1).online is False
    stop = threading.Event()

    def follow() -> None:
        cursor = 0
        while not stop.is_set():
            news = msgspec.msgpack.decode(changes(server, cursor, 0.2, "pln_1"), type=OnlineChanges)
            cursor = news.cursor

    plane = threading.Thread(target=follow)
    plane.start()
    try:
        pushed = client.push("weather", rows(("EWR", 102, 1.0, None)), wait_online_s=10)
        assert pushed.online is True
        assert [plane.cursor >= pushed.cursor for plane in client.online_status().planes] == [True]
    finally:
        stop.set()
        plane.join()


def test_bad_requests_are_named(server: RunningServer, client: FeaturesClient) -> None:
    with pytest.raises(NotFound):
        client.push("no", rows(("EWR", 1, 1.0, None)))
    with pytest.raises(InvalidInput, match="event_time"):
        client.history_join(pl.DataFrame({"origin": ["EWR"]}), ["weather"])
    for query, field in (({"after": -1}, "after"), ({"wait_s": 1e9}, "wait_s")):
        with pytest.raises(InvalidInput) as caught:
            server.session.send("GET", path("features", "online", "changes"), query=query)
        assert caught.value.path == field
    with pytest.raises(InvalidInput):
        server.session.send("POST", path("features", "views", "weather", "rows"), content=b"junk")
