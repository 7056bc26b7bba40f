"""Schemas: columns of a table, inputs and outputs of a model. One noun for data, features, registry, serving."""

from __future__ import annotations

from typing import Literal

from salus.kernel.errors import InvalidInput
from salus.kernel.structs import Record

DType = Literal["int", "float", "string", "bool", "time"]
"""`time` is milliseconds since 1970, UTC. `int` is 64 bits, `float` is 64 bits."""

Task = Literal["binary", "multiclass", "regression", "other"]
"""What a model answers: a probability, one probability a class, a number, or anything else."""


class Column(Record):
    """One column: `nullable` says whether a missing value is lawful."""

    name: str
    dtype: DType
    nullable: bool = True


class Schema(Record):
    """Columns in order, with unique names."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"column names must be unique, got {', '.join(twice)} twice", path="$.columns")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def get(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


class Signature(Record):
    """What a model takes and gives.

    A `binary` model's output is the float column `probability` (of the positive class), a `regression`'s `value`.
    """

    inputs: Schema
    outputs: Schema
    task: Task = "other"
