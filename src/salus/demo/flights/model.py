"""The model: will this departure arrive more than 15 minutes late?

Its inputs are raw named columns, numbers and codes, with gaps where something is not known. All preparation
lives inside the pipeline, and so inside the ONNX graph: whoever asks the served model needs no code of ours.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

FEATURES: Mapping[str, str] = {
    "carrier": "string",
    "origin": "string",
    "dep_delay": "number",
    "distance": "number",
    "scheduled_min": "number",
    "minute_of_day": "number",
    "weekday": "number",
    "wind_speed": "number",
    "precip": "number",
    "visib": "number",
    "plane_year": "number",
    "seats": "number",
}
"""The model's inputs by name: "number" (float32, NaN where missing) or "string" ("" where missing)."""

LABEL = "late"

_ROWS_PER_LEAF = 8_000
_SMALLEST_TREE, _LARGEST_TREE = 6, 16
_MAX_PARITY_GAP = 1e-4


def train(frame: pl.DataFrame, *, seed: int = 0) -> Pipeline:
    """Fits the pipeline on the columns `FEATURES` and `LABEL`; takes about 2 s of CPU for 100,000 rows.

    The trees grow with the data, one leaf for every 8,000 rows but 6 at least and 16 at most: two months bear
    small trees only (larger ones learn the weather of single days by heart), a year bears larger ones.

    Raises:
        ValueError: a column is missing, or a label is.
    """
    missing = [name for name in (*FEATURES, LABEL) if name not in frame.columns]
    if missing:
        raise ValueError(f"training needs the columns {', '.join(missing)}, got {', '.join(frame.columns)}")
    if frame[LABEL].null_count():
        raise ValueError(f"{LABEL} must be known in every row, is null in {frame[LABEL].null_count()}; drop them first")
    codes = [name for name, kind in FEATURES.items() if kind == "string"]
    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=50, sparse_output=False, dtype=np.float32)
    pipeline = Pipeline(
        [
            ("columns", ColumnTransformer([("codes", one_hot, codes)], remainder="passthrough")),
            (
                "trees",
                HistGradientBoostingClassifier(
                    max_iter=100,
                    max_leaf_nodes=min(max(frame.height // _ROWS_PER_LEAF, _SMALLEST_TREE), _LARGEST_TREE),
                    min_samples_leaf=200,
                    l2_regularization=10.0,
                    early_stopping=False,
                    random_state=seed,
                ),
            ),
        ]
    )
    return pipeline.fit(inputs(frame), frame[LABEL].cast(pl.Int8).to_numpy())


def inputs(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns `FEATURES` of `frame` in their order and in the model's types, gaps as NaN and ""."""
    return frame.select(
        pl.col(name).cast(pl.Float32).fill_null(float("nan"))
        if kind == "number"
        else pl.col(name).cast(pl.String).fill_null("")
        for name, kind in FEATURES.items()
    )


def probability(pipeline: Pipeline, frame: pl.DataFrame) -> NDArray[np.float64]:
    """The fitted pipeline's probability of being late, shape `(n,)`."""
    return np.asarray(pipeline.predict_proba(inputs(frame))[:, 1], dtype=np.float64)


def to_onnx(pipeline: Pipeline, example: pl.DataFrame) -> bytes:
    """The fitted pipeline as ONNX: an input of shape `(n, 1)` per feature, one output `probability` `(n,)`.

    The graph is run on `example` and compared with the pipeline before it is returned.

    Raises:
        ValueError: the two differ by more than 0.0001 on some row.
    """
    types = {"number": FloatTensorType([None, 1]), "string": StringTensorType([None, 1])}
    converted = convert_sklearn(
        pipeline,
        name="flight_delay",
        initial_types=[(name, types[kind]) for name, kind in FEATURES.items()],
        options={"zipmap": False},
        custom_conversion_functions={HistGradientBoostingClassifier: _convert_trees},
        custom_shape_calculators={HistGradientBoostingClassifier: calculate_linear_classifier_output_shapes},
    )
    graph = _only_probability(converted)
    gap = float(np.max(np.abs(run_onnx(graph, example) - probability(pipeline, example))))
    if not gap <= _MAX_PARITY_GAP:
        raise ValueError(f"the ONNX graph must agree with the pipeline within {_MAX_PARITY_GAP}, differs by {gap:.3g}")
    return graph


def run_onnx(graph: bytes, frame: pl.DataFrame) -> NDArray[np.float64]:
    """The ONNX model's probability of being late for the rows of `frame`, shape `(n,)`."""
    session = onnxruntime.InferenceSession(graph)
    return np.asarray(session.run(["probability"], tensors(frame))[0], dtype=np.float64)


def tensors(frame: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """The rows of `frame` as the ONNX graph takes them: an array of shape `(n, 1)` per feature."""
    return {
        column.name: column.to_numpy().astype(object if FEATURES[column.name] == "string" else np.float32)[:, None]
        for column in inputs(frame)
    }


class _WholeNumbers:
    """An ONNX container that writes the flags of tree nodes as 0 and 1.

    skl2onnx 1.20 mixes `False` into a list of integers, which protobuf 7 refuses (protobuf 6 took it).
    """

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> None:
        flags = "nodes_missing_value_tracks_true"
        if flags in attributes:
            attributes[flags] = [int(flag) for flag in attributes[flags]]
        self._container.add_node(*arguments, **attributes)


def _convert_trees(scope: Any, operator: Any, container: Any) -> None:
    convert_sklearn_random_forest_classifier(scope, operator, _WholeNumbers(container))


def _only_probability(model: onnx.ModelProto) -> bytes:
    """`model` with the second column of its class probabilities as its single output."""
    graph = model.graph
    both_classes = graph.output[1].name
    graph.initializer.append(helper.make_tensor("late_class", TensorProto.INT64, [], [1]))
    graph.node.append(helper.make_node("Gather", [both_classes, "late_class"], ["probability"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
