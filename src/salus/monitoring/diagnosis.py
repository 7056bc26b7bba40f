"""Diagnosis: from vital signs to a paragraph that a person understands, with the numbers that it rests on. Pure.

The order is fixed: is an input broken? Do the scores overlap with the reference's enough to compare? How much of the
change of the loss is harder ground, how much another relation? Which columns and which rows carry it? What happened
just before?
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from salus.kernel.structs import Record
from salus.monitoring.model.alerts import Alert, Cause
from salus.monitoring.model.diagnoses import (
    ColumnShare,
    Condition,
    Confidence,
    Diagnosis,
    LossSplit,
    RecentEvent,
    Segment,
)
from salus.monitoring.model.watches import Watch
from salus.monitoring.model.windows import Finding, Movement, Window
from salus.monitoring.rows import LOSS_NAME, Curve, Rows, score_cells
from salus.stats.arrays import NotEnoughData
from salus.stats.intervals import Estimate, mean_interval

LEAST_EFFECTIVE_RATIO = 0.1
"""Below this effective sample size of the reweighted reference, a split of the change would be a guess."""

ADVICE: dict[Cause, tuple[str, ...]] = {
    "broken_input": (
        "Fix the feed that delivers it; a rollback or a retraining will not help.",
        "The windows it touched are left out of training data by themselves.",
    ),
    "changed_relationship": (
        "Retrain on recent rows: the model's answers no longer mean what they did.",
        "Promote only a candidate that is better on the newest labelled rows.",
    ),
    "shifted_inputs": (
        "Check whether the moved inputs are as they should be; the model itself still holds what it promised.",
        "Retraining helps only where rows of the new kind are among the training data.",
    ),
    "sick_service": ("Look at the data plane's log and load; roll back if it began with a deployment.",),
}

_NAMES = {"log_loss": "log loss", "squared_error": "squared error"}


class Evidence(Record):
    """What the parts of a diagnosis found."""

    split: LossSplit | None = None
    columns: tuple[ColumnShare, ...] = ()
    segments: tuple[Segment, ...] = ()
    events: tuple[RecentEvent, ...] = ()


def split_of(rows: Rows, reference: Rows, curve: Curve, blocks: Sequence[int]) -> LossSplit | None:
    """The change of the mean loss against the reference, split; `blocks` are the windows of `rows`.

    None with fewer than two rows.
    """
    by_window = np.asarray(blocks) if len(set(blocks)) > 2 else None
    try:
        realised = mean_interval(rows.loss, blocks=by_window)
        expected = mean_interval(rows.expected, blocks=by_window)
        relation = mean_interval(rows.residual, blocks=by_window)
    except NotEnoughData:
        return None
    base = float(reference.loss.mean())
    ratio = effective_ratio(rows, reference, curve)
    split = LossSplit(
        metric=LOSS_NAME[rows.task],
        reference=base,
        realised=realised,
        change=realised.value - base,
        effective_ratio=ratio,
    )
    if ratio < LEAST_EFFECTIVE_RATIO:
        return split
    moved = msgspec.structs.replace(
        expected, value=expected.value - base, low=expected.low - base, high=expected.high - base
    )
    return msgspec.structs.replace(split, moved=moved, relation=relation)


def effective_ratio(rows: Rows, reference: Rows, curve: Curve) -> float:
    """Effective sample size of the reference, reweighted to the scores of now, as a share of its size (Kish 1965)."""
    size = len(curve.edges) + 1
    before = np.bincount(score_cells(curve.edges, reference.score), minlength=size) / len(reference)
    after = np.bincount(score_cells(curve.edges, rows.score), minlength=size) / len(rows)
    weight = np.divide(after, before, out=np.zeros(size), where=before > 0)
    lost = float(after[before == 0].sum())
    square = float((before * weight**2).sum())
    return (1 - lost) ** 2 / square if square else 0.0


def leading_cause(split: LossSplit | None, asked: Cause) -> Cause:
    """Whether moved inputs or a changed relation carry more of the rise; `asked` where the split cannot tell."""
    if split is None or split.moved is None or split.relation is None or split.change <= 0:
        return asked
    return "changed_relationship" if split.relation.value >= split.moved.value else "shifted_inputs"


def diagnose(
    watch: Watch,
    *,
    latest: Window | None,
    mature: Window | None,
    alerts: Sequence[Alert],
    reference_metrics: dict[str, Estimate],
    evidence: Evidence | None = None,
) -> Diagnosis:
    """The diagnosis of an endpoint as it stands. `alerts` are those that are pending or firing."""
    firing = [alert for alert in alerts if alert.state == "firing"]
    condition = _condition(watch, latest, alerts)
    found = evidence or Evidence()
    sentences = [_performance(watch, mature, reference_metrics)]
    leading = _leading(firing)
    if leading is not None:
        sentences.append(_cause(leading, latest, found))
        sentences += _carriers(leading, found)
    else:
        sentences.append(_calm(condition, latest, mature))
    advice = ADVICE[leading.cause] if leading is not None else ()
    if advice:
        sentences.append(f"Next: {advice[0]}")
    begun = [window for window in (mature, latest) if window is not None]
    return Diagnosis(
        endpoint=watch.endpoint,
        model=watch.model,
        version=watch.version,
        condition=condition,
        text=f"{watch.model} {watch.version}: " + " ".join(sentence for sentence in sentences if sentence),
        cause=leading.cause if leading is not None else None,
        confidence=_confidence(leading, found),
        advice=advice,
        window_start_ms=min((window.start_ms for window in begun), default=None),
        window_end_ms=max((window.end_ms for window in begun), default=None),
        split=found.split,
        columns=found.columns,
        segments=found.segments,
        events=found.events,
        alerts=tuple(alert.id for alert in firing),
    )


def _condition(watch: Watch, latest: Window | None, alerts: Sequence[Alert]) -> Condition:
    firing = {alert.cause for alert in alerts if alert.state == "firing"}
    if "broken_input" in firing:
        return "broken_input"
    if firing:
        return "sick"
    if latest is None:
        return "unknown"
    return "watch" if alerts else "healthy"


def _leading(firing: Sequence[Alert]) -> Alert | None:
    order: tuple[Cause, ...] = ("broken_input", "sick_service", "changed_relationship", "shifted_inputs")
    return min(firing, key=lambda alert: order.index(alert.cause), default=None)


def _performance(watch: Watch, mature: Window | None, reference: dict[str, Estimate]) -> str:
    metric = LOSS_NAME.get(watch.task, "")
    if mature is None or metric not in mature.metrics:
        return "no labels have matured yet, so how good it is cannot be told."
    base = f", reference {reference[metric].value:.3f}" if metric in reference else ""
    more = f", AUC {interval(mature.metrics['auc'])}" if "auc" in mature.metrics else ""
    return f"{_NAMES[metric]} {interval(mature.metrics[metric])} on {day(mature.start_ms)}{base}{more}."


def _cause(alert: Alert, latest: Window | None, found: Evidence) -> str:
    if alert.cause == "broken_input":
        findings = _findings(alert, latest)
        told = "; ".join(finding.text for finding in findings) or alert.title
        return f"Cause: broken input. {told}, since {moment(alert.since_event_ms)}."
    if alert.cause == "sick_service":
        return f"Cause: the service. {alert.title}, since {moment(alert.since_event_ms)}."
    split = found.split
    head = "the relationship changed" if alert.cause == "changed_relationship" else "the inputs moved to harder ground"
    text = f"Cause: {head}, since about {day(alert.since_event_ms)}."
    if split is None:
        return text
    if split.moved is None or split.relation is None:
        return (
            f"{text} How much of it each part explains cannot be told: the scores of now overlap too little with the "
            f"reference's (effective sample size {split.effective_ratio:.0%} of it)."
        )
    return (
        f"{text} Since then the {_NAMES[split.metric]} is {split.change:+.3f} against the reference: "
        f"{split.relation.value:+.3f} [{split.relation.low:+.3f}, {split.relation.high:+.3f}] by another relation, "
        f"{split.moved.value:+.3f} by the ground."
    )


def _findings(alert: Alert, latest: Window | None) -> list[Finding]:
    return [] if latest is None else [item for item in latest.findings if item.column in alert.columns]


def _carriers(alert: Alert, found: Evidence) -> list[str]:
    sentences = []
    if alert.cause == "changed_relationship" and found.segments:
        worst = found.segments[0]
        sentences.append(
            f"It is worst where {worst.rule} ({worst.rows_ratio:.0%} of the rows, "
            f"{interval(worst.excess, sign=True)} above what was expected)."
        )
    if alert.cause == "shifted_inputs" and found.columns:
        moved = found.columns[0]
        sentences.append(f"`{moved.column}` moved {moved.distance:.2f} {moved.unit} and carries {moved.share:+.3f}.")
    if found.events and alert.cause != "broken_input":
        last = found.events[-1]
        sentences.append(f"Shortly before, {moment(last.event_ms)}: {last.text}.")
    return sentences


def _calm(condition: Condition, latest: Window | None, mature: Window | None) -> str:
    if latest is None:
        return "No window is complete yet."
    if condition == "watch":
        return "Something may be beginning, not yet certain enough to tell."
    moved = farthest(latest)
    told = "Nothing is broken and the loss is what was expected"
    if mature is None or mature.harm is None or mature.harm.residual is None:
        told = "Nothing is broken"
    if moved is None:
        return f"{told}; inputs are where the reference was."
    return f"{told}; `{moved.column}` moved most ({moved.distance:.2f} {moved.unit}), which by itself is no harm."


def farthest(window: Window) -> Movement | None:
    """The column that moved farthest beyond what the reference does by itself, or None when none did."""
    beyond = [moved for moved in window.movements if moved.excess is not None and moved.excess >= 1]
    return max(beyond, key=lambda moved: moved.excess or 0.0, default=None)


def _confidence(alert: Alert | None, found: Evidence) -> Confidence:
    if alert is None:
        return "low"
    if alert.cause in ("broken_input", "sick_service"):
        return "high"
    split = found.split
    if split is None or split.relation is None or split.moved is None:
        return "low"
    part = split.relation if alert.cause == "changed_relationship" else split.moved
    return "high" if part.low > 0 and split.effective_ratio >= 0.5 else "medium"


def interval(estimate: Estimate, *, sign: bool = False) -> str:
    """An estimate for a sentence: `0.412 [0.405, 0.419]`."""
    plus = "+" if sign else ""
    return f"{estimate.value:{plus}.3f} [{estimate.low:{plus}.3f}, {estimate.high:{plus}.3f}]"


def moment(ms: int) -> str:
    """A time for a sentence, to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def day(ms: int) -> str:
    """A day for a sentence; with the hour where it is not midnight."""
    text = moment(ms)
    return text.removesuffix(" 00:00")
