"""Bad input of every kind that a user can meet: over HTTP, as an exception of the SDK, and as a line on the terminal.

Each names the place, the law and the next step, and leaves nothing behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salus.cli import main as command_line
from salus.data.client import DataClient
from salus.features.client import FeaturesClient
from salus.kernel.errors import Conflict, InvalidInput, NotFound, SalusError
from salus.kernel.schema import Column, Schema, Signature
from salus.registry.client import RegistryClient
from salus.registry.model import NewGate
from salus.serving.client import EndpointsClient
from salus.serving.model.labels import Label
from salus.testing import fixtures
from salus.testing.clinic import SIGNATURE
from salus.tracking.client import TrackingClient

API = "/api/v1"

# name, method, path, body as JSON text (PLANE stands for the data plane's id), status, place of the bad value
OVER_HTTP = [
    ("malformed", "POST", "/runs", '{"name": ', 422, "$"),
    ("no body", "POST", "/experiments", "", 422, "$"),
    ("not an object", "POST", "/experiments", "[]", 422, "$"),
    ("wrong type", "POST", "/runs", '{"started_ms": "noon"}', 422, "$.started_ms"),
    ("text for a number", "PUT", "/endpoints/delay", '{"label_delay_s": "60"}', 422, "$.label_delay_s"),
    ("a number for a truth", "POST", "/pipelines/sums/runs", '{"use_cache": 1}', 422, "$.use_cache"),
    ("a field nobody knows", "POST", "/runs", '{"nam": "x"}', 422, "$"),
    ("a field nobody knows, deeper", "POST", "/runs", '{"context": {"git": "x"}}', 422, "$.context"),
    (
        "a misspelt field of a column",
        "PUT",
        "/datasets/other",
        '{"schema": {"columns": [{"name": "a", "dtype": "int", "nulable": false}]}}',
        422,
        "$.schema.columns[0]",
    ),
    ("a field left out", "POST", "/experiments", "{}", 422, "$"),
    ("beyond 64 bits", "POST", "/runs", '{"started_ms": 9223372036854775808}', 422, "$.started_ms"),
    ("a NUL", "POST", "/experiments", r'{"name": "a\u0000b"}', 422, "$.name"),
    ("half a character", "POST", "/experiments", r'{"name": "\ud800"}', 422, "$"),
    ("NaN", "PUT", "/endpoints/delay", '{"label_delay_s": NaN}', 422, "$"),
    ("NaN as text", "PUT", "/endpoints/delay", '{"label_delay_s": "NaN"}', 422, "$.label_delay_s"),
    ("infinity", "PUT", "/endpoints/delay", '{"label_delay_s": 1e999}', 422, "$.label_delay_s"),
    ("infinity in a loop", "POST", "/runs", '{"parameters": {"rate": 1e999}}', 422, None),
    ("an unknown parameter", "POST", "/pipelines/sums/runs", '{"parameters": {"m": 1}}', 422, "$.parameters.m"),
    ("a parameter's type", "POST", "/pipelines/sums/runs", '{"parameters": {"n": "x"}}', 422, "$.parameters.n"),
    ("an unknown metric", "GET", "/runs/{run_id}/metrics/nothing", None, 404, None),
    ("an unknown model", "POST", "/endpoints/delay/rollouts", '{"model": "x", "version": "1.0.0"}', 404, None),
    ("an unknown dataset", "GET", "/datasets/nothing", None, 404, None),
    (
        "a label of no prediction",
        "POST",
        "/endpoints/delay/labels",
        '{"labels": [{"value": 1, "event_ms": 1, "prediction_id": "pln_x-1"}]}',
        404,
        "$.labels[0].prediction_id",
    ),
    (
        "a label that is none",
        "POST",
        "/endpoints/delay/labels",
        '{"labels": [{"value": 2, "event_ms": 1, "prediction_id": "PLANE-1"}]}',
        422,
        "$.labels[0].value",
    ),
    (
        "good and bad labels",
        "POST",
        "/endpoints/delay/labels",
        '{"labels": [{"value": 1, "event_ms": 1, "key": "x"}, {"value": 2, "event_ms": 1, "key": "y"}]}',
        None,
        None,
    ),
    ("a file that was not uploaded", "POST", "/datasets/flights/versions", None, 422, "$.files[0].digest"),
]


@pytest.mark.parametrize("case", OVER_HTTP, ids=lambda case: case[0])
def test_over_http_it_is_refused_with_place_law_and_remedy(town: Any, case: tuple[Any, ...]) -> None:
    name, method, address, text, status, place = case
    if name == "a file that was not uploaded":
        text = json.dumps({"files": [{"digest": "blake3:" + "0" * 64}]})
    body = None if text is None else text.replace("PLANE", town.clinic.plane).encode("utf-8", "surrogatepass")
    address = address.replace("{run_id}", town.names["runs.run_id"])
    engine, head = town.server.context.database.engine, town.head()
    before = fixtures.row_counts(engine)
    problem = town.send(method, API + address, body).problem
    if status is not None:
        assert problem["status"] == status, problem
    if place is not None:
        assert problem.get("path") == place, problem
    assert len(problem["detail"]) > 10
    assert (town.head(), fixtures.row_counts(engine)) == (head, before)


def second_label(town: Any) -> None:
    client, plane = EndpointsClient(town.server.session), town.clinic.plane
    known = client.outcomes("delay", from_ms=0, to_ms=9_000_000_000_000)
    value = int(known.filter(known["prediction_id"] == f"{plane}-1")["label"][0])
    client.label("delay", [Label(value=1 - value, event_ms=1_500_000_000_000, prediction_id=f"{plane}-1")])


def unfit_model(town: Any) -> None:
    other = Signature(
        inputs=Schema(columns=(Column(name="humidity", dtype="float", nullable=False),)),
        outputs=SIGNATURE.outputs,
        task="binary",
    )
    models = RegistryClient(town.server.session)
    version = models.register("unfit", {"model.onnx": b"none"}, other)
    models.check_gates("unfit", version.version, [NewGate(name="q", passed=True)])
    head = town.head()
    try:
        EndpointsClient(town.server.session).deploy("delay", "unfit", version.version)
    finally:
        assert town.head() == head


def register(town: Any, **fields: Any) -> None:
    RegistryClient(town.server.session).register("delay", {"model.onnx": b"none"}, SIGNATURE, **fields)


def commit(town: Any, change: Callable[[Any], Any]) -> None:
    DataClient(town.server.session).commit("flights", change(town.table))


THROUGH_THE_SDK: list[tuple[str, Callable[[Any], None], type[SalusError], str]] = [
    ("a second label", second_label, Conflict, "label"),
    ("a model that does not fit", unfit_model, InvalidInput, "humidity"),
    ("NaN among a version's metrics", lambda town: register(town, metrics={"auc": float("nan")}), InvalidInput, "auc"),
    ("infinity among its metrics", lambda town: register(town, metrics={"auc": float("inf")}), InvalidInput, "auc"),
    ("a column too many", lambda town: commit(town, lambda t: t.with_columns(more=t["x"])), InvalidInput, "more"),
    ("a missing column", lambda town: commit(town, lambda t: t.drop("temp")), InvalidInput, "temp"),
    ("another type", lambda town: commit(town, lambda t: t.cast({"x": str})), InvalidInput, "x"),
    ("NaN in rows", lambda town: commit(town, lambda t: t.with_columns(x=t["x"] * float("nan"))), InvalidInput, "x"),
    ("an unknown run", lambda town: TrackingClient(town.server.session).get("run_nothing"), NotFound, "run_nothing"),
    ("an unknown view", lambda town: FeaturesClient(town.server.session).view("nothing"), NotFound, "nothing"),
]


@pytest.mark.parametrize("case", THROUGH_THE_SDK, ids=lambda case: case[0])
def test_the_sdk_raises_the_class_that_the_server_meant(town: Any, case: tuple[Any, ...]) -> None:
    name, attempt, error, word = case
    head = town.head()
    with pytest.raises(error) as raised:
        attempt(town)
    assert word in str(raised.value), raised.value
    if name != "a model that does not fit":
        assert town.entries_of_clients(head) in ([], ["BatchRefused"])


ON_THE_TERMINAL = [
    (["data", "commit", "flights", "BROKEN.csv"], 2, "$."),
    (["data", "validate", "flights", "BROKEN.csv"], 2, "$."),
    (["data", "show", "nothing"], 1, "nothing"),
    (["models", "show", "nothing"], 1, "nothing"),
    (["models", "approve", "delay", "-r", "x"], 2, "NAME@VERSION"),
    (["endpoints", "deploy", "delay", "nothing@1.0.0"], 1, "nothing"),
    (["endpoints", "deploy", "delay", "delay@1.0.0", "--strategy", "wild"], 2, "strategy"),
    (["endpoints", "label", "delay", "pln_x-1", "1", "--event-ms", "1"], 1, "pln_x-1"),
    (["endpoints", "label", "delay", "PLANE-1", "nan", "--event-ms", "1"], 2, "$.labels[0].value"),
    (["endpoints", "label", "delay", "PLANE-1", "99999999999999999999", "--event-ms", "1"], 2, "64 bits"),
    (["pipelines", "run", "nothing"], 1, "nothing"),
    (["runs", "show", "run_nothing"], 1, "run_nothing"),
    (["features", "show", "nothing"], 1, "nothing"),
]


@pytest.mark.parametrize("case", ON_THE_TERMINAL, ids=lambda case: " ".join(case[0]))
def test_the_terminal_gets_one_line_and_an_exit_code(
    town: Any,
    case: tuple[list[str], int, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, code, part = case
    broken = tmp_path / "broken.csv"
    broken.write_text("x,unknown\n1,2\n")
    words = [word.replace("BROKEN.csv", str(broken)).replace("PLANE", town.clinic.plane) for word in words]
    monkeypatch.setenv("SALUS_URL", town.server.url)
    monkeypatch.setattr("sys.argv", ["salus", *words])
    head = town.head()
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    said = capsys.readouterr().err
    assert ended.value.code == code, said
    assert said.startswith("salus: ")
    assert said.count("\n") == 1, said
    assert part in said
    assert "Traceback" not in said
    assert town.entries_of_clients(head) in ([], ["BatchRefused"])
