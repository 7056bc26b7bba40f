"""What retraining is about: a policy for each model, and what came of it, each decision with its reason."""

from __future__ import annotations

import math
from typing import Any, Literal

from salus.kernel.errors import InvalidInput
from salus.kernel.sql import Event
from salus.kernel.structs import Record, Value
from salus.monitoring.model.alerts import Cause
from salus.serving.model.rollouts import Strategy
from salus.stats.intervals import Estimate

COMPARE_JOB = "compare_candidate"
DAY_S = 86_400.0

RetrainingState = Literal[
    "waiting", "training", "comparing", "approving", "rolling_out",
    "promoted", "rejected", "rolled_back", "failed", "declined",
]  # fmt: skip
OPEN: tuple[RetrainingState, ...] = ("waiting", "training", "comparing", "approving", "rolling_out")
TriggerKind = Literal["alert", "checkup", "manual"]


class Gate(Value):
    """What a candidate must show on the newest labelled rows that it was not trained on.

    `level` is the confidence of the paired, day-blocked, one-sided test; `margin` the smallest gain of mean loss that
    matters; `min_rows` and `min_days` what the test needs before it says anything; `segment_margin` is how much worse a
    part of the rows may get before that alone turns the candidate down.
    """

    level: float = 0.95
    margin: float = 0.0
    min_rows: int = 500
    min_days: int = 5
    segment_margin: float = 0.02

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1:
            raise InvalidInput(f"a level lies between 0.5 and 1, got {self.level}", path="$.gate.level")
        for name in ("margin", "segment_margin"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidInput(f"{name} must be at least 0, got {value}", path=f"$.gate.{name}")
        if self.min_rows < 2 or self.min_days < 2:
            raise InvalidInput(
                f"a comparison needs at least 2 rows on 2 days, got {self.min_rows} and {self.min_days}", path="$.gate"
            )


class PutPolicy(Value):
    """When a model is retrained, on what, and what the candidate must show.

    All times are in event time. Alarms of the `causes` start it; so does a look, `checkup_s` after the last promotion,
    whether a fresh model would be better (slow change raises no alarm). `holdout_s` of the newest rows are kept from
    training, for the gate; `window_s` limits training to that long before (None: all there is). `parameters` go to the
    pipeline as they are.
    After an alarm at most half of the time since the change is kept for the gate, so that the candidate learns the new
    world too; it waits until both halves have the gate's `min_days`.
    """

    pipeline: str
    endpoint: str | None = None
    causes: tuple[Cause, ...] = ("changed_relationship", "shifted_inputs")
    checkup_s: float | None = 30 * DAY_S
    cooldown_s: float = 12 * DAY_S
    holdout_s: float = 12 * DAY_S
    window_s: float | None = None
    min_labelled: int = 1_000
    gate: Gate = Gate()
    rollout: Strategy = Strategy()
    automatic: bool = True
    paused: bool = False
    parameters: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for name in ("checkup_s", "cooldown_s", "holdout_s", "window_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InvalidInput(f"{name} must be at least 0, got {value}", path=f"$.{name}")
        if "broken_input" in self.causes:
            raise InvalidInput(
                "broken input never starts a retraining: a model would learn the fault",
                path="$.causes",
                remedy="Leave `broken_input` out; the alert says which feed to fix.",
            )


class Policy(Record):
    """A model's policy as it is kept."""

    workspace: str
    model: str
    endpoint: str
    body: PutPolicy
    revision: int
    updated_ms: int
    updated_by: str


class Trigger(Record):
    """Why a retraining was asked for, at which event time; `since_ms`: when the change began that an alarm tells of."""

    kind: TriggerKind
    event_ms: int
    since_ms: int | None = None
    alert: str | None = None
    cause: Cause | None = None
    reason: str = ""


class Decision(Record):
    """One step of a retraining: what was decided, why, on which numbers."""

    at_ms: int
    state: RetrainingState
    reason: str
    evidence: dict[str, Any] = {}


class SegmentCheck(Record):
    """How one part of the rows fares under the candidate: the gain of mean loss with its interval."""

    rule: str
    gain: Estimate
    worse: bool


class Comparison(Record):
    """Candidate against champion on the same labelled rows; gains are positive where the candidate is better."""

    champion: str
    candidate: str
    metric: str
    rows: int
    days: int
    from_ms: int
    to_ms: int
    verdict: str
    champion_loss: float | None = None
    candidate_loss: float | None = None
    gain: Estimate | None = None
    p_value: float | None = None
    auc_gain: Estimate | None = None
    needed_n: int | None = None
    segments: tuple[SegmentCheck, ...] = ()
    text: str = ""


class Retraining(Record):
    """One attempt to heal a model. Training used rows before `until_ms`; the comparison rows from there to `now_ms`."""

    id: str
    workspace: str
    model: str
    endpoint: str
    trigger: Trigger
    state: RetrainingState
    champion: str
    since_ms: int | None
    until_ms: int
    now_ms: int
    excluded: tuple[tuple[int, int], ...]
    pipeline: str
    pipeline_run: str | None
    candidate: str | None
    job: str | None
    comparison: Comparison | None
    rollout: str | None
    reason: str
    decisions: tuple[Decision, ...]
    created_ms: int
    updated_ms: int

    @property
    def subject(self) -> str:
        """Its name in ledger and lineage."""
        return f"retraining:{self.id}"


class Retrain(Value):
    """A retraining asked for by a person."""

    reason: str = ""


class ComparisonTask(Record):
    """The payload of the job `compare_candidate`: all that the worker needs."""

    retraining: str
    model: str
    endpoint: str
    champion: str
    candidate: str
    from_ms: int
    to_ms: int
    excluded: tuple[tuple[int, int], ...]
    gate: Gate


class PolicyChanged(Event):
    """A model's policy was set."""

    model: str
    pipeline: str
    policy: PutPolicy


class RetrainingStarted(Event):
    """A retraining began: its pipeline runs."""

    retraining: str
    model: str
    endpoint: str
    champion: str
    trigger: TriggerKind
    reason: str
    event_ms: int
    pipeline_run: str


class RetrainingDeclined(Event):
    """An alarm or a date asked for a retraining, and the policy says no."""

    model: str
    endpoint: str
    trigger: TriggerKind
    alert: str | None
    reason: str
    event_ms: int


class CandidateCompared(Event):
    """The candidate met the champion on rows that neither was trained on."""

    retraining: str
    model: str
    candidate: str
    verdict: str
    text: str


class RetrainingEnded(Event):
    """A retraining came to its end."""

    retraining: str
    model: str
    endpoint: str
    state: RetrainingState
    candidate: str | None
    reason: str
