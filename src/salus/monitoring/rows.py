"""Labelled rows as the statistics need them: what was said, what became of it, what the loss should have been. Pure.

The expected loss of a row is the mean loss that the reference shows at the same score. What a window's loss exceeds it
by is a changed relation; what the expected loss itself changes by is easier or harder ground.

Source: T. Cai, H. Namkoong, S. Yadlowsky, Diagnosing Model Performance Under Distribution Shift, 2023 (the split of a
change of loss into moved inputs and changed relation; here over the model's score instead of all inputs).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from salus.kernel.schema import Task
from salus.kernel.structs import Record
from salus.stats.intervals import log_loss_rows

Numbers = NDArray[np.float64]

OUTPUT = {"binary": "out.probability", "regression": "out.value"}
LOSS_NAME = {"binary": "log_loss", "regression": "squared_error"}
BINS = 10
CLIP = 1e-4
"""Probabilities are moved this far from 0 and 1 before the loss: one row says at most 9.2 nats against a model."""
_PRIOR_ROWS = 20.0


class Curve(Record):
    """What the reference shows at each score: `centres` of its bins, in each the correction to the score.

    Binary: how far the logit of the observed frequency lies from that of the score. Regression: the mean error
    (`offset`) and the mean squared error (`spread`).
    """

    task: Task
    centres: tuple[float, ...]
    edges: tuple[float, ...]
    offset: tuple[float, ...]
    spread: tuple[float, ...]
    mean_loss: float
    label_sd: float
    rows: int


class Rows:
    """Labelled rows of one model: `label`, `score`, `loss`, `expected` loss and `bias` (label minus what the reference
    makes of the score), each of shape (n,), and the table they come from."""

    def __init__(self, frame: pl.DataFrame, task: Task, curve: Curve | None) -> None:
        self.frame = frame
        self.task = task
        self.label = frame["label"].cast(pl.Float64).to_numpy().astype(np.float64)
        self.score = frame[OUTPUT[task]].cast(pl.Float64).to_numpy().astype(np.float64)
        self.loss = loss_rows(task, self.label, self.score)
        self.expected = self.loss if curve is None else expected_loss(curve, self.score)
        self.bias = np.zeros(len(self.loss)) if curve is None else self.label - corrected(curve, self.score)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def residual(self) -> Numbers:
        """Realised minus expected loss, shape (n,)."""
        return self.loss - self.expected


def judged(task: Task) -> bool:
    """Whether labels tell how good such a model is."""
    return task in OUTPUT


def labelled_rows(frame: pl.DataFrame, task: Task, curve: Curve | None = None) -> Rows | None:
    """The rows of `frame` that have a label and a finite output; None where the task has no loss or nothing is left."""
    if not judged(task) or OUTPUT[task] not in frame.columns or "label" not in frame.columns:
        return None
    finite = pl.col(OUTPUT[task]).cast(pl.Float64).is_finite().fill_null(value=False)
    kept = frame.filter(pl.col("label").is_not_null() & finite)
    return Rows(kept, task, curve) if kept.height else None


def loss_rows(task: Task, label: Numbers, score: Numbers) -> Numbers:
    """Log loss in nats (binary) or squared error (regression), shape (n,)."""
    if task == "binary":
        return log_loss_rows(label, np.clip(score, 0.0, 1.0), CLIP)
    return np.square(label - score)


def learn_curve(task: Task, label: Numbers, score: Numbers) -> Curve:
    """The curve of a reference, in bins of equal numbers of rows."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, BINS + 1)[1:-1]))
    cells = np.searchsorted(edges, score, side="right")
    counts = np.bincount(cells, minlength=len(edges) + 1).astype(np.float64)
    used = counts > 0
    size = np.where(used, counts, 1.0)
    centre = (np.bincount(cells, weights=score, minlength=len(counts)) / size)[used]
    truth = (np.bincount(cells, weights=label, minlength=len(counts)) / size)[used]
    loss = loss_rows(task, label, score)
    error = (np.bincount(cells, weights=loss, minlength=len(counts)) / size)[used]
    if task == "binary":
        kept = counts[used]
        truth = (truth * kept + centre * _PRIOR_ROWS) / (kept + _PRIOR_ROWS)
        offset = _logit(truth) - _logit(centre)
    else:
        offset = truth - centre
    return Curve(
        task=task,
        centres=tuple(centre.tolist()),
        edges=tuple(edges.tolist()),
        offset=tuple(offset.tolist()),
        spread=tuple(error.tolist()),
        mean_loss=float(loss.mean()),
        label_sd=float(label.std()),
        rows=len(label),
    )


def corrected(curve: Curve, score: Numbers) -> Numbers:
    """What the reference makes of the scores: the expected label, shape (n,)."""
    offset = np.interp(score, curve.centres, curve.offset)
    if curve.task != "binary":
        return score + offset
    return 1.0 / (1.0 + np.exp(-(_logit(np.clip(score, CLIP, 1 - CLIP)) + offset)))


def expected_loss(curve: Curve, score: Numbers) -> Numbers:
    """The mean loss that the reference shows at these scores, shape (n,)."""
    if curve.task != "binary":
        return np.interp(score, curve.centres, curve.spread)
    chance, said = corrected(curve, score), np.clip(score, CLIP, 1 - CLIP)
    rows: Numbers = -(chance * np.log(said) + (1 - chance) * np.log1p(-said))
    return rows


def score_cells(edges: Sequence[float], score: Numbers) -> NDArray[np.intp]:
    """The bin of each score."""
    return np.searchsorted(np.asarray(edges), score, side="right")


def _logit(p: Numbers) -> Numbers:
    clipped = np.clip(p, CLIP, 1 - CLIP)
    odds: Numbers = np.log(clipped / (1 - clipped))
    return odds
