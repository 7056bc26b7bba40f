"""How a retraining goes on: news in, next state out, each step in the transaction of the subscription that hears of it.

A kill anywhere leaves the retraining in a state whose news is delivered again, or whose job is still in the queue.
"""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel import jobs, lineage
from salus.kernel.errors import Conflict, NotFound, SalusError
from salus.kernel.identity import Actor, system
from salus.kernel.ledger import Entry
from salus.kernel.policy import Gate
from salus.kernel.sql import Transaction
from salus.kernel.subscriptions import Subscription
from salus.monitoring import service as monitoring
from salus.monitoring.model.alerts import Alert
from salus.pipelines import service as pipelines
from salus.registry import service as registry
from salus.registry.model import CHAMPION, CheckGates, MoveAlias, NewGate
from salus.retraining import store
from salus.retraining.model import (
    COMPARE_JOB,
    CandidateCompared,
    Comparison,
    ComparisonTask,
    Policy,
    PutPolicy,
    Retraining,
    RetrainingEnded,
    RetrainingState,
    Trigger,
)
from salus.retraining.service import consider, put_policy, trained_until, with_decision
from salus.serving.model.rollouts import StartRollout
from salus.serving.service import rollouts

NAME = "retraining"
GATE_NAME = "better-than-champion"
APPROVAL = "approval"


def follow_alert(tx: Transaction, entry: Entry) -> None:
    """An alarm: the policy is asked, and the record says what it answered, also where it is no."""
    actor = system(NAME, entry.workspace)
    policy = store.find_policy(tx, entry.workspace, entry.data["model"])
    if policy is None or policy.endpoint != entry.data["endpoint"]:
        return
    trigger = Trigger(
        kind="alert",
        event_ms=entry.data["window_end_ms"],
        since_ms=entry.data["since_event_ms"],
        alert=entry.data["alert"],
        cause=entry.data["cause"],
        reason=entry.data["title"],
    )
    consider(tx, actor, policy, trigger)


def follow_window(tx: Transaction, entry: Entry) -> None:
    """A mature window: an alarm that goes on is asked about again after the cooldown, and a check-up may be due."""
    actor = system(NAME, entry.workspace)
    endpoint, end_ms = entry.data["endpoint"], entry.data["end_ms"]
    policies = tx.records(Policy, store.select_policies(entry.workspace))
    for policy in (found for found in policies if found.endpoint == endpoint and not found.body.paused):
        if store.open_one(tx, entry.workspace, policy.model) is not None:
            continue
        last = store.last(tx, entry.workspace, policy.model)
        if last is not None and end_ms - last.now_ms < 1000 * policy.body.cooldown_s:
            continue
        firing = _firing(tx, actor, policy)
        if firing is not None:
            reason = f"the alarm goes on: {firing.title}"
            trigger = Trigger(
                kind="alert",
                event_ms=end_ms,
                since_ms=firing.since_event_ms,
                alert=firing.id,
                cause=firing.cause,
                reason=reason,
            )
            consider(tx, actor, policy, trigger)
        elif _checkup_due(tx, actor, policy, end_ms):
            reason = "a check-up: would a fresh model be better?"
            consider(tx, actor, policy, Trigger(kind="checkup", event_ms=end_ms, reason=reason))


def _firing(tx: Transaction, actor: Actor, policy: Policy) -> Alert | None:
    found = monitoring.list_alerts(tx, actor, endpoint=policy.endpoint, state="firing")
    return next((alert for alert in found if alert.cause in policy.body.causes), None)


def _checkup_due(tx: Transaction, actor: Actor, policy: Policy, end_ms: int) -> bool:
    """Enough event time since the last promotion, or since the endpoint's first request.

    A check-up that promotes nothing is repeated after each cooldown: what one hold-out could not tell the next may.
    """
    reach = monitoring.reach(tx, actor, policy.endpoint)
    if policy.body.checkup_s is None or reach is None or reach[2] < policy.body.min_labelled:
        return False
    promoted = store.last(tx, actor.workspace, policy.model, state="promoted")
    since_ms = reach[0] if promoted is None else promoted.now_ms
    return end_ms - since_ms >= 1000 * policy.body.checkup_s


def follow_pipeline(tx: Transaction, entry: Entry) -> None:
    """The pipeline is done: its model version becomes the candidate."""
    actor = system(NAME, entry.workspace)
    found = store.by(tx, entry.workspace, "pipeline_run", entry.data["run"])
    if found is None or found.state != "training":
        return
    if entry.data["state"] != "succeeded":
        error = entry.data.get("error") or "no error was told"
        end(tx, actor, found, "failed", f"the pipeline run {entry.data['state']}: {error}")
        return
    versions = registry.list_versions(tx, actor, found.model)
    made = [version for version in versions if version.pipeline_run == found.pipeline_run]
    if not made:
        end(tx, actor, found, "failed", f"the pipeline run registered no version of {found.model}")
        return
    candidate = made[0].version
    learned = trained_until(tx, actor, found.model, found.champion)
    policy = store.find_policy(tx, entry.workspace, found.model)
    task = ComparisonTask(
        retraining=found.id,
        model=found.model,
        endpoint=found.endpoint,
        champion=found.champion,
        candidate=candidate,
        from_ms=max(found.until_ms, learned or found.until_ms),
        to_ms=found.now_ms,
        excluded=found.excluded,
        gate=policy.body.gate if policy is not None else PutPolicy(pipeline=found.pipeline).gate,
    )
    job = jobs.enqueue(
        tx,
        COMPARE_JOB,
        msgspec.to_builtins(task),
        workspace=entry.workspace,
        idempotency_key=found.id,
    )
    compared = msgspec.structs.replace(found, candidate=candidate, job=job.id)
    store.save(tx, with_decision(tx, compared, "comparing", f"{found.model} {candidate} meets {found.champion}"))
    version = f"model_version:{found.model}@{candidate}"
    champion = f"model_version:{found.model}@{found.champion}"
    lineage.link(tx, actor, upstream=version, downstream=champion, relation="challenged")


def follow_comparison(tx: Transaction, entry: Entry, gate: Gate) -> None:
    """The comparison is done: its gate is recorded with the version, and what it says is carried out."""
    if entry.data["job_kind"] != COMPARE_JOB:
        return
    actor = system(NAME, entry.workspace)
    found = store.by(tx, entry.workspace, "job", entry.data["job"])
    if found is None or found.state != "comparing" or found.candidate is None:
        return
    if entry.data["state"] != "succeeded":
        end(tx, actor, found, "failed", f"the comparison {entry.data['state']}: {entry.data.get('error')}")
        return
    comparison = msgspec.convert(jobs.get(tx, entry.data["job"]).result, Comparison)
    found = msgspec.structs.replace(found, comparison=comparison)
    news = CandidateCompared(
        retraining=found.id,
        model=found.model,
        candidate=comparison.candidate,
        verdict=comparison.verdict,
        text=comparison.text,
    )
    tx.emit(actor, found.subject, news, after=comparison)
    passed = {"better": True, "cannot tell": None}.get(comparison.verdict, False)
    policy = store.find_policy(tx, entry.workspace, found.model)
    checks = [NewGate(name=GATE_NAME, passed=passed, reason=comparison.text, evidence=msgspec.to_builtins(comparison))]
    if passed and policy is not None and not policy.body.automatic:
        checks.append(NewGate(name=APPROVAL, passed=None, reason="the policy asks for a person's approval"))
    version = registry.check_gates(tx, actor, found.model, comparison.candidate, CheckGates(gates=tuple(checks)))
    evidence = msgspec.to_builtins(comparison)
    if not passed:
        end(tx, actor, found, "rejected", f"not promoted: {comparison.text}", evidence)
    elif version.state == "rejected":
        end(tx, actor, found, "rejected", "not promoted: another gate of the version failed", evidence)
    elif version.state == "candidate":
        waiting = f"{comparison.text}; waits for approval of {found.model} {comparison.candidate}"
        store.save(tx, with_decision(tx, found, "approving", waiting, evidence))
    else:
        roll_out(tx, actor, with_decision(tx, found, "rolling_out", comparison.text, evidence), gate)


def follow_approval(tx: Transaction, entry: Entry, gate: Gate) -> None:
    """Somebody decided about a candidate that waited for it."""
    actor = system(NAME, entry.workspace)
    found = store.by(tx, entry.workspace, "candidate", entry.data["version"])
    if found is None or found.state != "approving" or found.model != entry.data["model"]:
        return
    if entry.kind == "VersionRejected":
        end(tx, actor, found, "rejected", f"not approved: {entry.data['reason']}")
    else:
        roll_out(tx, actor, with_decision(tx, found, "rolling_out", f"approved: {entry.data['reason']}"), gate)


def roll_out(tx: Transaction, actor: Actor, found: Retraining, gate: Gate) -> None:
    """Starts the candidate's canary; while another rollout is under way it waits for its end."""
    policy = store.find_policy(tx, actor.workspace, found.model)
    strategy = policy.body.rollout if policy is not None else StartRollout(model="", version="").strategy
    body = StartRollout(
        model=found.model,
        version=found.candidate or "",
        strategy=strategy,
        reason=f"{found.id}: {found.trigger.reason}",
    )
    try:
        rollout = rollouts.start_rollout(tx, actor, found.endpoint, body, gate=gate)
    except Conflict as error:
        store.save(tx, with_decision(tx, found, "rolling_out", f"waits: {error.detail}"))
        return
    except SalusError as error:
        end(tx, actor, found, "failed", f"the rollout could not start: {error}")
        return
    store.save(tx, msgspec.structs.replace(found, rollout=rollout.id))
    lineage.link(tx, actor, upstream=found.subject, downstream=rollout.subject, relation="triggered")


def follow_rollout(tx: Transaction, entry: Entry, gate: Gate) -> None:
    """A rollout ended: that of a retraining, or the one that it waited for."""
    actor = system(NAME, entry.workspace)
    make_default_policy(tx, actor, entry)
    found = store.by(tx, entry.workspace, "rollout", entry.data["rollout"])
    if found is not None and found.state == "rolling_out":
        if entry.kind == "RolloutPromoted":
            registry.move_alias(tx, actor, found.model, CHAMPION, MoveAlias(version=found.candidate or ""))
            end(tx, actor, found, "promoted", f"promoted: {entry.data['reason']}")
        else:
            end(tx, actor, found, "rolled_back", f"rolled back: {entry.data['reason']}")
        return
    waiting = store.open_one(tx, entry.workspace, entry.data["model"])
    if waiting is not None and waiting.state == "rolling_out" and waiting.rollout is None:
        roll_out(tx, actor, waiting, gate)


def make_default_policy(tx: Transaction, actor: Actor, entry: Entry) -> None:
    """The first deployment of a version that a pipeline made gives its model a policy: that pipeline, all defaults."""
    model = entry.data["model"]
    if entry.kind != "RolloutPromoted" or store.find_policy(tx, entry.workspace, model) is not None:
        return
    try:
        version = registry.get_version(tx, actor, model, entry.data["version"])
        if version.pipeline_run is None:
            return
        run = pipelines.get_run(tx, actor, version.pipeline_run)
        put_policy(tx, actor, model, PutPolicy(pipeline=run.pipeline, endpoint=entry.data["endpoint"]))
    except NotFound:
        return


def end(
    tx: Transaction,
    actor: Actor,
    found: Retraining,
    state: RetrainingState,
    reason: str,
    evidence: dict[str, Any] | None = None,
) -> None:
    """Brings a retraining to its end, and says so."""
    ended = with_decision(tx, found, state, reason, evidence)
    store.save(tx, ended)
    news = RetrainingEnded(
        retraining=found.id,
        model=found.model,
        endpoint=found.endpoint,
        state=state,
        candidate=found.candidate,
        reason=reason,
    )
    tx.emit(actor, found.subject, news, before=found.state, after=ended)


def subscriptions(gate: Gate) -> list[Subscription]:
    """Who wants to know what. `gate` is asked before a candidate goes live."""
    return [
        Subscription(name="retraining.alerts", kinds=("AlertRaised",), handle=follow_alert),
        Subscription(name="retraining.windows", kinds=("WindowMatured",), handle=follow_window),
        Subscription(name="retraining.pipelines", kinds=("PipelineRunFinished",), handle=follow_pipeline),
        Subscription(
            name="retraining.comparisons",
            kinds=("JobFinished",),
            handle=lambda tx, entry: follow_comparison(tx, entry, gate),
        ),
        Subscription(
            name="retraining.approvals",
            kinds=("VersionApproved", "VersionRejected"),
            handle=lambda tx, entry: follow_approval(tx, entry, gate),
        ),
        Subscription(
            name="retraining.rollouts",
            kinds=("RolloutPromoted", "RolledBack"),
            handle=lambda tx, entry: follow_rollout(tx, entry, gate),
        ),
    ]
