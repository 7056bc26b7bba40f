"""A model in ONNX Runtime: named columns in, named outputs out.

A missing value goes in as NaN where the graph takes a floating-point tensor and as "" where it takes strings; an
integer or boolean tensor has no such value, so a column behind one takes no null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Signature
from salus.kernel.structs import Record

Array = npt.NDArray[Any]
Getter = Callable[[Any], tuple[Any, ...]]
Read = Callable[[list[Any]], list[Any]]

_TENSORS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_FLOATING = (np.float16, np.float32, np.float64)
_REMEDY = "Register the model again with a signature that fits its ONNX graph."


class Tensor(Record):
    """One input of the graph and the columns that fill it, side by side. `flat`: it has no second dimension."""

    name: str
    dtype: Any
    columns: tuple[str, ...]
    flat: bool = False


class OnnxModel:
    """A loaded model. `score` may be called from any thread.

    Raises:
        InvalidInput: the bytes are no ONNX model, or the graph and the signature do not fit.
    """

    def __init__(self, content: bytes, signature: Signature) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidInput(f"ONNX Runtime cannot load the model: {error}", remedy=_REMEDY) from error
        self.signature = signature
        self.tensors = plan_inputs(signature, self._session.get_inputs())
        wanted, self._readers = plan_outputs(signature, self._session.get_outputs())
        self._wanted = wanted

    def takes_null(self, name: str) -> bool:
        """Whether a missing value of that column can be passed on."""
        return all(tensor.dtype in (*_FLOATING, np.object_) for tensor in self.tensors if name in tensor.columns)

    def blocks(self, getter: Callable[[Sequence[str]], Getter]) -> list[tuple[list[tuple[str, bool]], Getter, Any]]:
        """How rows become tensors: per element type, the tensors (one column each) that one array fills."""
        blocks: list[tuple[list[tuple[str, bool]], Getter, Any]] = []
        for dtype in {tensor.dtype for tensor in self.tensors}:
            singles = [t for t in self.tensors if t.dtype is dtype and len(t.columns) == 1]
            if singles:
                names = [t.columns[0] for t in singles]
                blocks.append(([(t.name, t.flat) for t in singles], getter(names), dtype))
        return blocks

    def matrices(self, getter: Callable[[Sequence[str]], Getter]) -> list[tuple[str, Getter, Any]]:
        """The tensors that take several columns at once."""
        return [(t.name, getter(t.columns), t.dtype) for t in self.tensors if len(t.columns) > 1]

    def run(self, feed: dict[str, Array]) -> list[dict[str, Any]]:
        """The outputs by column, one dict a row."""
        raw = self._session.run(self._wanted, feed)
        if len(self._readers) == 1:
            ((name, read),) = self._readers
            return [{name: value} for value in read(raw)]
        columns = [read(raw) for _, read in self._readers]
        names = [name for name, _ in self._readers]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


class Scorer:
    """A model with the shape of the rows it is given."""

    def __init__(self, model: OnnxModel, getter: Callable[[Sequence[str]], Getter]) -> None:
        self._model = model
        self._blocks = model.blocks(getter)
        self._matrices = model.matrices(getter)

    def warm_up(self, rows: Sequence[Any]) -> None:
        """Scores `rows` as one and one by one, so that the first request finds memory and code ready."""
        with suppress(Exception):
            self.score(rows)
            self.score(rows[:1])

    def score(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The outputs of each row. Raises whatever ONNX Runtime or numpy raise."""
        n = len(rows)
        feed: dict[str, Array] = {}
        for tensors, get, dtype in self._blocks:
            columns = _array([get(row) for row in rows], dtype)
            if n > 1:
                columns = np.ascontiguousarray(columns.T)
            columns = columns.reshape(len(tensors), n)
            for (name, flat), column in zip(tensors, columns, strict=True):
                feed[name] = column if flat else column.reshape(n, 1)
        for name, get, dtype in self._matrices:
            feed[name] = _array([get(row) for row in rows], dtype)
        outputs = self._model.run(feed)
        if len(outputs) != n:
            raise ValueError(f"the model gave {len(outputs)} answers to {n} rows")
        return outputs


def _array(values: list[tuple[Any, ...]], dtype: Any) -> Array:
    if dtype is np.object_:
        values = [tuple(["" if value is None else value for value in row]) for row in values]
    return np.array(values, dtype=dtype)


def plan_inputs(signature: Signature, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    """Which columns fill which input: by name; one input of any other name takes all remaining columns of its kind.

    Raises:
        InvalidInput: an input has no column, or a column's type cannot become the tensor's.
    """
    columns = {column.name: column for column in signature.inputs.columns}
    free = [column for name, column in columns.items() if name not in {item.name for item in inputs}]
    tensors = []
    for item in inputs:
        dtype = _TENSORS.get(item.type)
        if dtype is None:
            raise InvalidInput(f"the graph's input {item.name!r} has the type {item.type}", remedy=_REMEDY)
        column = columns.get(item.name)
        if column is not None:
            taken = [column]
        else:
            taken = [column for column in free if (column.dtype == "string") == (dtype is np.object_)]
            free = [column for column in free if column not in taken]
        if not taken:
            raise InvalidInput(f"no column of the signature fills the graph's input {item.name!r}", remedy=_REMEDY)
        for one in taken:
            _check_fit(one, item.name, item.type, dtype)
        _check_width(item, len(taken))
        names = tuple(one.name for one in taken)
        tensors.append(Tensor(name=item.name, dtype=dtype, columns=names, flat=len(item.shape or ()) == 1))
    return tuple(tensors)


def _check_fit(column: Column, name: str, type_: str, dtype: Any) -> None:
    fits = {
        "string": dtype is np.object_,
        "bool": dtype is not np.object_,
        "int": dtype is not np.object_ and dtype is not np.bool_,
        "time": dtype in (np.int64, np.float64),
        "float": dtype in _FLOATING,
    }[column.dtype]
    if not fits:
        raise InvalidInput(
            f"the column {column.name!r} is {column.dtype}, the graph's input {name!r} takes {type_}",
            path=f"$.inputs.{column.name}",
            remedy=_REMEDY,
        )


def _check_width(item: Any, width: int) -> None:
    wants = item.shape[1] if len(item.shape or ()) == 2 else 1
    if isinstance(wants, int) and wants != width:
        raise InvalidInput(
            f"the graph's input {item.name!r} takes {wants} columns, the signature has {width} for it",
            remedy=_REMEDY,
        )


def plan_outputs(signature: Signature, outputs: Sequence[Any]) -> tuple[list[str], list[tuple[str, Read]]]:
    """Which outputs to ask the graph for, and per output column how to read them.

    Columns are found by name first. What scikit-learn's classifiers become is known: a label and the probabilities
    as a tensor (n, classes), as maps from class to probability, or as one tensor a class; a `binary` model's
    `probability` is that of the last class in sorted order, which is the positive one.

    Raises:
        InvalidInput: a column of the signature is nowhere in the graph.
    """
    columns = signature.outputs.columns
    named = {item.name for item in outputs}
    if all(column.name in named for column in columns):
        wanted = [column.name for column in columns]
        column_of = _last_column if signature.task == "binary" else _flat
        return wanted, [(name, column_of(index)) for index, name in enumerate(wanted)]
    floats = [item for item in outputs if "float" in item.type or "double" in item.type]
    if not floats:
        types = ", ".join(f"{item.name}: {item.type}" for item in outputs)
        raise InvalidInput(f"the graph gives no numbers ({types})", path="$.outputs", remedy=_REMEDY)
    if signature.task == "binary":
        last = floats[-1]
        read = _largest_class(0) if last.type.startswith("seq(map") else _last_column(0)
        return [last.name], [(columns[0].name, read)]
    if signature.task == "multiclass":
        return _plan_classes(columns, outputs, floats)
    if len(columns) == 1:
        return [floats[0].name], [(columns[0].name, _flat(0))]
    missing = ", ".join(column.name for column in columns if column.name not in named)
    raise InvalidInput(f"the graph has no output {missing}", path="$.outputs", remedy=_REMEDY)


def _plan_classes(
    columns: Sequence[Column], outputs: Sequence[Any], floats: Sequence[Any]
) -> tuple[list[str], list[tuple[str, Read]]]:
    labels = [item for item in outputs if item not in floats]
    classes = [column for column in columns if column.dtype == "float"]
    named = [column for column in columns if column.dtype != "float"]
    if len(named) > len(labels) or (len(floats) > 1 and len(floats) != len(classes)):
        raise InvalidInput(
            f"the signature has {len(classes)} classes and {len(named)} labels, the graph gives "
            f"{', '.join(item.name for item in outputs)}",
            path="$.outputs",
            remedy=_REMEDY,
        )
    wanted = [item.name for item in floats] + [item.name for item in labels[: len(named)]]
    readers: list[tuple[str, Read]] = []
    for place, column in enumerate(classes):
        if len(floats) > 1:
            readers.append((column.name, _flat(place)))
        elif floats[0].type.startswith("seq(map"):
            readers.append((column.name, _nth_class(0, place)))
        else:
            readers.append((column.name, _column(0, place)))
    readers += [(column.name, _flat(len(floats) + index)) for index, column in enumerate(named)]
    return wanted, readers


def _flat(index: int) -> Read:
    return lambda raw: raw[index].reshape(-1).tolist()


def _column(index: int, place: int) -> Read:
    return lambda raw: raw[index][:, place].tolist()


def _last_column(index: int) -> Read:
    def read(raw: list[Any]) -> list[Any]:
        values = raw[index]
        return (values if values.ndim == 1 else values[:, -1]).tolist()  # type: ignore[no-any-return]

    return read


def _nth_class(index: int, place: int) -> Read:
    return lambda raw: [row[sorted(row)[place]] for row in raw[index]]


def _largest_class(index: int) -> Read:
    return lambda raw: [row[max(row)] for row in raw[index]]
