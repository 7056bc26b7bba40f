"""The reference: rows that show the model as it should be, and what is learned from them. Pure.

A reference table has the model's inputs and outputs as columns (by their own names, or as `in.<name>` and
`out.<name>`), and where known `label` and `event_ms` (or `event_time`). A boolean column `held_out` says which rows the
model was not trained on: only those tell how good it is.
"""

from __future__ import annotations

import io

import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import DType, Signature, Task
from salus.kernel.structs import Record
from salus.monitoring import harm
from salus.monitoring.columns import ColumnProfile, ColumnSummary, learn_column
from salus.monitoring.harm import Detectors
from salus.monitoring.model.watches import YEAR_MS, WatchSettings
from salus.monitoring.movement import calibrated
from salus.monitoring.performance import metrics_of
from salus.monitoring.rows import Curve, labelled_rows, learn_curve
from salus.stats.drift_tests import Calibration
from salus.stats.intervals import Estimate

MAX_ROWS = 50_000
ENOUGH_LABELLED = 500
ENOUGH_ROWS = 500
_ROWS_PER_BLOCK = 300
_MOST_BLOCKS = 60


class Profile(Record):
    """All that a watch knows of its reference; `detectors` are fresh ones."""

    columns: tuple[ColumnProfile, ...]
    output: ColumnProfile | None
    calibration: Calibration | None
    output_calibration: Calibration | None
    curve: Curve | None
    detectors: Detectors
    metrics: dict[str, Estimate]
    rows: int
    labelled: int


class State(Record):
    """What a watch remembers from window to window: detectors, the last good windows by column, values seen beyond the
    reference's, the last windows' slowest answers (ms) and label delays (s)."""

    detectors: Detectors = Detectors(questions={})
    recent: dict[str, tuple[ColumnSummary, ...]] = {}
    seen: dict[str, tuple[float | str, ...]] = {}
    latencies_ms: tuple[float, ...] = ()
    delays_s: tuple[float, ...] = ()
    refused: float = 0.0


def read_reference(content: bytes, signature: Signature) -> pl.DataFrame:
    """A registered reference (Parquet) as `in.*`, `out.*`, `label`, `event_ms`, `held_out`, by event time.

    Raises:
        InvalidInput: it is no Parquet file.
    """
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(f"the reference is no readable Parquet file: {error}", path="reference") from error
    return normalised(frame, signature)


def normalised(frame: pl.DataFrame, signature: Signature) -> pl.DataFrame:
    """The columns that matter, under the names of predictions; at most 50,000 rows, evenly thinned, by event time."""
    renamed = {name: f"in.{name}" for name in signature.inputs.names if name in frame.columns}
    renamed |= {name: f"out.{name}" for name in signature.outputs.names if name in frame.columns}
    table = frame.rename(renamed)
    if "event_ms" not in table.columns and "event_time" in table.columns:
        table = table.with_columns(event_ms=pl.col("event_time").dt.epoch("ms"))
    if "label" in table.columns:
        table = table.with_columns(pl.col("label").cast(pl.Float64, strict=False))
    kept = [name for name in table.columns if name.startswith(("in.", "out."))]
    kept += [name for name in ("label", "event_ms", "held_out") if name in table.columns]
    table = table.select(kept)
    if "event_ms" in table.columns:
        table = table.drop_nulls("event_ms").sort("event_ms")
    if table.height > MAX_ROWS:
        table = table[np.linspace(0, table.height - 1, MAX_ROWS).astype(np.int64)]
    return table


def learn(frame: pl.DataFrame, signature: Signature, *, window_ms: int, settings: WatchSettings) -> Profile:
    """What a normalised reference says about inputs, scores and loss, cut into blocks as long as a window."""
    blocks = blocks_of(frame, window_ms)
    columns = tuple(
        learn_column(frame[f"in.{column.name}"], blocks, column.name, column.dtype)
        for column in signature.inputs.columns
        if f"in.{column.name}" in frame.columns
    )
    budget = YEAR_MS / window_ms / settings.false_alarms_per_year
    output = _output_profile(frame, signature, blocks)
    task = signature.task
    judged = frame.with_columns(block=pl.Series(blocks))
    if "held_out" in judged.columns:
        judged = judged.filter(pl.col("held_out").fill_null(value=False))
    curve, detectors, metrics, labelled = _learn_loss(judged, task, window_ms, settings)
    return Profile(
        columns=columns,
        output=output,
        calibration=calibrated(columns, budget),
        output_calibration=calibrated([output], budget) if output else None,
        curve=curve,
        detectors=detectors,
        metrics=metrics,
        rows=frame.height,
        labelled=labelled,
    )


def _learn_loss(
    frame: pl.DataFrame, task: Task, window_ms: int, settings: WatchSettings
) -> tuple[Curve | None, Detectors, dict[str, Estimate], int]:
    rows = labelled_rows(frame, task)
    if rows is None or len(rows) < ENOUGH_LABELLED:
        return None, Detectors(questions={}), {}, 0 if rows is None else len(rows)
    curve = learn_curve(task, rows.label, rows.score)
    rows = labelled_rows(rows.frame, task, curve) or rows
    windows = np.unique(rows.frame["block"].to_numpy(), return_inverse=True)[1]
    detectors = harm.learn(rows, windows, curve, window_ms=window_ms, settings=settings)
    return curve, detectors, metrics_of(rows), len(rows)


def _output_profile(frame: pl.DataFrame, signature: Signature, blocks: NDArray[np.intp]) -> ColumnProfile | None:
    for column in signature.outputs.columns:
        name = f"out.{column.name}"
        if name in frame.columns:
            dtype: DType = column.dtype
            return learn_column(frame[name], blocks, name, dtype)
    return None


def blocks_of(frame: pl.DataFrame, window_ms: int) -> NDArray[np.intp]:
    """Each row's block, numbered from 0: by event time where it is known, else stretches of about 300 rows."""
    if "event_ms" in frame.columns and frame.height:
        windows = frame["event_ms"].to_numpy() // window_ms
        return np.unique(windows, return_inverse=True)[1].astype(np.intp)
    size = max(_ROWS_PER_BLOCK, frame.height // _MOST_BLOCKS)
    return (np.arange(frame.height) // size).astype(np.intp)
