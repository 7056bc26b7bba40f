"""The watch over rollouts: evidence in, verdict out, decision carried out; each row enters exactly once."""

from __future__ import annotations

import msgspec
import numpy as np

from salus.kernel.identity import Actor, system
from salus.kernel.ledger import Entry
from salus.kernel.sql import Transaction
from salus.kernel.subscriptions import Subscription
from salus.serving import verdict as rules
from salus.serving.model.rollouts import Look, Rollout, Verdict
from salus.serving.service import rollouts
from salus.serving.store import endpoints as endpoint_store
from salus.serving.store import rollouts as store
from salus.serving.verdict import Evidence
from salus.serving.wire import prediction_id

SIGHTINGS_AT_ONCE = 50
NEXT_LOOK_RATIO = 1.03


def advance_rollouts(tx: Transaction, entry: Entry) -> None:
    """Handles `PredictionsRecorded` and `LabelsRecorded`: looks at the endpoint's rollout, if one is under way."""
    rollout = store.under_way(tx, entry.workspace, entry.data["endpoint"])
    if rollout is not None:
        advance(tx, system("rollouts", entry.workspace), rollout)


SUBSCRIPTION = Subscription(
    name="serving.rollouts", kinds=("PredictionsRecorded", "LabelsRecorded"), handle=advance_rollouts
)


def advance(tx: Transaction, actor: Actor, rollout: Rollout) -> Rollout:
    """Takes in what has arrived, looks, and does what the verdict says. A second call changes nothing.

    Rows enter in order of event time, once they have a label and are older than the endpoint's label delay: rows whose
    label comes early are not like the others (late flights are labelled late), and would bias the comparison.
    """
    before = store.watch_of(tx, rollout.id)
    watch = _take_answers(tx, before)
    if not _drained(tx, watch):
        store.save_watch(tx, watch)
        return rollout
    watch = _take_labels(tx, rollout, watch)
    if watch == before:
        return rollout
    verdict = rules.judge(watch.evidence, rollout.strategy)
    decided = _act(tx, actor, rollout, watch, verdict)
    if decided.step != rollout.step:
        watch = msgspec.structs.replace(watch, evidence=rules.next_step(watch.evidence))
    store.save_watch(tx, _noted(tx, rollout, watch, verdict, decided))
    return decided


def _drained(tx: Transaction, watch: store.Watch) -> bool:
    """Labels may only be looked up once all rows that they could belong to are there."""
    return not store.sightings_wait(tx, watch.rollout)


def _take_answers(tx: Transaction, watch: store.Watch) -> store.Watch:
    evidence, newest_ms = watch.evidence, watch.newest_ms
    for sighting in store.take_sightings(tx, watch.rollout, SIGHTINGS_AT_ONCE):
        evidence = _with_sighting(evidence, sighting)
        newest_ms = max(newest_ms or sighting.event_ms[0], *sighting.event_ms)
        store.add_pairs(tx, _pairs(watch.rollout, sighting))
    return msgspec.structs.replace(watch, evidence=evidence, newest_ms=newest_ms)


def _with_sighting(evidence: Evidence, sighting: store.Sighting) -> Evidence:
    failed = [
        np.array([flag for flag in flags if flag is not None], dtype=np.float64)
        for flags in (sighting.champion_failed, sighting.challenger_failed)
    ]
    latency_ms = [
        np.array([us for us in times if us is not None], dtype=np.float64) / 1000.0
        for times in (sighting.champion_latency_us, sighting.challenger_latency_us)
    ]
    return rules.with_answers(
        evidence,
        failed=(failed[0], failed[1]),
        latency_ms=(latency_ms[0], latency_ms[1]),
        event_ms=(min(sighting.event_ms), max(sighting.event_ms)),
    )


def _pairs(rollout: str, sighting: store.Sighting) -> list[store.Pair]:
    """The rows that can be judged by their label: with both outputs when mirrored, with one otherwise."""
    found = []
    sides = zip(sighting.champion_output, sighting.challenger_output, strict=True)
    for index, (champion, challenger) in enumerate(sides):
        mirrored = sighting.champion_failed[index] is not None and sighting.challenger_failed[index] is not None
        outputs = [output for output in (champion, challenger) if output is not None]
        if len(outputs) == (2 if mirrored else 1):
            found.append(
                store.Pair(
                    rollout=rollout,
                    prediction_id=prediction_id(sighting.plane, sighting.seqs[index]),
                    event_ms=sighting.event_ms[index],
                    champion=champion,
                    challenger=challenger,
                )
            )
    return found


def _take_labels(tx: Transaction, rollout: Rollout, watch: store.Watch) -> store.Watch:
    label_seq, newest = store.label_pairs(tx, rollout, watch.label_seq)
    newest_ms = max((ms for ms in (watch.newest_ms, newest) if ms is not None), default=None)
    watch = msgspec.structs.replace(watch, label_seq=label_seq, newest_ms=newest_ms)
    metric = rollout.strategy.metric
    endpoint = endpoint_store.find(tx, rollout.workspace, rollout.endpoint)
    if metric is None or endpoint is None or newest_ms is None:
        return watch
    delay_ms = round(endpoint.label_delay_s * 1000)
    ripe = store.take_labelled(tx, rollout.id, newest_ms - delay_ms if delay_ms else None)
    if not ripe:
        return watch
    sides = []
    for side in ("champion", "challenger"):
        answered = [pair for pair in ripe if getattr(pair, side) is not None]
        labels, outputs = [pair.label for pair in answered], [getattr(pair, side) for pair in answered]
        sides.append(rules.losses(metric, labels, outputs, rollout.strategy.scale))  # type: ignore[arg-type]
    return msgspec.structs.replace(watch, evidence=rules.with_losses(watch.evidence, sides[0], sides[1]))


def _act(tx: Transaction, actor: Actor, rollout: Rollout, watch: store.Watch, verdict: Verdict) -> Rollout:
    if verdict.decision == "roll_back":
        return rollouts.roll_back(tx, actor, rollout, reason=verdict.reason, verdict=verdict)
    if verdict.decision == "promote" and rollout.state == "running":
        last = rollout.strategy.kind != "canary" or rollout.step + 1 >= len(rollout.strategy.steps)
        if last:
            return rollouts.promote(tx, actor, rollout, reason=verdict.reason, verdict=verdict)
        return rollouts.step(tx, actor, rollout, verdict)
    if rollout.state == "running" and _expired(rollout, watch):
        return rollouts.hold(tx, actor, rollout, verdict)
    noted = msgspec.structs.replace(rollout, verdict=verdict)
    store.update(tx, noted)
    return noted


def _expired(rollout: Rollout, watch: store.Watch) -> bool:
    """Time is event time: a replay of a week is a week."""
    first, last = watch.evidence.first_event_ms, watch.newest_ms
    if first is None or last is None:
        return False
    return last - first > rollout.strategy.max_duration_s * 1000


def _noted(tx: Transaction, rollout: Rollout, watch: store.Watch, verdict: Verdict, decided: Rollout) -> store.Watch:
    """Keeps this look for the chart, unless it shows hardly more than the last one did."""
    n = watch.evidence.answers + watch.evidence.rows
    same = decided.state == rollout.state and decided.step == rollout.step
    if n == 0 or (same and n < watch.last_look_n * NEXT_LOOK_RATIO):
        return watch
    look = Look(
        at_ms=tx.now_ms,
        event_ms=watch.newest_ms,
        n=n,
        share=rollout.share,
        decision=verdict.decision,
        criteria=verdict.criteria,
    )
    store.add_look(tx, rollout.id, look)
    return msgspec.structs.replace(watch, last_look_n=n)
