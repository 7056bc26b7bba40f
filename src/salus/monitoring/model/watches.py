"""What a watch is: the standing order to examine an endpoint, made by itself when something is deployed there."""

from __future__ import annotations

from typing import Literal

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Task
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value
from salus.monitoring.model.alerts import Alert
from salus.monitoring.model.diagnoses import Condition, Diagnosis
from salus.monitoring.model.windows import Window

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SIZES_MS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS)
YEAR_MS = 365 * DAY_MS

_YEAR_S = 365 * 86_400.0
_MOST = {"window_s": _YEAR_S, "label_delay_s": 10 * _YEAR_S, "grace_s": _YEAR_S, "max_latency_ms": 86_400_000.0}
"""The largest lawful value of each setting."""


class WatchSettings(Value):
    """How an endpoint is watched; None: Salus finds out by itself.

    `false_alarms_per_year` is the budget from which every threshold of harm by labels is derived. `tolerance_ratio` is
    the smallest rise that counts, as a share of the reference's loss (bias: of the labels' standard deviation).
    """

    window_s: float | None = None
    grace_s: float | None = None
    label_delay_s: float | None = None
    false_alarms_per_year: float = 1.0
    tolerance_ratio: float = 0.05
    mature_ratio: float = 0.95
    max_error_ratio: float = 0.01
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise InvalidInput(f"{name} must lie between 0 and {most:,.0f}, got {value}", path=f"$.{name}")
        if self.window_s is not None and self.window_s < 60:
            raise InvalidInput(f"a window is at least 60 s long, got {self.window_s}", path="$.window_s")
        if not 0.01 <= self.false_alarms_per_year <= 100:
            raise InvalidInput(
                f"false_alarms_per_year must lie between 0.01 and 100, got {self.false_alarms_per_year}",
                path="$.false_alarms_per_year",
            )
        for name in ("tolerance_ratio", "mature_ratio", "max_error_ratio"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise InvalidInput(f"{name} must lie above 0, at most 1, got {value}", path=f"$.{name}")


class ReferenceSource(Record):
    """What the model is compared with: the rows registered with its version, or the first windows of live traffic."""

    kind: Literal["registered", "live", "none"]
    digest: str | None = None
    rows: int = 0
    labelled: int = 0
    from_ms: int | None = None
    to_ms: int | None = None
    note: str = ""


class Watch(Record):
    """The standing order for one endpoint.

    `next_ms` is the start of the first window that is not closed, `mature_ms` of the first that has no performance
    yet; windows before `since_ms` belong to the version before. `sequence` grows with every evaluation: two evaluators
    cannot both write. `profile` and `state` are the digests of what was learned and of the detectors.
    """

    workspace: str
    endpoint: str
    model: str
    version: str
    revision: str
    task: Task
    settings: WatchSettings
    reference: ReferenceSource
    since_ms: int | None
    window_ms: int | None
    label_delay_ms: int | None
    next_ms: int | None
    mature_ms: int | None
    sequence: int
    condition: Condition
    diagnosis: Diagnosis | None
    created_ms: int
    updated_ms: int


class WatchStarted(Event):
    """An endpoint is examined from now on, against this reference."""

    endpoint: str
    model: str
    version: str
    revision: str
    reference: str
    note: str


class WatchChanged(Event):
    """An endpoint's watch was set differently."""

    endpoint: str
    settings: WatchSettings


class Annotation(Record):
    """A mark on the chart: an alarm, a deployment, a retraining."""

    event_ms: int
    kind: str
    text: str
    subject: str


class Vitals(Record):
    """The vital signs of an endpoint over time, made for charts: live windows, and those of each shadow revision."""

    watch: Watch
    windows: list[Window]
    shadows: dict[str, list[Window]]
    alerts: list[Alert]
    annotations: list[Annotation]


class Patient(Record):
    """One row of the ward."""

    endpoint: str
    model: str
    version: str
    condition: Condition
    text: str
    latest: Window | None
    latest_mature: Window | None
    trend: dict[str, list[float | None]]
    alerts: list[Alert]
    last_decision: Annotation | None
    reference_metrics: dict[str, float]
