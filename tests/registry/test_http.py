"""Models over real HTTP, through the SDK, with a real ONNX model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.lineage import Graph
from salus.registry.client import RegistryClient, infer_signature
from salus.registry.model import ModelVersion, NewGate
from salus.sdk.session import path
from salus.testing.servers import RunningServer

TABLE = pl.DataFrame({"temp": [float(x) for x in range(40)], "wind": [float(x % 7) for x in range(40)]})


@cache
def onnx_model() -> bytes:
    x = TABLE.to_numpy().astype(np.float32)
    model = LogisticRegression().fit(x, np.arange(40) % 2)
    converted = to_onnx(model, initial_types=[("X", FloatTensorType([None, 2]))], options={"zipmap": False})
    raw: bytes = converted.SerializeToString()
    return raw


@pytest.fixture
def client(server: RunningServer) -> RegistryClient:
    return RegistryClient(server.session)


def test_the_life_of_a_version(client: RegistryClient, server: RunningServer) -> None:
    answers = pl.DataFrame({"probability": [0.25] * 40})
    made = client.log_onnx("delay", onnx_model(), TABLE, outputs=answers, metrics={"auc": 0.81}, features=["weather"])
    assert (made.version, made.state, made.flavour, made.executable) == ("1.0.0", "candidate", "onnx", False)
    assert made.input_profile is not None
    assert made.input_profile.columns[0].mean == 19.5
    assert made.output_profile is not None
    assert made.output_profile.columns[0].name == "probability"
    assert made.input_example[1] == {"temp": 1.0, "wind": 1.0}
    checked = client.check_gates("delay", "1.0.0", [NewGate(name="auc", passed=True, evidence={"auc": 0.81})])
    assert checked.state == "approved"
    assert client.alias("delay", "champion", "1.0.0").aliases == {"champion": "1.0.0"}
    files = client.download("delay", "champion")
    assert files["model.onnx"].read_bytes() == onnx_model()
    assert client.version("delay") == client.version("delay", "champion") == client.versions("delay")[0]
    assert [model.name for model in client.list()] == ["delay"]
    graph = server.session.call("GET", path("lineage"), query={"node": made.node}, expect=Graph)
    assert graph.nodes == ["feature_view:weather", "model_version:delay@1.0.0"]


def test_an_onnx_model_that_does_not_fit_is_refused_before_it_is_sent(client: RegistryClient) -> None:
    with pytest.raises(InvalidInput, match="2 numbers a row"):
        client.log_onnx("delay", onnx_model(), TABLE.with_columns(gust=pl.col("wind")))
    with pytest.raises(InvalidInput, match="says string"):
        client.log_onnx("delay", onnx_model(), TABLE.with_columns(wind=pl.lit("N")))
    for junk in (b"junk", b""):
        with pytest.raises(InvalidInput, match="no ONNX model"):
            client.log_onnx("delay", junk, TABLE)
    with pytest.raises(NotFound):
        client.get("delay")


def named_onnx_model(*names: str) -> bytes:
    """probability = sigmoid(the sum of the named inputs)."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
    output = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])
    nodes = [helper.make_node("Sum", list(names), ["sum"]), helper.make_node("Sigmoid", ["sum"], ["probability"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output]), opset_imports=[helper.make_opsetid("", 15)], ir_version=8
    )
    raw: bytes = model.SerializeToString()
    return raw


def test_named_columns_must_be_the_signatures(client: RegistryClient) -> None:
    assert client.log_onnx("delay", named_onnx_model("wind", "temp"), TABLE).version == "1.0.0"
    with pytest.raises(InvalidInput) as caught:
        client.log_onnx("delay", named_onnx_model("temp", "gust"), TABLE)
    assert caught.value.path == "$.signature.inputs.gust"
    with pytest.raises(InvalidInput, match="takes no input: 'gust'"):
        client.log_onnx("delay", named_onnx_model("temp", "wind"), TABLE.with_columns(gust=pl.col("wind")))


def test_files_may_be_paths_and_pickles_are_marked(client: RegistryClient, tmp_path: Path) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(b"\x80\x05.")
    version = client.register("delay", {"m.pkl": file}, infer_signature(TABLE), flavour="sklearn", inputs=TABLE)
    assert version.files[0].executable
    assert client.decide("delay", "1.0.0", "rejected", "a pickle").state == "rejected"


def test_a_repeated_registration_makes_one_version(server: RunningServer, client: RegistryClient) -> None:
    made = client.register("delay", {"model.onnx": onnx_model()}, infer_signature(TABLE))
    file = {"path": "model.onnx", "digest": made.files[0].digest}
    signature = {
        "inputs": {"columns": [{"name": "temp", "dtype": "float"}]},
        "outputs": {"columns": [{"name": "probability", "dtype": "float"}]},
        "task": "binary",
    }
    body = {"flavour": "onnx", "files": [file], "signature": signature}
    url = path("models", "delay", "versions")
    one = server.session.call("POST", url, body=body, expect=ModelVersion, key="k")
    two = server.session.call("POST", url, body=body, expect=ModelVersion, key="k")
    assert one == two
    assert [version.version for version in client.versions("delay")] == ["2.0.0", "1.0.0"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"flavour": "onnx", "files": []}, "signature"),
        ({"flavour": "onnx", "signature": {"inputs": {"columns": 3}}, "files": []}, "columns"),
        ([], "object"),
    ],
)
def test_a_malformed_version_names_the_field(server: RunningServer, body: object, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        server.session.call("POST", path("models", "delay", "versions"), body=body, expect=ModelVersion)
