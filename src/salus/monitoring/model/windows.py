"""What a window is: a stretch of event time at one endpoint, and the vital signs that were taken in it."""

from __future__ import annotations

from typing import Literal

from salus.kernel.sql import Event
from salus.kernel.structs import Record
from salus.stats.intervals import Estimate

WindowState = Literal["closed", "mature"]
"""`closed`: no more predictions are expected. `mature`: its labels are there, too (or no more are expected)."""

FindingKind = Literal[
    "missing", "constant", "new_categories", "unit", "out_of_range", "jump", "refused", "errors", "latency"
]
Role = Literal["live", "shadow"]


class Finding(Record):
    """Something that is broken, not merely moved. `column` is empty where it is about the service as a whole.

    `value` is what was seen, `limit` what would still have passed, both in `unit`; `since_ms` is the event time
    of the first row that shows it; `conversion` names the change of units, as in `mph -> m/s`.
    """

    kind: FindingKind
    column: str
    text: str
    value: float
    limit: float
    unit: str
    since_ms: int
    conversion: str | None = None


class Movement(Record):
    """How far a column moved from the reference. Evidence, never an alarm.

    `effect` is the Jensen-Shannon divergence in bits, bias subtracted; `distance` the same in `unit` (standard
    deviations of the reference, or bits); `excess` is the effect as a share of what the reference itself shows once in
    the budget's number of windows (1.0 and above: more than chance), None where the reference is too short to tell.
    """

    column: str
    effect: float
    distance: float
    unit: str
    missing_change: float
    excess: float | None


class Service(Record):
    """How the endpoint answered: times in ms, shares of rows between 0 and 1."""

    latency_p50_ms: float | None
    latency_p99_ms: float | None
    error_ratio: Estimate | None
    refused_ratio: float | None = None


class Harm(Record):
    """What the harm detectors say behind this window: each one's evidence as a share of what an alarm takes."""

    evidence: dict[str, float]
    residual: Estimate | None = None
    expected_loss: float | None = None


class Window(Record):
    """The vital signs of one window.

    `metrics` are of the labelled rows; `label_delay_s` is the median time from prediction to label. `broken` names the
    columns with broken input: such a window feeds no detector and is left out of training data.
    """

    workspace: str
    endpoint: str
    revision: str
    version: str
    role: Role
    start_ms: int
    end_ms: int
    state: WindowState
    rows: int
    labelled: int
    findings: tuple[Finding, ...] = ()
    movements: tuple[Movement, ...] = ()
    output_movement: Movement | None = None
    service: Service | None = None
    metrics: dict[str, Estimate] = {}
    harm: Harm | None = None
    label_delay_s: float | None = None
    broken: tuple[str, ...] = ()

    @property
    def completeness(self) -> float | None:
        """The share of rows with a label; None without rows."""
        return self.labelled / self.rows if self.rows else None


class WindowMatured(Event):
    """A window of live answers got its performance."""

    endpoint: str
    version: str
    start_ms: int
    end_ms: int
    rows: int
    labelled: int
    broken: tuple[str, ...]
    metrics: dict[str, float]
