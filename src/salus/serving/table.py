"""Predictions as a table: one row for each answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from salus.kernel.schema import DType, Schema
from salus.serving.model.endpoints import Revision
from salus.serving.wire import Answer, PredictionRecord, prediction_id

_DTYPES: dict[DType, type[pl.DataType]] = {
    "int": pl.Int64,
    "float": pl.Float64,
    "string": pl.String,
    "bool": pl.Boolean,
    "time": pl.Int64,
}

FIXED: dict[str, type[pl.DataType]] = {
    "prediction_id": pl.String,
    "seq": pl.Int64,
    "plane": pl.String,
    "event_ms": pl.Int64,
    "at_ms": pl.Int64,
    "key": pl.String,
    "revision": pl.String,
    "version": pl.String,
    "role": pl.String,
    "latency_us": pl.Int64,
    "error": pl.String,
}
"""The columns that each predictions table has; behind them come `in.<input>` and `out.<output>`."""


def answers_of(record: PredictionRecord) -> Sequence[Answer]:
    """The record's answers, each revision once: the live one where a revision answered twice."""
    if len(record.answers) < 2:
        return record.answers
    once: dict[str, Answer] = {}
    for answer in record.answers:
        if answer.revision not in once or answer.role == "live":
            once[answer.revision] = answer
    return list(once.values())


def predictions_table(
    plane: str, records: Sequence[PredictionRecord], revisions: Mapping[str, Revision]
) -> pl.DataFrame:
    """`records` of one endpoint with the columns of `FIXED`, `in.*` and `out.*`; a missing value is null.

    `revisions` are all that the endpoint ever had: their signatures name and type the columns, so that every batch of
    the endpoint has the same ones.
    """
    places: list[int] = []
    answers: list[Answer] = []
    for place, record in enumerate(records):
        for answer in answers_of(record):
            places.append(place)
            answers.append(answer)
    rows = pl.DataFrame(
        {
            "prediction_id": [prediction_id(plane, record.seq) for record in records],
            "seq": [record.seq for record in records],
            "plane": [plane] * len(records),
            "event_ms": [record.event_ms for record in records],
            "at_ms": [record.at_ms for record in records],
            "key": [record.key for record in records],
        },
        schema={name: FIXED[name] for name in ("prediction_id", "seq", "plane", "event_ms", "at_ms", "key")},
    )
    inputs = _columns("in.", [record.inputs for record in records], _types(revisions, "inputs"))
    given = pl.DataFrame(
        {
            "revision": [answer.revision for answer in answers],
            "version": [revisions[answer.revision].version for answer in answers],
            "role": [answer.role for answer in answers],
            "latency_us": [answer.latency_us for answer in answers],
            "error": [answer.error for answer in answers],
        },
        schema={name: FIXED[name] for name in ("revision", "version", "role", "latency_us", "error")},
    )
    outputs = _columns("out.", [answer.output or {} for answer in answers], _types(revisions, "outputs"))
    asked = rows.hstack(inputs) if inputs else rows
    if len(answers) != len(records):
        asked = asked[places]
    table = pl.concat([asked, given.hstack(outputs) if outputs else given], how="horizontal")
    return table.select(*FIXED, *(name for name in table.columns if name not in FIXED))


def _types(revisions: Mapping[str, Revision], side: str) -> dict[str, DType]:
    """The type of each column over all revisions; where they differ between int and float, float."""
    types: dict[str, DType] = {}
    for revision in revisions.values():
        schema: Schema = getattr(revision.signature, side)
        for column in schema.columns:
            known = types.get(column.name)
            types[column.name] = column.dtype if known is None or column.dtype == "float" else known
    return types


def _columns(prefix: str, cells: Sequence[Mapping[str, Any]], types: Mapping[str, DType]) -> list[pl.Series]:
    return [
        pl.Series(prefix + name, [row.get(name) for row in cells], dtype=_DTYPES[dtype], strict=False)
        for name, dtype in types.items()
    ]


def number_in(answer: Answer, column: str | None) -> float | None:
    """The answer's output in `column` as a finite number, or None."""
    value = (answer.output or {}).get(column) if column else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def failed(answer: Answer, column: str | None) -> bool:
    """Whether the answer is none: an error, or no finite number in the output that the task asks for."""
    return answer.error is not None or (column is not None and number_in(answer, column) is None)
