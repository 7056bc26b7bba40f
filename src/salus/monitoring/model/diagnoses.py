"""What a diagnosis is: one paragraph for people, and the numbers that it rests on."""

from __future__ import annotations

from typing import Literal

from salus.kernel.structs import Record
from salus.stats.intervals import Estimate

Condition = Literal["healthy", "watch", "broken_input", "sick", "unknown"]
Confidence = Literal["high", "medium", "low"]


class LossSplit(Record):
    """Where the change of the mean loss against the reference comes from.

    `change = moved + relation`: `moved` is what the reference's own relation of score and loss expects of
    these scores (harder or easier ground), `relation` is what it does not explain. `effective_ratio` is the
    effective sample size of the reference reweighted to these scores, as a share of it; where it is below the limit the
    split is refused and `moved` and `relation` are None.
    """

    metric: str
    reference: float
    realised: Estimate
    change: float
    effective_ratio: float
    moved: Estimate | None = None
    relation: Estimate | None = None


class ColumnShare(Record):
    """How much of the moved ground one column carries by itself, in the unit of the loss."""

    column: str
    share: float
    distance: float
    unit: str


class Segment(Record):
    """A part of the rows whose loss is not what was expected; found on one half of the rows, measured on the other."""

    rule: str
    columns: tuple[str, ...]
    rows_ratio: float
    excess: Estimate


class RecentEvent(Record):
    """Something that was done at the endpoint shortly before, which may have to do with it."""

    event_ms: int
    kind: str
    text: str
    subject: str


class Diagnosis(Record):
    """How a model is, why, and what to do. `text` is the same everywhere it is shown."""

    endpoint: str
    model: str
    version: str
    condition: Condition
    text: str
    cause: str | None = None
    confidence: Confidence = "low"
    advice: tuple[str, ...] = ()
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    split: LossSplit | None = None
    columns: tuple[ColumnShare, ...] = ()
    segments: tuple[Segment, ...] = ()
    events: tuple[RecentEvent, ...] = ()
    alerts: tuple[str, ...] = ()
