"""What comes up from the data planes: who they are, and what was predicted."""

from __future__ import annotations

from typing import Any

from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value


class PlaneReport(Value):
    """What a data plane says of itself every few seconds; `counters` are for people and `/metrics`."""

    plane: str
    started_ms: int
    epoch: int = 0
    counters: dict[str, float] = {}
    problems: tuple[str, ...] = ()
    address: str = ""


class Plane(Record):
    """A data plane: `through_seq` is the last of its predictions that is stored here."""

    plane: str
    workspace: str
    started_ms: int
    seen_ms: int
    through_seq: int
    epoch: int
    counters: dict[str, float]
    problems: tuple[str, ...]
    address: str


class Shipped(Record):
    """Answer to a batch: all predictions of the plane up to here are stored; its spool may forget them."""

    through_seq: int


class PredictionRow(Record):
    """One answer to one row, for people."""

    prediction_id: str
    event_ms: int
    at_ms: int
    key: str
    role: str
    revision: str
    version: str
    latency_us: int
    error: str | None
    inputs: dict[str, Any]
    output: dict[str, Any]


class PredictionsRecorded(Event):
    """Predictions of one plane and endpoint arrived; `digest` is over the batch's records."""

    endpoint: str
    plane: str
    rows: int
    first_id: str
    last_id: str
    min_event_ms: int
    max_event_ms: int
    digest: str


class PlaneStarted(Event):
    """A data plane reported for the first time."""

    plane: str
    address: str
