"""Signatures: which ones are lawful, whether rows fit, and the one that a table suggests. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from salus.data.model import Profile
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema, Signature, Task
from salus.registry.model import MAX_EXAMPLE_ROWS

ANSWERS: dict[Task, str] = {"binary": "probability", "regression": "value"}
"""The float column that a model of this task answers with."""


def check_signature(signature: Signature, path: str = "$.signature") -> None:
    """Refuses a signature that lacks what its task needs.

    Raises:
        InvalidInput: no inputs or outputs; a binary model without the float output `probability`, a regression
            without `value`, a multiclass model with less than two probabilities.
    """
    for side, schema in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if not schema.columns:
            raise InvalidInput(f"a signature names its {side}: at least one column", path=f"{path}.{side}.columns")
        for index, column in enumerate(schema.columns):
            if not column.name:
                raise InvalidInput("a column has a name", path=f"{path}.{side}.columns[{index}].name")
    answer = ANSWERS.get(signature.task)
    floats = [column.name for column in signature.outputs.columns if column.dtype == "float"]
    if answer is not None and answer not in floats:
        raise InvalidInput(
            f"a {signature.task} model answers with the float column {answer!r}, "
            f"got {', '.join(signature.outputs.names)}",
            path=f"{path}.outputs",
            remedy=f"Name the output {answer!r}, or take the task 'other'.",
        )
    if signature.task == "multiclass" and len(floats) < 2:
        raise InvalidInput(
            f"a multiclass model answers with one float column a class, got {len(floats)}",
            path=f"{path}.outputs",
        )


def check_rows(schema: Schema, rows: Sequence[dict[str, Any]], path: str) -> None:
    """Refuses rows that a model of these inputs could not take.

    Raises:
        InvalidInput: the first column that is missing, unknown or of another type, at its path.
    """
    if len(rows) > MAX_EXAMPLE_ROWS:
        raise InvalidInput(f"an example has at most {MAX_EXAMPLE_ROWS} rows, got {len(rows)}", path=path)
    for index, row in enumerate(rows):
        for name in row:
            if schema.get(name) is None:
                raise InvalidInput(
                    f"the signature has no input {name!r}",
                    path=f"{path}[{index}].{name}",
                    remedy=f"Its inputs are {', '.join(schema.names)}.",
                )
        for column in schema.columns:
            _check_cell(column, row, f"{path}[{index}].{column.name}")


def _check_cell(column: Column, row: dict[str, Any], path: str) -> None:
    if column.name not in row:
        raise InvalidInput(f"the input {column.name!r} is missing", path=path)
    value = row[column.name]
    if value is None:
        if not column.nullable:
            raise InvalidInput(f"{column.name} is never missing, got null", path=path)
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    lawful = {
        "int": number and isinstance(value, int),
        "time": number and isinstance(value, int),
        "float": number and math.isfinite(value),
        "string": isinstance(value, str),
        "bool": isinstance(value, bool),
    }[column.dtype]
    if not lawful:
        raise InvalidInput(f"{column.name} is of type {column.dtype}, got {value!r}", path=path)


def check_profile(schema: Schema, profile: Profile | None, path: str) -> None:
    """Refuses a profile of columns that the schema does not have. Raises `InvalidInput`."""
    for index, column in enumerate(profile.columns if profile else ()):
        if schema.get(column.name) is None:
            raise InvalidInput(
                f"the signature has no column {column.name!r}",
                path=f"{path}.columns[{index}].name",
                remedy=f"It has {', '.join(schema.names)}.",
            )


def outputs_of(task: Task, classes: Sequence[str] = ()) -> Schema:
    """The outputs of a model of this task: `probability`, `value`, or one probability for each of `classes`.

    >>> outputs_of("binary").names, outputs_of("multiclass", ["cat", "dog"]).names
    (('probability',), ('cat', 'dog'))
    """
    names = [ANSWERS[task]] if task in ANSWERS else list(classes)
    if not names:
        raise InvalidInput(
            f"the outputs of a {task} model must be named", path="outputs", remedy="Give their names or a schema."
        )
    return Schema(columns=tuple(Column(name=name, dtype="float", nullable=False) for name in names))
