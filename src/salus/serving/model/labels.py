"""What a label is: what became of a prediction, and when that was known."""

from __future__ import annotations

from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value

LABELS_PER_REQUEST = 10_000


class Label(Value):
    """What became of a prediction, by its id or by the request's key (then: the newest prediction with that key).

    `event_ms` is when the outcome was known; `value` is 0 or 1 (binary), a number (regression), a class.
    """

    value: bool | int | float | str
    event_ms: int
    prediction_id: str | None = None
    key: str | None = None


class PostLabels(Value):
    """Labels to record; all of them or none."""

    labels: tuple[Label, ...]


class LabelsAccepted(Record):
    """What became of them: `recorded` are new, `known` were there with the same value, `pending` wait for their
    prediction to arrive from its data plane."""

    recorded: int
    known: int
    pending: int


class Completeness(Record):
    """How many live predictions of a stretch of event time have their label."""

    predictions: int
    labelled: int

    @property
    def ratio(self) -> float | None:
        """`labelled / predictions`; None without predictions."""
        return self.labelled / self.predictions if self.predictions else None


class LabelsRecorded(Event):
    """Labels found their predictions. `first_seq` and `last_seq` bound their sequence numbers in the endpoint."""

    endpoint: str
    rows: int
    first_seq: int
    last_seq: int
    max_event_ms: int
    min_prediction_event_ms: int
    max_prediction_event_ms: int


class LabelsDropped(Event):
    """Labels waited for predictions that turned out to belong to another endpoint."""

    endpoint: str
    prediction_ids: tuple[str, ...]
