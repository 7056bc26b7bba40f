"""Scores a table with an ONNX model in the worker: named columns in, one number a row out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import polars as pl
from numpy.typing import NDArray

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Signature

_NUMPY: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_OUTPUT = {"binary": "probability", "regression": "value"}


def score(content: bytes, signature: Signature, frame: pl.DataFrame) -> NDArray[np.float64]:
    """The model's answers to the rows of `frame` (columns `in.<input>`), shape (n,); missing values as NaN or "".

    Raises:
        InvalidInput: the task has no number to compare, or graph and signature do not fit.
    """
    output = _OUTPUT.get(signature.task)
    if output is None:
        raise InvalidInput(f"models of the task {signature.task!r} cannot be compared by a loss yet", path="task")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [found.name for found in session.get_outputs()]
    wanted = output if output in names else names[-1]
    answers = np.asarray(session.run([wanted], _feed(session.get_inputs(), signature, frame))[0], dtype=np.float64)
    if answers.ndim == 2:
        answers = answers[:, -1]
    return answers.reshape(-1)


def _feed(inputs: list[Any], signature: Signature, frame: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """Each input by its name; an input of another name takes all columns that are left, side by side."""
    columns = list(signature.inputs.names)
    named = {found.name for found in inputs} & set(columns)
    rest = [column for column in columns if column not in named]
    feed = {}
    for found in inputs:
        dtype = _NUMPY.get(found.type)
        if dtype is None:
            raise InvalidInput(f"the graph's input {found.name!r} has the type {found.type}", path="model.onnx")
        taken = [found.name] if found.name in named else rest
        matrix = np.stack([_array(frame[f"in.{column}"], dtype) for column in taken], axis=1)
        flat = found.shape is not None and len(found.shape) == 1
        feed[found.name] = matrix[:, 0] if flat else matrix
    return feed


def _array(series: pl.Series, dtype: Any) -> NDArray[Any]:
    if dtype is np.object_:
        return series.cast(pl.String).fill_null("").to_numpy().astype(object)
    if dtype in (np.float32, np.float64):
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(dtype)
    return series.to_numpy().astype(dtype)
