"""Outcomes: predictions joined with what became of them, over a stretch of event time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.segments import Segments
from salus.kernel.segments_snapshot import Snapshot
from salus.kernel.sql import Reader
from salus.serving.model.labels import Completeness
from salus.serving.model.predictions import PredictionRow
from salus.serving.service.endpoints import get_endpoint
from salus.serving.store import labels as label_store
from salus.serving.store.predictions import since_for, table_of
from salus.serving.table import FIXED
from salus.serving.wire import LAST_MS

LABEL_COLUMNS: dict[str, type[pl.DataType]] = {
    "label": pl.Float64,
    "label_category": pl.String,
    "label_event_ms": pl.Int64,
}
"""What a label adds to a prediction's row: its number (binary: 0 and 1) or its category, and when it was known."""

_EVENT_MS = re.compile(r"-?[0-9]{1,19}")
_NONE: list[tuple[str, type[pl.DataType]]] = [*FIXED.items(), *LABEL_COLUMNS.items()]
_LABEL_SCHEMA: list[tuple[str, type[pl.DataType]]] = [("prediction_id", pl.String), *LABEL_COLUMNS.items()]


class Outcomes:
    """A stretch of predictions with their labels, to be read after the transaction."""

    def __init__(self, snapshot: Snapshot | None, labels: pl.DataFrame) -> None:
        self._snapshot = snapshot
        self._labels = labels

    def read(self) -> pl.DataFrame:
        """One row for each answer, by event time: the columns of `FIXED`, `in.*`, `out.*`, `label`, `label_category`
        and `label_event_ms` (null while there is no label)."""
        if self._snapshot is None:
            return pl.DataFrame(schema=_NONE)
        rows = self._snapshot.scan()
        joined = rows.join(self._labels.lazy(), on="prediction_id", how="left", maintain_order="left")
        return joined.sort("event_ms", maintain_order=True).collect()


def outcomes(
    reader: Reader,
    actor: Actor,
    name: str,
    segments: Segments,
    *,
    from_ms: int,
    to_ms: int,
    columns: Sequence[str] | None = None,
) -> Outcomes:
    """Predictions with an event time in [from_ms, to_ms), live answers and shadows, joined with their labels.

    Files outside the stretch are not read. `columns` limits the prediction's columns; `prediction_id` and
    `event_ms` are always there.

    Raises:
        NotFound: no such endpoint.
        InvalidInput: the stretch is empty, or there is no such column.
    """
    get_endpoint(reader, actor, name)
    if from_ms >= to_ms:
        raise InvalidInput(f"from_ms must lie before to_ms, got {from_ms} and {to_ms}", path="from_ms")
    snapshot = _predictions(reader, actor, name, segments, columns, ("event_ms", from_ms, to_ms - 1))
    found = label_store.between(reader, actor.workspace, name, from_ms, to_ms)
    labels = pl.DataFrame([tuple(row) for row in found], schema=_LABEL_SCHEMA, orient="row")
    return Outcomes(snapshot, labels)


def _predictions(
    reader: Reader,
    actor: Actor,
    name: str,
    segments: Segments,
    columns: Sequence[str] | None,
    where: tuple[str, int | None, int | None],
) -> Snapshot | None:
    wanted = None
    if columns is not None:
        wanted = list(dict.fromkeys(["prediction_id", "event_ms", *columns]))
    try:
        return segments.snapshot(reader, table_of(actor.workspace, name), columns=wanted, where=where)
    except NotFound:
        return None


def completeness(reader: Reader, actor: Actor, name: str, segments: Segments, *, from_ms: int, to_ms: int) -> Outcomes:
    """What `completeness_of` counts from: no more columns than it needs."""
    return outcomes(reader, actor, name, segments, from_ms=from_ms, to_ms=to_ms, columns=["prediction_id", "role"])


def completeness_of(found: Outcomes) -> Completeness:
    """How many live predictions have their label."""
    rows = found.read().filter(pl.col("role") == "live")
    labelled = rows.select(pl.col("label_event_ms").is_not_null().sum()).item()
    return Completeness(predictions=rows.height, labelled=labelled)


class Recent:
    """The newest predictions, to be read after the transaction."""

    def __init__(self, snapshot: Snapshot | None, cursor: tuple[int, str] | None, limit: int) -> None:
        self._snapshot = snapshot
        self._cursor = cursor
        self._limit = limit

    def read(self) -> list[PredictionRow]:
        """At most `limit` predictions, newest first, each with all its answers."""
        if self._snapshot is None:
            return []
        rows = self._snapshot.scan()
        order, place = [pl.col("event_ms"), pl.col("prediction_id")], self._cursor
        if place is not None:
            earlier = order[0] < place[0]
            rows = rows.filter(earlier | ((order[0] == place[0]) & (order[1] < place[1])))
        table = rows.sort(*order, descending=True, maintain_order=True).collect()
        kept = table["prediction_id"].unique(maintain_order=True).head(self._limit)
        shown = table.filter(pl.col("prediction_id").is_in(kept.implode()))
        return [_row(row) for row in shown.iter_rows(named=True)]


def recent(reader: Reader, actor: Actor, name: str, segments: Segments, *, cursor: str | None, limit: int) -> Recent:
    """The newest predictions by event time, behind `cursor` (see `cursor_of`).

    Raises `NotFound` for an unknown endpoint, `InvalidInput` for a bad cursor.
    """
    get_endpoint(reader, actor, name)
    place = None
    if cursor is not None:
        event_ms, _, prediction_id = cursor.partition("~")
        if not _EVENT_MS.fullmatch(event_ms) or abs(int(event_ms)) > LAST_MS:
            raise InvalidInput(f"this is not a cursor of this list: {cursor[:80]!r}", path="cursor")
        place = (int(event_ms), prediction_id)
    high = place[0] if place else None
    low = since_for(reader, actor.workspace, name, high, limit + 1)
    if low is None:
        return Recent(None, place, limit)
    return Recent(_predictions(reader, actor, name, segments, None, ("event_ms", low, high)), place, limit)


def cursor_of(row: PredictionRow) -> str:
    """Where the list goes on behind `row`."""
    return f"{row.event_ms}~{row.prediction_id}"


def _row(row: dict[str, object]) -> PredictionRow:
    def under(prefix: str) -> dict[str, object]:
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}

    fields = ("prediction_id", "event_ms", "at_ms", "key", "role", "revision", "version", "latency_us", "error")
    return PredictionRow(
        **{name: row[name] for name in fields},  # type: ignore[arg-type]
        inputs=under("in."),
        output=under("out."),
    )
