"""What a rollout is: how a challenger takes over from a champion, what it must show, and what was decided."""

from __future__ import annotations

import math
from typing import Literal

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Task
from salus.kernel.structs import Record, Value
from salus.serving.model.endpoints import Endpoint, Revision
from salus.serving.wire import EndpointRoute, Weight

StrategyKind = Literal["canary", "blue_green", "all_at_once"]
Metric = Literal["brier", "log_loss", "squared_error"]
RolloutState = Literal["running", "held", "promoted", "rolled_back"]
Decision = Literal["promote", "hold", "roll_back"]
CriterionName = Literal["loss", "errors", "latency"]
CriterionState = Literal["fine", "worse", "cannot tell"]

METRICS_OF_TASK: dict[Task, tuple[Metric, ...]] = {
    "binary": ("brier", "log_loss"),
    "regression": ("squared_error",),
}
"""The losses a task can be judged by, the default first; a task without one is judged by errors and latency alone."""

MARGIN_OF_METRIC: dict[Metric, float] = {"brier": 0.005, "log_loss": 0.02, "squared_error": 0.005}


class Strategy(Value):
    """How a challenger takes over, and what it must show.

    Shares and ratios lie between 0 and 1. `steps` are the challenger's shares of live requests before it gets all.
    With `mirror` both models answer every request (one of them unseen), so that they are compared on the same rows.
    A criterion is "worse" when the challenger is certain to be worse than the champion by more than the margin:
    `margin` (mean loss per row in the unit of `metric`), `error_margin_ratio` (share of rows that fail),
    `latency_margin_ratio` (of the champion's quantile, and at least `latency_margin_ms`).
    `max_false_rollback_ratio` bounds the probability that a challenger within all margins is ever rolled back, however
    often one looks; `max_false_promotion_ratio` the same for promoting one that is outside.
    `scale` (regression): an absolute error of this size or more counts as loss 1.
    """

    kind: StrategyKind = "canary"
    steps: tuple[float, ...] = (0.05,)
    mirror: bool = True
    metric: Metric | None = None
    margin: float | None = None
    scale: float | None = None
    min_rows: int = 500
    max_false_rollback_ratio: float = 0.01
    max_false_promotion_ratio: float = 0.05
    error_margin_ratio: float = 0.01
    latency_quantile: float = 0.95
    latency_margin_ratio: float = 1.0
    latency_margin_ms: float = 5.0
    max_duration_s: float = 14 * 86_400.0

    def __post_init__(self) -> None:
        for index, share in enumerate(self.steps):
            _within(share, 0, 1, f"$.strategy.steps[{index}]", inclusive=True)
        if list(self.steps) != sorted(set(self.steps)):
            raise InvalidInput(f"the steps must grow, got {list(self.steps)}", path="$.strategy.steps")
        if self.kind == "canary" and not self.steps:
            raise InvalidInput("a canary needs at least one step, such as 0.05", path="$.strategy.steps")
        if self.min_rows < 1:
            raise InvalidInput(f"min_rows must be at least 1, got {self.min_rows}", path="$.strategy.min_rows")
        _within(self.max_false_rollback_ratio, 0, 0.5, "$.strategy.max_false_rollback_ratio")
        _within(self.max_false_promotion_ratio, 0, 0.5, "$.strategy.max_false_promotion_ratio")
        _within(self.error_margin_ratio, 0, 1, "$.strategy.error_margin_ratio")
        _within(self.latency_quantile, 0, 1, "$.strategy.latency_quantile")
        for name in ("margin", "scale", "latency_margin_ratio", "latency_margin_ms", "max_duration_s"):
            number = getattr(self, name)
            if number is not None:
                _within(number, 0, math.inf, f"$.strategy.{name}")


def _within(value: float, low: float, high: float, path: str, *, inclusive: bool = False) -> None:
    if not (low < value < high or (inclusive and value == high)):
        raise InvalidInput(f"this must lie above {low} and below {high}, got {value}", path=path)


class StartRollout(Value):
    """A wish to serve `model` at `version` (a version or an alias).

    `override` deploys a version that is not approved; it needs a reason, and the ledger keeps it.
    """

    model: str
    version: str
    strategy: Strategy = Strategy()
    reason: str = ""
    override: bool = False


class Reason(Value):
    """Why somebody does something by hand."""

    reason: str = ""


class Criterion(Record):
    """What is known about one way of being worse: challenger minus champion, in `unit`, from `n` rows.

    `low` holds at the rollout's false-rollback setting, `high` at its false-promotion setting, each at every look.
    """

    name: CriterionName
    unit: str
    state: CriterionState
    margin: float
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Verdict(Record):
    """What the evidence says now; `needed_n`: about so many more labelled rows decide, where one can say."""

    decision: Decision
    reason: str
    criteria: tuple[Criterion, ...] = ()
    needed_n: int | None = None


class Rollout(Record):
    """A challenger on its way to take over from the champion (None: there was nobody before)."""

    id: str
    workspace: str
    endpoint: str
    champion: str | None
    challenger: str
    model: str
    version: str
    strategy: Strategy
    state: RolloutState
    step: int
    share: float
    reason: str
    verdict: Verdict | None
    started_ms: int
    started_by: str
    ended_ms: int | None = None
    ended_by: str | None = None

    @property
    def subject(self) -> str:
        """The rollout's name in ledger and lineage."""
        return f"rollout:{self.id}"

    @property
    def under_way(self) -> bool:
        """Whether both models are still in play."""
        return self.state in ("running", "held")


class Look(Record):
    """The evidence as it stood at one look: a point of the chart. `n` counts the compared answers."""

    at_ms: int
    event_ms: int | None
    n: int
    share: float
    decision: Decision
    criteria: tuple[Criterion, ...]


class RolloutDetail(Record):
    """A rollout with its looks, oldest first."""

    rollout: Rollout
    champion: Revision | None
    challenger: Revision
    looks: list[Look]


class EndpointDetail(Record):
    """An endpoint with what it serves now."""

    endpoint: Endpoint
    split: tuple[Weight, ...]
    shadows: tuple[str, ...]
    revisions: list[Revision]
    rollout: Rollout | None
    serving: bool


def split_of(endpoint: Endpoint, rollout: Rollout | None) -> tuple[tuple[Weight, ...], tuple[str, ...]]:
    """The shares of live requests (they sum to 1) and the revisions that answer unseen.

    A revision that is in both answers each request once: unseen where the split did not choose it.
    """
    shadows = list(endpoint.shadows)
    if rollout is None or not rollout.under_way or rollout.champion is None:
        shadows = [revision for revision in shadows if revision != endpoint.live]
        weights = [Weight(revision=endpoint.live, share=1.0)] if endpoint.live else []
        return tuple(weights), tuple(dict.fromkeys(shadows))
    champion = Weight(revision=rollout.champion, share=1.0 - rollout.share)
    challenger = Weight(revision=rollout.challenger, share=rollout.share)
    if rollout.strategy.mirror:
        shadows += [rollout.champion, rollout.challenger]
    split = tuple(weight for weight in (champion, challenger) if weight.share > 0)
    return split, tuple(dict.fromkeys(shadows))


def route_of(endpoint: Endpoint, rollout: Rollout | None) -> EndpointRoute | None:
    """The endpoint as a data plane gets it, or None while it serves nothing."""
    split, shadows = split_of(endpoint, rollout)
    if not split:
        return None
    return EndpointRoute(
        endpoint=endpoint.name,
        workspace=endpoint.workspace,
        task=endpoint.task or "other",
        split=split,
        shadows=shadows,
        salt=endpoint.salt,
        key_column=endpoint.key_column,
        lookups=endpoint.lookups,
    )


def next_share(strategy: Strategy, step: int) -> float:
    """The challenger's share of live requests in `step` (0 is the first); 1.0 behind the last.

    >>> [next_share(Strategy(steps=(0.05, 0.25)), step) for step in (0, 1, 2)]
    [0.05, 0.25, 1.0]
    """
    if strategy.kind != "canary" or step >= len(strategy.steps):
        return 1.0
    return strategy.steps[step]
