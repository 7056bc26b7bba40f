"""May the challenger take over? Pure: evidence and strategy in, verdict out; valid at every look.

Three criteria, each challenger minus champion: the mean loss on labelled rows, the share of rows that fail, and the
latency quantile. One that is certainly above its margin rolls back; the loss and the errors certainly within
theirs promote.

With mirrored traffic both models answer the same rows: losses and errors are compared row by row (one confidence
sequence for the mean of the difference, which needs no independence between the two). Without, each model has rows
of its own and the arms are joined as independent samples. The latency quantiles are joined by the union bound in both
cases.

The false-rollback setting is divided over the criteria (union bound), each used one-sided: the lower end of a
two-sided sequence at 2a is a lower sequence at a. A wrong promotion needs every promoting criterion to be wrong about
itself, so that setting is not divided (intersection-union).

Sources: see `salus.stats.sequential`; R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 1982 (intersection-union).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from salus.kernel.structs import Record
from salus.serving.model.rollouts import (
    MARGIN_OF_METRIC,
    Criterion,
    CriterionName,
    CriterionState,
    Metric,
    Strategy,
    Verdict,
)
from salus.stats.arrays import NotEnoughData, Vector
from salus.stats.intervals import Estimate, log_loss_rows
from salus.stats.sequential.means import MeanSequence, mean_difference, paired_difference
from salus.stats.sequential.quantiles import quantile_interval
from salus.stats.sequential.rates import RateSequence, rate_difference
from salus.stats.sketches.quantile import QuantileSketch

LOG_LOSS_CLIP = 0.01
LARGEST_LOSS: dict[Metric, float] = {
    "brier": 1.0,
    "log_loss": -math.log(LOG_LOSS_CLIP),
    "squared_error": 1.0,
}
UNREALISTIC = 10_000_000


class Arm(Record):
    """What one model did on rows of its own."""

    loss: MeanSequence
    errors: RateSequence = RateSequence()
    latency_ms: QuantileSketch = QuantileSketch()


class Evidence(Record):
    """All that was seen in a rollout so far, in bounded size: `loss` and `errors` compare row by row (mirrored
    traffic), the arms hold what each model did.

    `step_rows` and `step_answers` are how many rows were compared when the present step began.
    """

    paired: bool
    loss: MeanSequence
    errors: MeanSequence
    champion: Arm
    challenger: Arm
    step_rows: int = 0
    step_answers: int = 0
    first_event_ms: int | None = None
    last_event_ms: int | None = None

    @property
    def rows(self) -> int:
        """How many labelled rows the loss rests on (without mirroring: of the arm that has fewer)."""
        return self.loss.n if self.paired else min(self.champion.loss.n, self.challenger.loss.n)

    @property
    def answers(self) -> int:
        """How many answers the error rate rests on."""
        return self.errors.n if self.paired else min(self.champion.errors.n, self.challenger.errors.n)


def begin(strategy: Strategy) -> Evidence:
    """Nothing seen yet."""
    bound = LARGEST_LOSS[strategy.metric] if strategy.metric else 1.0
    alpha = strategy.max_false_rollback_ratio
    return Evidence(
        paired=strategy.mirror,
        loss=paired_difference(bound, alpha),
        errors=paired_difference(1.0, alpha),
        champion=Arm(loss=MeanSequence(0.0, bound, alpha)),
        challenger=Arm(loss=MeanSequence(0.0, bound, alpha)),
    )


def losses(metric: Metric, label: ArrayLike, prediction: ArrayLike, scale: float | None = None) -> Vector:
    """The bounded loss per row, shape (n,): Brier (0 to 1), log loss with probabilities clipped to [0.01, 0.99]
    (0.01 to 4.6 nats), or the squared error in units of `scale`, at most 1.

    >>> losses("brier", [1, 0], [0.8, 0.5])
    array([0.04, 0.25])
    >>> losses("squared_error", [10.0], [40.0], scale=60.0)
    array([0.25])
    """
    y, p = np.asarray(label, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if metric == "log_loss":
        return log_loss_rows(y, np.clip(p, 0.0, 1.0), LOG_LOSS_CLIP)
    if metric == "brier":
        return np.square(y - np.clip(p, 0.0, 1.0)).round(12)
    return np.minimum(np.square((y - p) / (scale or 1.0)), 1.0)


def with_losses(evidence: Evidence, champion: ArrayLike, challenger: ArrayLike) -> Evidence:
    """The evidence after more labelled rows: their losses in order of time; of the same rows when paired."""
    old, new = np.asarray(champion, dtype=np.float64), np.asarray(challenger, dtype=np.float64)
    return msgspec.structs.replace(
        evidence,
        loss=evidence.loss.update(new - old) if evidence.paired else evidence.loss,
        champion=_arm(evidence.champion, loss=evidence.champion.loss.update(old)),
        challenger=_arm(evidence.challenger, loss=evidence.challenger.loss.update(new)),
    )


def with_answers(
    evidence: Evidence,
    *,
    failed: tuple[ArrayLike, ArrayLike],
    latency_ms: tuple[ArrayLike, ArrayLike],
    event_ms: tuple[int, int],
) -> Evidence:
    """The evidence after more answers. Pairs are (champion, challenger): whether each answer failed (of the same rows
    when paired), and how long the answers took; `event_ms` is the stretch of event time."""
    old, new = (np.asarray(side, dtype=np.float64) for side in failed)
    first, last = evidence.first_event_ms, evidence.last_event_ms
    return msgspec.structs.replace(
        evidence,
        errors=evidence.errors.update(new - old) if evidence.paired else evidence.errors,
        champion=_answered(evidence.champion, old, latency_ms[0]),
        challenger=_answered(evidence.challenger, new, latency_ms[1]),
        first_event_ms=event_ms[0] if first is None else min(first, event_ms[0]),
        last_event_ms=event_ms[1] if last is None else max(last, event_ms[1]),
    )


def _answered(arm: Arm, failed: Vector, latency_ms: ArrayLike) -> Arm:
    return _arm(
        arm,
        errors=arm.errors.update(float(failed.sum()), len(failed)),
        latency_ms=arm.latency_ms.update(latency_ms),
    )


def _arm(arm: Arm, **changes: Any) -> Arm:
    return msgspec.structs.replace(arm, **changes)


def next_step(evidence: Evidence) -> Evidence:
    """The evidence as the next step begins: all of it counts on, the step's own rows start at 0."""
    return msgspec.structs.replace(evidence, step_rows=evidence.rows, step_answers=evidence.answers)


def judge(evidence: Evidence, strategy: Strategy) -> Verdict:
    """What the evidence says now.

    Over all looks together, a challenger that is within every margin gets `roll_back` with probability at most
    `strategy.max_false_rollback_ratio`; one that is outside the margin of loss or errors gets `promote` with
    probability at most `strategy.max_false_promotion_ratio`.
    """
    share = strategy.max_false_rollback_ratio / (3 if strategy.metric else 2)
    criteria = [_errors(evidence, strategy, share), _latency(evidence, strategy, share)]
    if strategy.metric:
        criteria.insert(0, _loss(evidence, strategy, strategy.metric, share))
    worse = [criterion for criterion in criteria if criterion.state == "worse"]
    if worse:
        reason = "; ".join(_worse(criterion) for criterion in worse)
        return Verdict(decision="roll_back", reason=reason, criteria=tuple(criteria))
    missing = _missing(evidence, strategy, criteria)
    if missing:
        needed = _needed(criteria[0], strategy, evidence) if strategy.metric else None
        more = f"; about {needed:,} more labelled rows are needed" if needed else ""
        reason = f"cannot tell yet: {missing}{more}"
        return Verdict(decision="hold", reason=reason, criteria=tuple(criteria), needed_n=needed)
    reason = "certainly no worse than allowed: " + "; ".join(
        _fine(criterion) for criterion in criteria if criterion.state == "fine"
    )
    return Verdict(decision="promote", reason=reason, criteria=tuple(criteria))


def _loss(evidence: Evidence, strategy: Strategy, metric: Metric, share: float) -> Criterion:
    margin = MARGIN_OF_METRIC[metric] if strategy.margin is None else strategy.margin
    try:
        if evidence.paired:
            down, up = _one_sided(evidence.loss, share), _one_sided(evidence.loss, _promotion(strategy))
        else:
            arms = evidence.champion.loss, evidence.challenger.loss
            down, up = mean_difference(*arms, 2 * share), mean_difference(*arms, 2 * _promotion(strategy))
    except NotEnoughData:
        return _unknown("loss", metric, margin, evidence.rows)
    return _criterion("loss", metric, margin, evidence.rows, down, up)


def _errors(evidence: Evidence, strategy: Strategy, share: float) -> Criterion:
    margin, unit = strategy.error_margin_ratio, "share of answers"
    try:
        if evidence.paired:
            down, up = _one_sided(evidence.errors, share), _one_sided(evidence.errors, _promotion(strategy))
        else:
            arms = evidence.champion.errors, evidence.challenger.errors
            down, up = rate_difference(*arms, share), rate_difference(*arms, _promotion(strategy))
    except NotEnoughData:
        return _unknown("errors", unit, margin, evidence.answers)
    return _criterion("errors", unit, margin, evidence.answers, down, up)


def _latency(evidence: Evidence, strategy: Strategy, share: float) -> Criterion:
    """Each arm's quantile at half the share. The margin is taken from the upper end of the champion's interval, so that
    it is at least the true margin whenever that interval holds."""
    unit = f"ms (p{strategy.latency_quantile * 100:g})"
    n = evidence.answers
    try:
        quantile = strategy.latency_quantile
        old = quantile_interval(evidence.champion.latency_ms, quantile, share / 2)
        new = quantile_interval(evidence.challenger.latency_ms, quantile, share / 2)
    except NotEnoughData:
        return _unknown("latency", unit, strategy.latency_margin_ms, n)
    margin = max(strategy.latency_margin_ratio * old.high, strategy.latency_margin_ms)
    gap = Estimate(new.value - old.value, new.low - old.high, new.high - old.low, n, 1 - share)
    return _criterion("latency", unit, margin, n, gap, gap)


def _one_sided(sequence: MeanSequence, alpha: float) -> Estimate:
    return sequence.interval(2 * alpha)


def _promotion(strategy: Strategy) -> float:
    return strategy.max_false_promotion_ratio


def _criterion(name: CriterionName, unit: str, margin: float, n: int, down: Estimate, up: Estimate) -> Criterion:
    state: CriterionState = "worse" if down.low > margin else "fine" if up.high <= margin else "cannot tell"
    return Criterion(
        name=name, unit=unit, state=state, margin=margin, n=n, value=down.value, low=down.low, high=up.high
    )


def _unknown(name: CriterionName, unit: str, margin: float, n: int) -> Criterion:
    return Criterion(name=name, unit=unit, state="cannot tell", margin=margin, n=n)


def _missing(evidence: Evidence, strategy: Strategy, criteria: list[Criterion]) -> str:
    """What keeps the challenger from going on; empty when nothing does."""
    step_rows, step_answers = evidence.rows - evidence.step_rows, evidence.answers - evidence.step_answers
    if strategy.metric and step_rows < strategy.min_rows:
        return f"{step_rows:,} labelled rows in this step, at least {strategy.min_rows:,} are asked for"
    if step_answers < strategy.min_rows:
        return f"{step_answers:,} answers in this step, at least {strategy.min_rows:,} are asked for"
    open_ = [c for c in criteria if c.state == "cannot tell" and c.name != "latency"]
    return "; ".join(_undecided(criterion) for criterion in open_)


def _needed(loss: Criterion, strategy: Strategy, evidence: Evidence) -> int | None:
    """About how many more labelled rows decide: to the minimum, or till the interval has shrunk (as 1 / sqrt n) to
    the distance between estimate and margin."""
    to_minimum = strategy.min_rows - (evidence.rows - evidence.step_rows)
    if loss.value is None or loss.low is None or loss.high is None or loss.state != "cannot tell":
        return max(to_minimum, 0) or None
    distance = abs(loss.margin - loss.value)
    half = loss.high - loss.value if loss.value <= loss.margin else loss.value - loss.low
    if distance <= 0:
        return None
    rows = loss.n * ((half / distance) ** 2 - 1)
    return None if rows > UNREALISTIC else max(to_minimum, math.ceil(rows), 1)


def _interval(criterion: Criterion) -> str:
    if criterion.value is None:
        return f"unknown (n={criterion.n:,})"
    return f"{criterion.value:+.4g} [{criterion.low:+.4g}, {criterion.high:+.4g}] {criterion.unit} (n={criterion.n:,})"


def _worse(criterion: Criterion) -> str:
    return f"{criterion.name} is certainly worse by more than {criterion.margin:.4g}: {_interval(criterion)}"


def _fine(criterion: Criterion) -> str:
    return f"{criterion.name} {_interval(criterion)}, allowed {criterion.margin:.4g}"


def _undecided(criterion: Criterion) -> str:
    return f"{criterion.name} {_interval(criterion)} still reaches {criterion.margin:.4g}"
