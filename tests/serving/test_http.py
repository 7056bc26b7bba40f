"""Endpoints over real HTTP: the SDK, the line to the data planes, the command line."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from salus.cli.endpoints import app
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.sdk.session import Session, path
from salus.serving.client import EndpointsClient
from salus.serving.model.labels import Label
from salus.serving.model.predictions import Shipped
from salus.serving.wire import Answer, PredictionBatch, PredictionRecord, RouteTable
from salus.testing.servers import RunningServer

DAY_MS = 86_400_000


@pytest.fixture
def client(server: RunningServer, world: Any, monkeypatch: pytest.MonkeyPatch) -> EndpointsClient:
    """A client of a server whose registry holds `delay` 1.0.0 and 1.1.0."""
    world.version("1.0.0")
    world.version("1.1.0")
    monkeypatch.setenv("SALUS_URL", server.url)
    return EndpointsClient(server.session)


def batch(revision: str, count: int, first_seq: int = 1) -> PredictionBatch:
    records = tuple(
        PredictionRecord(
            seq=seq,
            endpoint="delay",
            event_ms=seq * 1_000,
            at_ms=seq,
            key=f"k{seq}",
            inputs={"temp": 1.5, "carrier": "UA"},
            answers=(Answer(revision, "live", {"probability": 0.25}, None, 200),),
        )
        for seq in range(first_seq, first_seq + count)
    )
    return PredictionBatch("pln_http", first_seq, first_seq + count - 1, records)


def ship(session: Session, content: PredictionBatch) -> Shipped:
    raw = session.send(
        "POST",
        path("serving", "predictions"),
        content=msgspec.msgpack.encode(content),
        headers={"Content-Type": "application/msgpack"},
    )
    return msgspec.json.decode(raw, type=Shipped)


def test_from_deployment_to_outcomes(client: EndpointsClient, server: RunningServer) -> None:
    client.put("delay", key_column="carrier", label_delay_s=3_600.0)
    rollout = client.deploy("delay", "delay", "1.0.0")
    assert rollout.state == "promoted"
    assert ship(server.session, batch(rollout.challenger, 10)).through_seq == 10
    assert client.label("delay", [Label(key="k3", value=1, event_ms=9_000)]).recorded == 1

    table = client.outcomes("delay", from_ms=0, to_ms=DAY_MS)
    assert table.height == 10
    assert table.filter(table["key"] == "k3")["label"].to_list() == [1.0]
    some = client.outcomes("delay", from_ms=2_000, to_ms=4_000, columns=["out.probability"])
    assert some.columns[:3] == ["prediction_id", "event_ms", "out.probability"]
    assert client.completeness("delay", from_ms=0, to_ms=DAY_MS).labelled == 1
    assert [row.key for row in client.predictions("delay", limit=2)] == ["k10", "k9"]


def test_errors_travel_as_themselves(client: EndpointsClient, server: RunningServer) -> None:
    with pytest.raises(NotFound):
        client.get("nobody")
    rollout = client.deploy("delay", "delay", "1.0.0")
    with pytest.raises(NotFound) as error:
        client.label("delay", [Label(prediction_id="pln_http-1", value=1, event_ms=1)])
    assert error.value.details[0]["path"] == "$.labels[0].prediction_id"
    with pytest.raises(Conflict, match="this batch begins at 5"):
        ship(server.session, batch(rollout.challenger, 2, first_seq=5))
    with pytest.raises(InvalidInput) as invalid:
        server.session.call("POST", path("endpoints", "delay", "labels"), body={"labels": [{"value": {}}]})
    assert (invalid.value.path or "").startswith("$.labels[0]")
    with pytest.raises(InvalidInput):
        server.session.send("POST", path("serving", "predictions"), content=b"\xc1nonsense")
    with pytest.raises(InvalidInput):
        server.session.call(
            "POST",
            path("endpoints", "delay", "rollouts"),
            body={"model": "delay", "version": "1.1.0", "strategy": {"steps": [2.0]}},
        )


def test_a_data_plane_hears_of_new_routes_at_once(client: EndpointsClient, server: RunningServer) -> None:
    heard: list[tuple[float, RouteTable]] = []

    def listen() -> None:
        raw = server.session.send(
            "GET", path("serving", "routes"), query={"after": 0, "wait_s": 10, "plane": "pln_http"}
        )
        heard.append((time.monotonic(), msgspec.msgpack.decode(raw, type=RouteTable)))

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.5)
    client.deploy("delay", "delay", "1.0.0")
    changed = time.monotonic()
    thread.join(timeout=10)
    ((at, table),) = heard
    assert at - changed < 1.0
    assert [route.endpoint for route in table.endpoints] == ["delay"]
    nothing = server.session.send("GET", path("serving", "routes"), query={"after": table.epoch})
    assert nothing == b""


def test_planes_report(client: EndpointsClient, server: RunningServer) -> None:
    body = {"plane": "pln_http", "started_ms": 5, "counters": {"requests": 3.0}, "problems": ["disk full"]}
    server.session.call("POST", path("serving", "planes"), body=body)
    server.session.call("POST", path("serving", "planes"), body=body)
    (plane,) = client.planes()
    assert (plane.plane, plane.problems, plane.through_seq) == ("pln_http", ("disk full",), 0)


def test_the_evidence_decides_by_itself_on_the_running_server(client: EndpointsClient, server: RunningServer) -> None:
    live = client.deploy("delay", "delay", "1.0.0").challenger
    rollout = client.deploy("delay", "delay", "1.1.0")
    records = tuple(
        msgspec.structs.replace(
            record,
            answers=(*record.answers, Answer(rollout.challenger, "shadow", None, "boom", 100)),
        )
        for record in batch(live, 200).records
    )
    ship(server.session, PredictionBatch("pln_http", 1, 200, records))
    assert client.wait(rollout.id, timeout_s=10).state == "rolled_back"


def test_the_same_deployment_sent_twice_is_one(client: EndpointsClient, server: RunningServer) -> None:
    body = {"model": "delay", "version": "1.0.0"}
    target = path("endpoints", "delay", "rollouts")
    first = server.session.call("POST", target, body=body, expect=dict[str, Any], key="k1")
    again = server.session.call("POST", target, body=body, expect=dict[str, Any], key="k1")
    assert first["id"] == again["id"]


def test_the_command_line(client: EndpointsClient, server: RunningServer) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "promoted" in run("deploy", "delay", "delay@1.0.0")
    assert "canary" in run("deploy", "delay", "delay@1.1.0", "--share", "0.2", "--reason", "try it")
    assert "20%" in run("show", "delay")
    assert "delay@1.0.0 80%" in run("list")
    assert "rolled_back" in run("rollback", "delay", "--reason", "enough")
    assert "shadows delay@1.1.0" in run("shadow", "delay", "delay@1.1.0")
    ship(server.session, batch(client.get("delay").endpoint.live or "", 1))
    assert "1 recorded" in run("label", "delay", "k1", "1", "--key", "--event-ms", "5")
    assert "1 known" in run("label", "delay", "pln_http-1", "1", "--event-ms", "5")
    run("deploy", "delay", "delay@1.1.0")
    assert "promoted" in run("promote", "delay")
    assert msgspec.json.decode(run("show", "delay", "--json"))["endpoint"]["rollout"] is None
