"""Ingest: the way of feature rows from the body of a request to history and online state, and back out again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from salus.data.tables import EARLIEST_MS, LATEST_MS, MAX_ARROW_BYTES, conform, read_arrow, write_arrow
from salus.data.validation import refusal, validate
from salus.features import service
from salus.features.model import CREATED_MS, FeatureView, Pushed, entity_key
from salus.features.service import CheckedRows
from salus.kernel.content import digest
from salus.kernel.errors import InvalidInput
from salus.kernel.idempotency import once
from salus.kernel.identity import Actor
from salus.kernel.ports import Database
from salus.kernel.segments import Segments
from salus.kernel.sql import Reader, Transaction

MAX_KEY = 512


def segment_table(workspace: str, view: str) -> str:
    """The segment table that holds a view's history.

    >>> segment_table("default", "weather")
    'features:default/weather'
    """
    return f"features:{workspace}/{view}"


def push(
    database: Database, segments: Segments, actor: Actor, name: str, body: bytes, key: str | None = None
) -> Pushed:
    """Adds the rows of an Arrow IPC file to a view: history and online state in one transaction.

    Under an idempotency `key` that was seen before, nothing is added and the first answer is given again.

    Raises:
        InvalidInput: the body is no Arrow IPC file, or its rows do not fit the view: `details` is then the
            `ValidationReport`. Nothing is written.
    """
    view = database.read(lambda reader: service.get_view(reader, actor, name))
    frame = read_arrow(body, limit_bytes=MAX_ARROW_BYTES)
    if not frame.height:
        raise InvalidInput("a push needs at least one row", path="$")
    now_ms = database.clock.now_ms()
    report = validate(frame, view.schema, now_ms=now_ms, dataset=f"feature view {name}")
    if not report.passed:
        raise refusal(report)
    checked = _checked(segments, actor, view, conform(frame, view.schema), now_ms)
    asked = ["push", name, digest(body)]
    return database.write(lambda tx: once(tx, actor, key, asked, Pushed, lambda: service.push(tx, actor, checked)))


def _checked(segments: Segments, actor: Actor, view: FeatureView, frame: pl.DataFrame, now_ms: int) -> CheckedRows:
    online = newest_rows(frame, view)
    _check_keys(view, online)
    moments = frame[view.event_time].dt.timestamp("ms")
    history = frame.with_columns(pl.lit(now_ms, dtype=pl.Int64).alias(CREATED_MS))
    staged = segments.stage(history, sort_by=view.event_time)

    def append(tx: Transaction) -> None:
        segments.append_staged(tx, segment_table(actor.workspace, view.name), [staged])

    return CheckedRows(
        view=view,
        rows=frame.height,
        min_event_ms=int(moments.min()),  # type: ignore[arg-type]
        max_event_ms=int(moments.max()),  # type: ignore[arg-type]
        online=online,
        append=append,
    )


def _check_keys(view: FeatureView, keys: Iterable[str]) -> None:
    for key in keys:
        if len(key) > MAX_KEY or "\x00" in key:
            raise InvalidInput(
                f"a key has at most {MAX_KEY} characters and no NUL, got {key[:40]!r} ({len(key):,} characters)",
                path=f"$.{view.key_names[0]}",
                remedy="Nothing was written. Use a shorter identifier, such as a digest.",
            )


def newest_rows(frame: pl.DataFrame, view: FeatureView) -> dict[str, dict[int, tuple[Any, ...]]]:
    """Of each key the values of its newest `online_depth` event times; of equal event times the last row."""
    table = frame.select(
        *view.key_names,
        pl.col(view.event_time).dt.timestamp("ms").alias("__event_ms"),
        *(
            pl.col(column.name).dt.timestamp("ms") if column.dtype == "time" else pl.col(column.name)
            for column in view.features
        ),
    )
    by = list(view.key_names)
    newest = (
        table.unique([*by, "__event_ms"], keep="last", maintain_order=True)
        .sort("__event_ms", descending=True, maintain_order=True)
        .group_by(by, maintain_order=True)
        .head(view.online_depth)
    )
    width = len(by)
    rows: dict[str, dict[int, tuple[Any, ...]]] = {}
    for row in newest.select(table.columns).iter_rows():
        rows.setdefault(entity_key(row[:width]), {})[row[width]] = row[width + 1 :]
    return rows


def history(
    reader: Reader, segments: Segments, actor: Actor, name: str, from_ms: int | None, to_ms: int | None
) -> tuple[FeatureView, pl.LazyFrame]:
    """A view's rows with an event time in [from_ms, to_ms] (None: open), to be collected after the transaction.

    Raises `InvalidInput` where a bound lies outside the years 1 to 9999.
    """
    for place, bound in (("from_ms", from_ms), ("to_ms", to_ms)):
        if bound is not None and not EARLIEST_MS <= bound <= LATEST_MS:
            raise InvalidInput(f"a time lies in the years 1 to 9999, got {bound} ms", path=place)
    view = service.get_view(reader, actor, name)
    columns = [*view.schema.names, CREATED_MS]
    if not view.rows:
        empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
        return view, conform(empty, view.schema).with_columns(pl.lit(None, pl.Int64).alias(CREATED_MS)).lazy()
    known = segments.snapshot(reader, segment_table(actor.workspace, name)).columns
    there = {column.name for column in known}
    snapshot = segments.snapshot(
        reader,
        segment_table(actor.workspace, name),
        columns=[name for name in columns if name in there],
        where=(view.event_time, from_ms, to_ms),
    )
    return view, snapshot.scan()


def collect_history(view: FeatureView, rows: pl.LazyFrame) -> bytes:
    """The rows as an Arrow IPC file: keys, event time, features, `created_ms`; features that were added since they
    were written are missing."""
    frame = rows.collect()
    absent = [name for name in view.feature_names if name not in frame.columns]
    full = frame.with_columns(pl.lit(None).alias(name) for name in absent)
    created = full[CREATED_MS]
    return write_arrow(conform(full, view.schema).with_columns(created))
