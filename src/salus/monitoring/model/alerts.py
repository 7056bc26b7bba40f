"""What an alert is: harm that is certain enough to be told, with its cause; one incident per endpoint and cause."""

from __future__ import annotations

from typing import Literal

from salus.kernel.sql import Event
from salus.kernel.structs import Record
from salus.monitoring.model.diagnoses import Diagnosis

Cause = Literal["broken_input", "shifted_inputs", "changed_relationship", "sick_service"]
AlertState = Literal["pending", "firing", "resolved"]
Severity = Literal["warning", "critical"]

CAUSES: tuple[Cause, ...] = ("broken_input", "shifted_inputs", "changed_relationship", "sick_service")
MUTED_BY_BROKEN_INPUT: tuple[Cause, ...] = ("shifted_inputs", "changed_relationship")
"""While an input is broken these causes are not alarmed: whatever they show comes from it."""


class Alert(Record):
    """One incident at an endpoint. Times in event time end in `_event_ms`; `quiet` counts the good windows in a row."""

    id: str
    workspace: str
    endpoint: str
    model: str
    version: str
    cause: Cause
    state: AlertState
    severity: Severity
    columns: tuple[str, ...]
    title: str
    since_event_ms: int
    window_start_ms: int
    window_end_ms: int
    diagnosis: Diagnosis | None
    created_ms: int
    updated_ms: int
    quiet: int = 0
    resolved_event_ms: int | None = None
    resolved_reason: str = ""
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None

    @property
    def subject(self) -> str:
        """The alert's name in ledger and lineage."""
        return f"alert:{self.id}"


class AlertRaised(Event):
    """Harm is certain enough to be told."""

    alert: str
    endpoint: str
    model: str
    version: str
    cause: Cause
    severity: Severity
    columns: tuple[str, ...]
    title: str
    since_event_ms: int
    window_start_ms: int
    window_end_ms: int
    text: str


class AlertChanged(Event):
    """An incident that is open grew: more columns."""

    alert: str
    endpoint: str
    cause: Cause
    columns: tuple[str, ...]


class AlertResolved(Event):
    """An incident is over."""

    alert: str
    endpoint: str
    model: str
    cause: Cause
    reason: str
    resolved_event_ms: int


class AlertAcknowledged(Event):
    """Somebody looks after it."""

    alert: str
    endpoint: str


class DriftRaised(Event):
    """The model does harm because the world moved: inputs on harder ground, or another relationship."""

    alert: str
    endpoint: str
    model: str
    version: str
    cause: Cause
    window_end_ms: int
