"""Runs over real HTTP: the SDK, the errors, repetition."""

from __future__ import annotations

import threading
from urllib.parse import quote

import msgspec
import pytest
import urllib3

from salus.kernel.errors import Conflict, NotFound, SalusError
from salus.sdk.session import path
from salus.testing.servers import RunningServer
from salus.tracking.client import TrackingClient
from salus.tracking.model import Logged, Run


@pytest.fixture
def client(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> TrackingClient:
    return TrackingClient(server.session)


def test_a_run_through_the_sdk(client: TrackingClient) -> None:
    with client.start("delays", parameters={"depth": 6}, tags={"q": "4"}) as run:
        for step in range(50):
            run.log(loss=1 / (step + 1), step=step)
        run.log({"auc": 0.8})
        run.log_artifact("plots/curve.svg", "<svg/>")
    found = client.get(run.id)
    metrics = {metric.key: metric for metric in found.metrics}
    assert found.run.state == "finished"
    assert metrics["loss"].points == 50
    assert metrics["loss"].value == 1 / 50
    assert metrics["system/memory_bytes"].value
    assert found.run.context.python
    assert client.history(run.id, "loss").points[0][2] == 1.0
    assert client.history(run.id, "system/wall_s").total == 1
    assert client.artifact(run.id, "plots/curve.svg") == b"<svg/>"


def test_an_exception_ends_the_run_as_failed(client: TrackingClient) -> None:
    with pytest.raises(ZeroDivisionError), client.start("delays") as run:
        run.log(loss=1 / 0)
    assert client.get(run.id).run.state == "failed"


def test_a_repeated_request_is_carried_out_once(server: RunningServer) -> None:
    body = {"experiment": "once"}
    first = server.session.call("POST", path("runs"), body=body, expect=Run, key="k1")
    again = server.session.call("POST", path("runs"), body=body, expect=Run, key="k1")
    assert first == again
    log = {"points": [{"key": "loss", "value": 1.0}]}
    for _ in range(3):
        server.session.call("POST", path("runs", first.id, "log"), body=log, expect=Logged, key="k2")
    assert TrackingClient(server.session).history(first.id, "loss").total == 1
    with pytest.raises(Conflict, match="another request"):
        server.session.call("POST", path("runs"), body={"experiment": "two"}, expect=Run, key="k1")


@pytest.mark.parametrize(
    ("raw", "status", "where", "words"),
    [
        (b"{", 422, "$", "not valid"),
        (b'{"points": [{"key": "a", "value": "x"}]}', 422, "$.points[0].value", "Invalid enum"),
        (b'{"points": [{"key": 5, "value": 1}]}', 422, "$.points[0].key", "Expected `str`"),
        (b'{"points": [{"key": "a", "value": 1, "stp": 1}]}', 422, "$.points[0]", "unknown field"),
        (b'{"points": [{"key": "a", "value": NaN}]}', 422, "$", "not valid"),
        (b"[" * 200_000, 422, "$", "not valid"),
        (b'{"points": [{"key": "' + b"k" * 10_000 + b'", "value": 1}]}', 422, "$.points[0].key", "250"),
        (b"\xff\xfe", 422, "$", "not valid"),
    ],
)
def test_bad_bodies_get_a_problem_that_names_the_place(
    server: RunningServer, raw: bytes, status: int, where: str, words: str
) -> None:
    run = server.session.call("POST", path("runs"), body={}, expect=Run)
    answer = urllib3.request(
        "POST",
        server.url + path("runs", run.id, "log"),
        body=raw,
        headers={"Content-Type": "application/json"},
    )
    problem = msgspec.json.decode(answer.data)
    assert answer.status == status, problem
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert problem["path"] == where
    assert words in problem["detail"]


def test_unknown_things_are_not_found(server: RunningServer) -> None:
    client = TrackingClient(server.session)
    with pytest.raises(NotFound, match="no run nope"):
        client.get("nope")
    with pytest.raises(NotFound, match="no experiment"):
        client.runs("nope")
    with pytest.raises(NotFound):
        server.session.call("GET", "/api/v1/nope")


@pytest.mark.parametrize("name", ["../x", "a/../b", "a\\b", ".", "a/./b", "a\nb", "x" * 300])
def test_an_artifact_cannot_leave_its_run(server: RunningServer, name: str) -> None:
    run = server.session.call("POST", path("runs"), body={}, expect=Run)
    with pytest.raises(SalusError):
        server.session.upload("PUT", path("runs", run.id, "artifacts") + "/" + quote(name, safe=""), b"x")


def test_many_threads_log_to_one_run(client: TrackingClient) -> None:
    run = client.start("threads")

    def work(index: int) -> None:
        for step in range(200):
            run.log({f"m{index}": float(step)}, step=step)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    for index in range(4):
        assert client.history(run.id, f"m{index}").total == 200
