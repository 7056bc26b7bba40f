"""What one can do with policies and retrainings; and how a retraining begins."""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel import lineage
from salus.kernel.errors import Conflict, NotFound, SalusError
from salus.kernel.identity import Actor
from salus.kernel.ids import new_id
from salus.kernel.sql import Reader, Transaction
from salus.monitoring import service as monitoring
from salus.monitoring.model.watches import DAY_MS, Watch
from salus.pipelines import service as pipelines
from salus.pipelines.model import StartPipelineRun
from salus.registry import service as registry
from salus.retraining import store
from salus.retraining.model import (
    Decision,
    Policy,
    PolicyChanged,
    PutPolicy,
    Retrain,
    Retraining,
    RetrainingDeclined,
    RetrainingStarted,
    RetrainingState,
    Trigger,
)


def put_policy(tx: Transaction, actor: Actor, model: str, body: PutPolicy) -> Policy:
    """From now on the model is retrained so.

    Raises:
        NotFound: no such model or pipeline.
    """
    registry.get_model(tx, actor, model)
    pipelines.get_pipeline(tx, actor, body.pipeline)
    before = store.find_policy(tx, actor.workspace, model)
    if before is not None and before.body == body:
        return before
    policy = Policy(
        workspace=actor.workspace,
        model=model,
        endpoint=body.endpoint or _endpoint_of(tx, actor, model),
        body=body,
        revision=1 if before is None else before.revision + 1,
        updated_ms=tx.now_ms,
        updated_by=actor.principal,
    )
    store.save_policy(tx, policy)
    news = PolicyChanged(model=model, pipeline=body.pipeline, policy=body)
    tx.emit(actor, f"policy:{model}", news, before=before, after=policy)
    return policy


def _endpoint_of(reader: Reader, actor: Actor, model: str) -> str:
    """The endpoint that serves the model; its own name while none does."""
    try:
        return monitoring.find_watches(reader, actor, model)[0].endpoint
    except NotFound:
        return model


def get_policy(reader: Reader, actor: Actor, model: str) -> Policy:
    """The model's policy. Raises `NotFound`."""
    found = store.find_policy(reader, actor.workspace, model)
    if found is None:
        raise NotFound(
            f"the model {model} has no retraining policy",
            path="model",
            remedy=f"Set one: salus policies put {model} --pipeline NAME.",
        )
    return found


def list_policies(reader: Reader, actor: Actor) -> list[Policy]:
    """All policies by model."""
    return reader.records(Policy, store.select_policies(actor.workspace))


def list_retrainings(
    reader: Reader, actor: Actor, *, model: str | None = None, before: str | None = None, limit: int = 100
) -> list[Retraining]:
    """Retrainings, newest first; those that were declined included."""
    query = store.select_retrainings(actor.workspace, model).limit(limit)
    return reader.records(Retraining, query if before is None else query.where(store.retrainings.c.id < before))


def get_retraining(reader: Reader, actor: Actor, retraining_id: str) -> Retraining:
    """The retraining. Raises `NotFound`."""
    query = store.select_retrainings(actor.workspace).where(store.retrainings.c.id == retraining_id)
    return reader.one(Retraining, query, what=f"retraining {retraining_id}")


def retrain(tx: Transaction, actor: Actor, model: str, body: Retrain) -> Retraining:
    """Retrains now, whatever alarms and cooldown say; the gate and the rollout are the policy's.

    Raises:
        Conflict: a retraining is under way, or there is nothing to learn from yet.
    """
    policy = get_policy(tx, actor, model)
    reach = monitoring.reach(tx, actor, policy.endpoint)
    if reach is None:
        raise Conflict(f"{policy.endpoint} has seen no request yet", remedy="Deploy, and let requests come.")
    reason = body.reason or f"asked for by {actor.principal}"
    found = consider(tx, actor, policy, Trigger(kind="manual", event_ms=reach[1], reason=reason))
    if found.state == "declined":
        raise Conflict(found.reason, remedy="See the retrainings of the model: GET /api/v1/retrainings.")
    return found


def consider(tx: Transaction, actor: Actor, policy: Policy, trigger: Trigger) -> Retraining:
    """Starts a retraining, or records why not (`declined`)."""
    watch = monitoring.get_watch(tx, actor, policy.endpoint)
    made = _drafted(tx, actor, policy, trigger, watch)
    obstacle = _obstacle(tx, actor, policy, made)
    if obstacle is not None:
        return _declined(tx, actor, made, obstacle)
    body = StartPipelineRun(
        parameters=_parameters(tx, actor, policy, made),
        trigger=f"alert:{trigger.alert}" if trigger.alert else made.subject,
        idempotency_key=f"retraining:{made.id}",
    )
    try:
        run = pipelines.start_run(tx, actor, policy.body.pipeline, body)
    except SalusError as error:
        return _declined(tx, actor, made, f"the pipeline {policy.body.pipeline} could not be started: {error}")
    started = with_decision(
        tx, msgspec.structs.replace(made, pipeline_run=run.id), "training", f"{trigger.reason}: {run.id} trains"
    )
    store.save(tx, started)
    news = RetrainingStarted(
        retraining=made.id,
        model=made.model,
        endpoint=made.endpoint,
        champion=made.champion,
        trigger=trigger.kind,
        reason=trigger.reason,
        event_ms=trigger.event_ms,
        pipeline_run=run.id,
    )
    tx.emit(actor, made.subject, news, after=started)
    if trigger.alert is not None:
        lineage.link(tx, actor, upstream=f"alert:{trigger.alert}", downstream=made.subject, relation="triggered")
    lineage.link(tx, actor, upstream=made.subject, downstream=f"pipeline_run:{run.id}", relation="triggered")
    return started


def _drafted(tx: Transaction, actor: Actor, policy: Policy, trigger: Trigger, watch: Watch) -> Retraining:
    until_ms = trigger.event_ms - holdout_ms(policy.body, trigger)
    window_s = policy.body.window_s
    return Retraining(
        id=new_id("rtr"),
        workspace=actor.workspace,
        model=policy.model,
        endpoint=policy.endpoint,
        trigger=trigger,
        state="waiting",
        champion=watch.version,
        since_ms=None if window_s is None else until_ms - round(1000 * window_s),
        until_ms=until_ms,
        now_ms=trigger.event_ms,
        excluded=tuple(monitoring.broken_ranges(tx, actor, policy.endpoint)),
        pipeline=policy.body.pipeline,
        pipeline_run=None,
        candidate=None,
        job=None,
        comparison=None,
        rollout=None,
        reason=trigger.reason,
        decisions=(),
        created_ms=tx.now_ms,
        updated_ms=tx.now_ms,
    )


def holdout_ms(policy: PutPolicy, trigger: Trigger) -> int:
    """How long the newest rows are kept from training: after an alarm, at most half of the time since the change."""
    full_ms = round(1000 * policy.holdout_s)
    if trigger.since_ms is None:
        return full_ms
    return min(full_ms, max((trigger.event_ms - trigger.since_ms) // 2, policy.gate.min_days * DAY_MS))


def _obstacle(reader: Reader, actor: Actor, policy: Policy, made: Retraining) -> str | None:
    """Why the policy says no, or None."""
    trigger, body = made.trigger, policy.body
    if trigger.cause == "broken_input":
        return "an input is broken: a retraining would learn the fault; fix the feed"
    if body.paused:
        return "the policy is paused"
    if trigger.cause is not None and trigger.cause not in body.causes:
        return f"the policy does not retrain for {trigger.cause}"
    busy = store.open_one(reader, actor.workspace, made.model)
    if busy is not None:
        return f"{busy.id} is under way ({busy.state})"
    last = store.last(reader, actor.workspace, made.model)
    waited_s = None if last is None else (made.now_ms - last.now_ms) / 1000
    if waited_s is not None and trigger.kind != "manual" and waited_s < body.cooldown_s:
        return f"the last one was {waited_s / 86_400:.1f} days ago, the cooldown is {body.cooldown_s / 86_400:.1f}"
    if trigger.since_ms is not None:
        age_days, wanted = (made.now_ms - trigger.since_ms) / DAY_MS, 2 * body.gate.min_days
        if age_days < wanted:
            return (
                f"not yet: the change is {age_days:.1f} days old; to learn from it and to be judged on it "
                f"takes {wanted} days"
            )
    learned = trained_until(reader, actor, made.model, made.champion)
    if learned is not None and made.until_ms <= learned:
        return "there are no rows that the champion has not learned from, beside those kept for the gate"
    reach = monitoring.reach(reader, actor, made.endpoint)
    if reach is None or reach[2] < body.min_labelled:
        return f"{0 if reach is None else reach[2]:,} labelled rows, the policy asks for {body.min_labelled:,}"
    return None


def trained_until(reader: Reader, actor: Actor, model: str, version: str) -> int | None:
    """Until which event time a version learned, where it came from a retraining."""
    query = store.select_retrainings(actor.workspace, model).where(store.retrainings.c.candidate == version)
    found = reader.record(Retraining, query)
    return None if found is None else found.until_ms


def _parameters(reader: Reader, actor: Actor, policy: Policy, made: Retraining) -> dict[str, Any]:
    """What the pipeline gets: the policy's own parameters, and of these what it declares."""
    offered = {
        "since_ms": made.since_ms,
        "until_ms": made.until_ms,
        "excluded": [list(stretch) for stretch in made.excluded],
        "endpoint": made.endpoint,
        "model": made.model,
        "champion": made.champion,
        "alert": made.trigger.alert or "",
        "retraining": made.id,
    }
    declared = {parameter.name for parameter in pipelines.get_pipeline(reader, actor, policy.body.pipeline).parameters}
    chosen = {name: value for name, value in offered.items() if name in declared and value is not None}
    return {**chosen, **policy.body.parameters}


def _declined(tx: Transaction, actor: Actor, made: Retraining, reason: str) -> Retraining:
    """Records it, once for each alert."""
    declined = with_decision(tx, made, "declined", reason)
    alert = made.trigger.alert
    if alert is not None and store.declined_for(tx, actor.workspace, made.model, alert):
        return declined
    if made.trigger.kind == "manual":
        return declined
    store.save(tx, declined)
    news = RetrainingDeclined(
        model=made.model,
        endpoint=made.endpoint,
        trigger=made.trigger.kind,
        alert=alert,
        reason=reason,
        event_ms=made.trigger.event_ms,
    )
    tx.emit(actor, made.subject, news, after=declined)
    return declined


def with_decision(
    tx: Transaction, retraining: Retraining, state: RetrainingState, reason: str, evidence: dict[str, Any] | None = None
) -> Retraining:
    """The retraining in its next state, with the decision added to its record."""
    decision = Decision(at_ms=tx.now_ms, state=state, reason=reason, evidence=evidence or {})
    return msgspec.structs.replace(
        retraining, state=state, reason=reason, decisions=(*retraining.decisions, decision), updated_ms=tx.now_ms
    )
