"""Rollouts: started, stepped, promoted, rolled back; each in one transaction with the routes it changes."""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel import lineage
from salus.kernel.errors import Conflict, Denied, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.ids import new_id
from salus.kernel.policy import Gate, Question
from salus.kernel.schema import Task
from salus.kernel.sql import Reader, Transaction
from salus.registry import service as registry
from salus.registry.model import ModelVersion
from salus.serving import verdict as rules
from salus.serving.model.decisions import (
    RolledBack,
    RolloutHeld,
    RolloutPromoted,
    RolloutStarted,
    RolloutStepped,
)
from salus.serving.model.endpoints import Endpoint, PutEndpoint, Revision
from salus.serving.model.rollouts import (
    METRICS_OF_TASK,
    Reason,
    Rollout,
    RolloutDetail,
    StartRollout,
    Strategy,
    Verdict,
    next_share,
)
from salus.serving.service.endpoints import get_endpoint, put_endpoint, revision_of
from salus.serving.store import endpoints as endpoint_store
from salus.serving.store import labels as label_store
from salus.serving.store import rollouts as store

_ERRORS_PER_SCALE = 4.0
_ERROR_METRICS = ("root_mean_squared_error", "rmse")


def start_rollout(tx: Transaction, actor: Actor, name: str, body: StartRollout, *, gate: Gate) -> Rollout:
    """Begins to bring `body.model` at `body.version` into service at the endpoint, which is made if it is not there.

    Where nothing was served before there is nothing to compare with: the version gets everything at once.

    Raises:
        Denied: the version is not approved (and no override with a reason was given), or a gate refuses.
        Conflict: a rollout is under way, or the version is live already.
        InvalidInput: the version or the strategy does not fit the endpoint; `path` names the field.
    """
    if endpoint_store.find(tx, actor.workspace, name) is None:
        put_endpoint(tx, actor, name, PutEndpoint())
    endpoint = get_endpoint(tx, actor, name)
    busy = store.under_way(tx, actor.workspace, name)
    if busy is not None:
        raise Conflict(
            f"the rollout {busy.id} of {busy.model}@{busy.version} is under way at {name}",
            remedy="Promote it or roll it back first.",
            details={"rollout": busy.id},
        )
    version = registry.get_version(tx, actor, body.model, body.version)
    _check_approved(version, body)
    challenger = revision_of(tx, actor, endpoint, version, path="$.version")
    if challenger.id == endpoint.live:
        raise Conflict(f"{version.name}@{version.version} is live at {name} already", path="$.version")
    task = endpoint.task or version.signature.task
    if task != version.signature.task:
        raise InvalidInput(
            f"the endpoint's task is {task}, the version's is {version.signature.task}", path="$.version"
        )
    strategy = _completed(body.strategy, task, version, first=endpoint.live is None)
    evidence = {
        "model": version.name,
        "version": version.version,
        "kind": strategy.kind,
        "override": body.override,
    }
    answers = gate.ask(Question(actor=actor, action="endpoints.deploy", subject=endpoint.subject, evidence=evidence))
    rollout = _begin(tx, actor, endpoint, challenger, strategy, body.reason)
    _announce_start(tx, actor, rollout, body.override, [msgspec.to_builtins(answer) for answer in answers])
    if endpoint.task is None:
        endpoint = endpoint_store.with_changes(endpoint, tx.now_ms, task=task)
        endpoint_store.update(tx, endpoint)
    if strategy.kind == "all_at_once":
        return promote(tx, actor, rollout, reason=body.reason)
    endpoint_store.advance_epoch(tx, actor.workspace)
    return rollout


def _check_approved(version: ModelVersion, body: StartRollout) -> None:
    if version.state == "approved":
        return
    if not body.override:
        raise Denied(
            f"{version.name}@{version.version} is not approved (it is {version.state})",
            path="$.version",
            remedy="Approve it (salus models approve), or deploy with override and a reason.",
        )
    if not body.reason.strip():
        raise InvalidInput(
            "an override needs a reason", path="$.reason", remedy="Say why an unapproved version must go live."
        )


def _completed(strategy: Strategy, task: Task, version: ModelVersion, *, first: bool) -> Strategy:
    """The strategy with the metric that the task asks for. Raises `InvalidInput` where it does not fit."""
    if first:
        return msgspec.structs.replace(strategy, kind="all_at_once", metric=None)
    fitting = METRICS_OF_TASK.get(task, ())
    if strategy.metric is not None and strategy.metric not in fitting:
        known = ", ".join(fitting) or "none: it is judged by errors and latency"
        raise InvalidInput(
            f"a {task} endpoint is not judged by {strategy.metric}; there is {known}", path="$.strategy.metric"
        )
    metric = strategy.metric or (fitting[0] if fitting else None)
    scale = strategy.scale
    if metric == "squared_error" and scale is None and strategy.kind != "all_at_once":
        error = next((v for key in _ERROR_METRICS if (v := version.metrics.get(key))), None)
        if error is None:
            raise InvalidInput(
                "a regression's loss needs a scale to be bounded",
                path="$.strategy.scale",
                remedy="Give the absolute error that counts as loss 1, or register the model with the metric 'rmse'.",
            )
        scale = _ERRORS_PER_SCALE * error
    return msgspec.structs.replace(strategy, metric=metric, scale=scale)


def _begin(
    tx: Transaction,
    actor: Actor,
    endpoint: Endpoint,
    challenger: Revision,
    strategy: Strategy,
    reason: str,
) -> Rollout:
    rollout = Rollout(
        id=new_id("rol"),
        workspace=actor.workspace,
        endpoint=endpoint.name,
        champion=endpoint.live,
        challenger=challenger.id,
        model=challenger.model,
        version=challenger.version,
        strategy=strategy,
        state="running",
        step=0,
        share=next_share(strategy, 0),
        reason=reason,
        verdict=None,
        started_ms=tx.now_ms,
        started_by=actor.principal,
    )
    tx.insert(store.rollouts, rollout)
    watch = store.Watch(
        rollout=rollout.id,
        evidence=rules.begin(strategy),
        label_seq=label_store.last_seq(tx, actor.workspace, endpoint.name),
    )
    store.open_watch(tx, watch)
    lineage.link(
        tx,
        actor,
        upstream=f"model_version:{rollout.model}@{rollout.version}",
        downstream=rollout.subject,
        relation="challenged",
    )
    return rollout


def _announce_start(
    tx: Transaction, actor: Actor, rollout: Rollout, override: bool, answers: list[dict[str, Any]]
) -> None:
    event = RolloutStarted(
        endpoint=rollout.endpoint,
        rollout=rollout.id,
        model=rollout.model,
        version=rollout.version,
        champion=rollout.champion,
        challenger=rollout.challenger,
        kind=rollout.strategy.kind,
        share=rollout.share,
        reason=rollout.reason,
        override=override,
        answers=answers,
    )
    tx.emit(actor, rollout.subject, event, after=rollout)


def step(tx: Transaction, actor: Actor, rollout: Rollout, verdict: Verdict) -> Rollout:
    """Gives the challenger the share of its next step."""
    number = rollout.step + 1
    stepped = msgspec.structs.replace(rollout, step=number, share=next_share(rollout.strategy, number), verdict=verdict)
    store.update(tx, stepped)
    endpoint_store.advance_epoch(tx, actor.workspace)
    event = RolloutStepped(
        endpoint=rollout.endpoint, rollout=rollout.id, step=number, share=stepped.share, verdict=verdict
    )
    tx.emit(actor, rollout.subject, event, before=rollout, after=stepped)
    return stepped


def hold(tx: Transaction, actor: Actor, rollout: Rollout, verdict: Verdict) -> Rollout:
    """Time is up: from now on only a person promotes; certain harm still rolls back."""
    held = msgspec.structs.replace(rollout, state="held", verdict=verdict)
    store.update(tx, held)
    event = RolloutHeld(endpoint=rollout.endpoint, rollout=rollout.id, verdict=verdict)
    tx.emit(actor, rollout.subject, event, before=rollout, after=held)
    return held


def promote(tx: Transaction, actor: Actor, rollout: Rollout, *, reason: str, verdict: Verdict | None = None) -> Rollout:
    """The challenger gets everything; the champion is kept as `previous`."""
    endpoint = get_endpoint(tx, actor, rollout.endpoint)
    ended = _ended(tx, actor, rollout, "promoted", verdict)
    changed = endpoint_store.with_changes(endpoint, tx.now_ms, live=rollout.challenger, previous=rollout.champion)
    endpoint_store.update(tx, changed)
    endpoint_store.advance_epoch(tx, actor.workspace)
    event = RolloutPromoted(
        endpoint=rollout.endpoint,
        rollout=rollout.id,
        model=rollout.model,
        version=rollout.version,
        revision=rollout.challenger,
        previous=rollout.champion,
        reason=reason,
        verdict=ended.verdict,
    )
    tx.emit(actor, rollout.subject, event, before=endpoint, after=changed)
    return ended


def roll_back(
    tx: Transaction, actor: Actor, rollout: Rollout, *, reason: str, verdict: Verdict | None = None
) -> Rollout:
    """The champion answers everything again."""
    ended = _ended(tx, actor, rollout, "rolled_back", verdict)
    endpoint_store.advance_epoch(tx, actor.workspace)
    event = RolledBack(
        endpoint=rollout.endpoint,
        rollout=rollout.id,
        model=rollout.model,
        version=rollout.version,
        revision=rollout.champion,
        rejected=rollout.challenger,
        reason=reason,
        verdict=ended.verdict,
    )
    tx.emit(actor, rollout.subject, event, before=rollout, after=ended)
    return ended


def _ended(tx: Transaction, actor: Actor, rollout: Rollout, state: Any, verdict: Verdict | None) -> Rollout:
    ended = msgspec.structs.replace(
        rollout,
        state=state,
        share=1.0 if state == "promoted" else 0.0,
        verdict=verdict or rollout.verdict,
        ended_ms=tx.now_ms,
        ended_by=actor.principal,
    )
    store.update(tx, ended)
    store.close_watch(tx, rollout.id)
    return ended


def promote_by_hand(tx: Transaction, actor: Actor, rollout_id: str, body: Reason, *, gate: Gate) -> Rollout:
    """Promotes now, whatever the evidence says; the evidence goes into the ledger with it.

    Raises:
        Conflict: the rollout has ended.
        Denied: a gate refuses.
    """
    rollout = _open_rollout(tx, actor, rollout_id)
    evidence = {
        "model": rollout.model,
        "version": rollout.version,
        "verdict": msgspec.to_builtins(rollout.verdict),
    }
    subject = f"endpoint:{rollout.endpoint}"
    gate.ask(Question(actor=actor, action="endpoints.deploy", subject=subject, evidence=evidence))
    return promote(tx, actor, rollout, reason=body.reason or f"promoted by {actor.principal}")


def roll_back_by_hand(tx: Transaction, actor: Actor, rollout_id: str, body: Reason) -> Rollout:
    """Rolls back now. Going back is never gated. Raises `Conflict` when the rollout has ended."""
    rollout = _open_rollout(tx, actor, rollout_id)
    return roll_back(tx, actor, rollout, reason=body.reason or f"rolled back by {actor.principal}")


def roll_back_endpoint(tx: Transaction, actor: Actor, name: str, body: Reason) -> Rollout:
    """Ends the rollout under way; without one, goes back to the revision that was live before.

    Raises:
        Conflict: neither a rollout nor a previous revision is there.
    """
    endpoint = get_endpoint(tx, actor, name)
    busy = store.under_way(tx, actor.workspace, name)
    if busy is not None:
        return roll_back_by_hand(tx, actor, busy.id, body)
    if endpoint.previous is None or endpoint.live is None:
        raise Conflict(f"the endpoint {name} has no previous revision to go back to", remedy="Deploy another version.")
    found = endpoint_store.revisions_by_id(tx, actor.workspace, {endpoint.previous, endpoint.live})
    rejected = found[endpoint.live]
    undone = _last_promotion(tx, actor, name, endpoint.live)
    changed = endpoint_store.with_changes(endpoint, tx.now_ms, live=endpoint.previous, previous=endpoint.live)
    endpoint_store.update(tx, changed)
    endpoint_store.advance_epoch(tx, actor.workspace)
    reverted = msgspec.structs.replace(
        undone, state="rolled_back", share=0.0, ended_ms=tx.now_ms, ended_by=actor.principal
    )
    store.update(tx, reverted)
    event = RolledBack(
        endpoint=name,
        rollout=undone.id,
        model=rejected.model,
        version=rejected.version,
        revision=changed.live,
        rejected=rejected.id,
        reason=body.reason or f"rolled back by {actor.principal}",
        verdict=undone.verdict,
    )
    tx.emit(actor, endpoint.subject, event, before=endpoint, after=changed)
    return reverted


def _last_promotion(reader: Reader, actor: Actor, name: str, revision: str) -> Rollout:
    query = store.select_rollouts(actor.workspace).where(
        store.rollouts.c.endpoint == name, store.rollouts.c.challenger == revision
    )
    return reader.one(Rollout, query, what=f"rollout of {revision} at {name}")


def _open_rollout(reader: Reader, actor: Actor, rollout_id: str) -> Rollout:
    rollout = get_rollout(reader, actor, rollout_id)
    if not rollout.under_way:
        raise Conflict(
            f"the rollout {rollout_id} has ended ({rollout.state})",
            remedy=f"To go back to what was live before: salus endpoints rollback {rollout.endpoint}",
        )
    return rollout


def get_rollout(reader: Reader, actor: Actor, rollout_id: str) -> Rollout:
    """The rollout. Raises `NotFound`."""
    query = store.select_rollouts(actor.workspace).where(store.rollouts.c.id == rollout_id)
    found = reader.record(Rollout, query)
    if found is None:
        raise NotFound(f"there is no rollout {rollout_id!r}", path="rollout_id")
    return found


def describe_rollout(reader: Reader, actor: Actor, rollout_id: str) -> RolloutDetail:
    """The rollout with its models and the looks of its chart. Raises `NotFound`."""
    rollout = get_rollout(reader, actor, rollout_id)
    names = {rollout.challenger} | ({rollout.champion} if rollout.champion else set())
    found = endpoint_store.revisions_by_id(reader, actor.workspace, names)
    return RolloutDetail(
        rollout=rollout,
        champion=found.get(rollout.champion or ""),
        challenger=found[rollout.challenger],
        looks=store.looks_of(reader, rollout_id),
    )


def list_rollouts(reader: Reader, actor: Actor, name: str, *, before: str | None, limit: int) -> list[Rollout]:
    """The endpoint's rollouts, newest first. Raises `NotFound` for an unknown endpoint."""
    get_endpoint(reader, actor, name)
    return store.list_of(reader, actor.workspace, name, before=before, limit=limit)
