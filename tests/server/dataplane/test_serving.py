"""The data plane as its users meet it: a real process over real HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from salus.kernel.schema import Column, Schema, Signature
from salus.serving.wire import FeatureLookup

Start = Callable[..., Any]
MARCH_MS = 1_362_100_000_000


def expected(model: bytes, row: dict[str, Any]) -> float:
    feed = {
        name: np.array([[value]], dtype=object if isinstance(value, str) else np.float32) for name, value in row.items()
    }
    return float(ort.InferenceSession(model).run(None, feed)[1][0, 1])


def test_an_answer_and_its_record(control: Any, start_plane: Start, onnx_models: list[bytes], row: Any) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    (answer,) = plane.predict([row], keys=["UA1545"], event_ms=[MARCH_MS])
    assert answer["outputs"]["probability"] == pytest.approx(expected(onnx_models[0], row))
    assert (answer["model"], answer["version"], answer["revision"]) == ("late", "1.0.1", "rev_1")
    assert "error" not in answer

    plane.until(lambda: control.records)
    ((prediction_id, record),) = control.records.items()
    assert prediction_id == answer["id"]
    assert (record.endpoint, record.key, record.event_ms, record.inputs) == ("late", "UA1545", MARCH_MS, row)
    (live,) = record.answers
    assert (live.role, live.output, live.error) == ("live", answer["outputs"], None)
    assert live.latency_us > 0
    report = plane.until(lambda: [r for r in control.reports if r["counters"]["rows"] == 1])[0]
    assert report["plane"] == answer["id"].rpartition("-")[0]
    assert report["epoch"] == 1
    assert report["problems"] == []
    assert plane.stop() == 0


def test_rows_are_dealt_by_key_and_shadows_see_all(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: Any
) -> None:
    revisions = [control.revision(f"rev_{i}", model) for i, model in enumerate([*onnx_models, onnx_models[0]])]
    control.route(revisions, {"rev_0": 0.7, "rev_1": 0.3}, shadows=("rev_0", "rev_1", "rev_2"), key_column="origin")
    plane = start_plane().ready(1)
    keys = [f"key-{index}" for index in range(700)]
    first = plane.predict([row] * 700, keys=keys)
    again = [plane.predict([row], keys=[key])[0] for key in keys[:30]]
    assert [a["revision"] for a in again] == [a["revision"] for a in first[:30]]
    shares = Counter(answer["revision"] for answer in first)
    assert 150 < shares["rev_1"] < 270
    assert shares["rev_0"] + shares["rev_1"] == 700
    for answer in first[:50]:
        model = onnx_models[int(answer["revision"][-1])]
        assert answer["outputs"]["probability"] == pytest.approx(expected(model, row), rel=1e-5)

    plane.until(lambda: len(control.records) == 730)
    for answer in first:
        record = control.records[answer["id"]]
        live, *shadows = record.answers
        assert (live.revision, live.role) == (answer["revision"], "live")
        assert {s.revision for s in shadows} == {"rev_0", "rev_1", "rev_2"} - {live.revision}
        assert all(s.role == "shadow" and s.output for s in shadows)
    by_origin = plane.predict([row, row | {"origin": "JFK"}])
    plane.until(lambda: len(control.records) == 732)
    assert [control.records[a["id"]].key for a in by_origin] == ["EWR", "JFK"]


def test_features_are_those_of_the_moment(control: Any, start_plane: Start, onnx_models: list[bytes], row: Any) -> None:
    lookup = FeatureLookup(view="weather", keys=("origin",), features=("temp",), ttl_s=3600.0)
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0}, lookups=(lookup,))
    for hour, temp in ((0, 10.0), (1, 20.0), (2, 30.0)):
        control.push("weather", "EWR", MARCH_MS + hour * 3_600_000, {"temp": temp})
    plane = start_plane().ready(1)
    plane.until(lambda: "salus_online_cursor 3" in plane.call("GET", "/metrics")[2])
    asked = {name: value for name, value in row.items() if name != "temp"}
    moments = [MARCH_MS - 1, MARCH_MS, MARCH_MS + 3_600_000 + 5, MARCH_MS + 7_200_000, MARCH_MS + 11_000_000]
    answers = plane.predict([asked] * 5, event_ms=moments)
    plane.until(lambda: len(control.records) == 5)
    seen = [control.records[answer["id"]].inputs["temp"] for answer in answers]
    assert seen == [None, 10.0, 20.0, 30.0, None]
    status, _, problem = plane.call("POST", "/predict/late", {"rows": [row]})
    assert status == 422
    assert problem["path"] == "$.rows[0].temp"
    assert "weather" in problem["detail"]


def test_a_failing_shadow_hurts_nobody_and_a_failing_live_model_says_so(
    control: Any, start_plane: Start, onnx_models: list[bytes], row: Any
) -> None:
    needs_int = Signature(
        inputs=Schema(columns=(Column(name="x", dtype="int", nullable=False),)),
        outputs=Schema(columns=(Column(name="variable", dtype="float"),)),
    )
    from_int = control.revision("rev_2", _log_of_int(), needs_int)
    control.route([control.revision("rev_1", onnx_models[0]), from_int], {"rev_1": 1.0}, shadows=("rev_2",))
    plane = start_plane().ready(1)
    (answer,) = plane.predict([row])
    plane.until(lambda: control.records)
    live, shadow = control.records[answer["id"]].answers
    assert live.output
    assert live.error is None
    assert shadow.output is None
    assert "TypeError" in shadow.error

    control.route([from_int], {"rev_2": 1.0}, endpoint="log")
    plane.ready(2)
    answers = plane.predict([{"x": 1}, {"x": 0}, {"x": -1}], endpoint="log")
    assert answers[0]["outputs"] == {"variable": 0.0}
    assert [a["outputs"] for a in answers[1:]] == [None, None]
    assert "-inf" in answers[1]["error"]
    assert "nan" in answers[2]["error"]
    status, _, problem = plane.call("POST", "/predict/log", {"rows": [{"x": -1}]})
    assert status == 500
    assert problem["type"] == "urn:salus:error"
    assert "nan" in problem["detail"]
    plane.until(lambda: len(control.records) == 5)
    assert 'salus_model_errors_total{endpoint="log"} 3' in plane.call("GET", "/metrics")[2]


def _log_of_int() -> bytes:
    from_ = [helper.make_tensor_value_info("x", TensorProto.INT64, [None, 1])]
    to = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Log", ["f"], ["variable"]),
    ]
    graph = helper.make_graph(nodes, "log", from_, to)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    raw: bytes = model.SerializeToString()
    return raw


def test_what_it_says_of_itself(control: Any, start_plane: Start, onnx_models: list[bytes], row: Any) -> None:
    control.route([control.revision("rev_1", onnx_models[0])], {"rev_1": 1.0})
    plane = start_plane().ready(1)
    assert plane.call("GET", "/livez")[2] == {"live": True}
    status, _, about = plane.call("GET", "/endpoints/late")
    assert status == 200
    assert [c["name"] for c in about["columns"]] == list(row)
    plane.predict(about["example"]["rows"])
    plane.call("POST", "/predict/late", b"{")
    text = plane.call("GET", "/metrics")[2]
    assert 'salus_requests_total{endpoint="late",status="200"} 1' in text
    assert 'salus_requests_total{endpoint="late",status="422"} 1' in text
    assert 'salus_request_seconds_count{endpoint="late"} 2' in text
    assert "salus_route_epoch 1" in text
    assert "salus_lost_records_total 0" in text
