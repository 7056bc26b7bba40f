"""Whether an ONNX model takes what its signature says. Runs where models are made, never on the control plane."""

from __future__ import annotations

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as engine

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Signature

_REFUSALS = (
    engine.Fail,
    engine.InvalidArgument,
    engine.InvalidGraph,
    engine.InvalidProtobuf,
    engine.NoModel,
    engine.NotImplemented,
    engine.RuntimeException,
)
_TYPES = {
    "tensor(float)": ("float", "int"),
    "tensor(double)": ("float", "int"),
    "tensor(int64)": ("int", "time"),
    "tensor(int32)": ("int",),
    "tensor(string)": ("string",),
    "tensor(bool)": ("bool",),
}


def check_onnx(model: bytes, signature: Signature) -> None:
    """Refuses a model whose inputs are not the signature's: one tensor a column of the same name and kind, or a
    single matrix of as many numbers as there are columns.

    Raises:
        InvalidInput: the bytes are no ONNX model, or its inputs are others; `path` names the column.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise InvalidInput(f"the bytes are no ONNX model: {str(error)[:300]}", path="$.files[0]") from error
    taken = {node.name: node for node in session.get_inputs()}
    columns = {column.name: column for column in signature.inputs.columns}
    if len(taken) == 1 and set(taken) != set(columns):
        _check_matrix(next(iter(taken.values())), signature)
        return
    for name in sorted(set(taken) ^ set(columns)):
        lacks = "the model takes an input that the signature lacks" if name in taken else "the model takes no input"
        raise InvalidInput(
            f"{lacks}: {name!r}",
            path=f"$.signature.inputs.{name}",
            remedy=f"The model takes {', '.join(taken)}; make the signature from the table it was trained on.",
        )
    for name, node in taken.items():
        _check_kind(columns[name], node.type)


def _check_kind(column: Column, tensor: str) -> None:
    lawful = _TYPES.get(tensor, ())
    if column.dtype not in lawful:
        raise InvalidInput(
            f"the model takes {column.name} as {tensor}, the signature says {column.dtype}",
            path=f"$.signature.inputs.{column.name}",
            remedy=f"Declare it as {' or '.join(lawful)}." if lawful else "Convert the model to plain tensors.",
        )


def _check_matrix(node: onnxruntime.NodeArg, signature: Signature) -> None:
    width = node.shape[-1] if len(node.shape) == 2 else None
    columns = signature.inputs.columns
    if isinstance(width, int) and width != len(columns):
        raise InvalidInput(
            f"the model takes {width} numbers a row, the signature has {len(columns)} inputs",
            path="$.signature.inputs",
        )
    for column in columns:
        _check_kind(column, node.type)
