"""How good the model was on a window's labelled rows: each metric with its interval and its n. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from salus.kernel.schema import Task
from salus.monitoring.model.windows import Service
from salus.monitoring.rows import CLIP, OUTPUT, Rows
from salus.stats.arrays import NotEnoughData
from salus.stats.calibration import expected_calibration_error
from salus.stats.intervals import (
    Estimate,
    accuracy,
    brier,
    log_loss,
    mean_absolute_error,
    mean_interval,
    root_mean_squared_error,
    wilson,
)
from salus.stats.ranking import auc

CUT = 0.5


def metrics_of(rows: Rows) -> dict[str, Estimate]:
    """The metrics of the task; one that cannot be told from these rows is left out."""
    label, score = rows.label, rows.score
    if rows.task == "binary":
        chance = np.clip(score, CLIP, 1 - CLIP)
        asked: dict[str, Callable[[], Estimate]] = {
            "log_loss": lambda: log_loss(label, chance),
            "brier": lambda: brier(label, chance),
            "auc": lambda: auc(label, chance),
            "accuracy": lambda: accuracy(label, (chance >= CUT).astype(np.float64)),
            "calibration_error": lambda: expected_calibration_error(label, chance),
            "positive_ratio": lambda: wilson(int(label.sum()), len(label)),
            "mean_score": lambda: mean_interval(chance),
        }
    else:
        asked = {
            "mae": lambda: mean_absolute_error(label, score),
            "rmse": lambda: root_mean_squared_error(label, score),
            "bias": lambda: mean_interval(score - label),
            "squared_error": lambda: mean_interval(rows.loss),
        }
    return {name: found for name, ask in asked.items() if (found := _told(ask)) is not None}


def residual_of(rows: Rows) -> Estimate | None:
    """Realised minus expected loss with its interval."""
    return _told(lambda: mean_interval(rows.residual))


def service_of(frame: pl.DataFrame, task: Task) -> Service:
    """Latency and errors of a window's answers; an answer without a finite output where one is due is an error."""
    latency = frame["latency_us"].drop_nulls()
    failed = pl.col("error").is_not_null()
    column = OUTPUT.get(task)
    if column is not None and column in frame.columns:
        failed = failed | ~pl.col(column).cast(pl.Float64).is_finite().fill_null(value=False)
    errors = int(frame.select(failed.sum()).item()) if frame.height else 0
    return Service(
        latency_p50_ms=_quantile_ms(latency, 0.5),
        latency_p99_ms=_quantile_ms(latency, 0.99),
        error_ratio=wilson(errors, frame.height) if frame.height else None,
    )


def _quantile_ms(latency_us: pl.Series, level: float) -> float | None:
    found = latency_us.quantile(level, "linear") if latency_us.len() else None
    return None if found is None else float(found) / 1000.0


def _told(ask: Callable[[], Estimate]) -> Estimate | None:
    try:
        return ask()
    except NotEnoughData:
        return None
