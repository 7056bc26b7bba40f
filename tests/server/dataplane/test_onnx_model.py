"""What scikit-learn gives and what the loaded graph gives are the same, whatever shape the converter chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema, Signature
from salus.server.dataplane.onnx_model import OnnxModel, Scorer
from salus.server.dataplane.rows import Asked, RowShape

ROWS = [
    {"carrier": carrier, "origin": "EWR", "distance": distance, "temp": 40.0}
    for carrier in ("UA", "DL", "never seen")
    for distance in (300.0, 1400.0)
]


def score(model: OnnxModel, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shape = RowShape("e", [Asked(column=column) for column in model.signature.inputs.columns], (), (), 100)
    return Scorer(model, shape.getter).score(shape.decode(msgspec.json.encode({"rows": rows})).rows)


@pytest.mark.parametrize("zipmap", [False, True, "columns"])
def test_a_classifier_in_each_form(
    make_classifier: Callable[..., tuple[Any, bytes]], signature: Signature, zipmap: Any
) -> None:
    model, graph = make_classifier(3, zipmap=zipmap)
    table = np.array([list(row.values()) for row in ROWS], dtype=object)
    expected = model.predict_proba(table)[:, 1]
    loaded = OnnxModel(graph, signature)
    assert [o["probability"] for o in score(loaded, ROWS)] == pytest.approx(expected, rel=1e-5)
    assert score(loaded, ROWS[:1])[0]["probability"] == pytest.approx(expected[0], rel=1e-5)


def test_one_matrix_takes_the_signatures_columns_in_order(make_regressor: Callable[..., Any]) -> None:
    model, graph, signature = make_regressor()
    rows = [{"a": 1.5, "b": 2}, {"a": -1.0, "b": 7}]
    expected = model.predict(np.array([[1.5, 2], [-1.0, 7]]))
    assert [o["value"] for o in score(OnnxModel(graph, signature), rows)] == pytest.approx(expected, rel=1e-5)


def test_a_signature_that_does_not_fit_is_refused(onnx_models: list[bytes], signature: Signature) -> None:
    columns = signature.inputs.columns
    missing = msgspec.structs.replace(signature, inputs=Schema(columns=columns[1:]))
    with pytest.raises(InvalidInput, match="no column of the signature fills the graph's input 'carrier'"):
        OnnxModel(onnx_models[0], missing)
    wrong = (Column(name="carrier", dtype="float"), *columns[1:])
    with pytest.raises(InvalidInput, match="'carrier' is float") as caught:
        OnnxModel(onnx_models[0], msgspec.structs.replace(signature, inputs=Schema(columns=wrong)))
    assert caught.value.path == "$.inputs.carrier"
    with pytest.raises(InvalidInput, match="cannot load"):
        OnnxModel(b"no graph", signature)
