"""Watches begin by themselves: what deployments and traffic mean for them. Handlers of news, each one transaction."""

from __future__ import annotations

import msgspec

from salus.kernel import lineage
from salus.kernel.errors import NotFound
from salus.kernel.identity import Actor, system
from salus.kernel.ledger import Entry
from salus.kernel.sql import Transaction
from salus.kernel.subscriptions import Subscription
from salus.monitoring import alerting
from salus.monitoring.harm import Detectors
from salus.monitoring.model.alerts import MUTED_BY_BROKEN_INPUT, AlertResolved
from salus.monitoring.model.watches import Annotation, ReferenceSource, Watch, WatchSettings, WatchStarted
from salus.monitoring.store import alerts as alert_store
from salus.monitoring.store import watches as store
from salus.registry import service as registry
from salus.registry.model import ModelVersion
from salus.serving.service.endpoints import describe_endpoint

DEPLOYED = ("RolloutPromoted", "RolledBack")
MARKED = (
    "RolloutStarted",
    "RolloutPromoted",
    "RolledBack",
    "ShadowsChanged",
    "RetrainingStarted",
    "RetrainingDeclined",
    "RetrainingEnded",
    "AlertRaised",
    "AlertResolved",
)
_TIMES = ("event_ms", "since_event_ms", "resolved_event_ms")
"""The fields of news that say at which event time it happened."""
_NAME = "monitoring"


def follow_deployment(tx: Transaction, entry: Entry) -> None:
    """After a promotion or a rollback: examines what is live now against its own reference."""
    actor = system(_NAME, entry.workspace)
    detail = describe_endpoint(tx, actor, entry.data["endpoint"])
    live = next((revision for revision in detail.revisions if revision.id == detail.endpoint.live), None)
    if live is None:
        return
    known = store.find(tx, entry.workspace, detail.endpoint.name)
    if known is not None and known.revision == live.id:
        return
    version = registry.get_version(tx, actor, live.model, live.version)
    begin_watch(tx, actor, detail.endpoint.name, live.id, version, known)


def begin_watch(
    tx: Transaction, actor: Actor, endpoint: str, revision: str, version: ModelVersion, known: Watch | None
) -> Watch:
    """The endpoint's watch over `version` from the present watermark on; alerts about the version before are over."""
    traffic = store.traffic_of(tx, actor.workspace, endpoint)
    watch = Watch(
        workspace=actor.workspace,
        endpoint=endpoint,
        model=version.model,
        version=version.version,
        revision=revision,
        task=version.signature.task,
        settings=known.settings if known is not None else WatchSettings(),
        reference=_reference_of(version),
        since_ms=None if traffic is None else traffic.watermark_ms,
        window_ms=known.window_ms if known is not None else None,
        label_delay_ms=known.label_delay_ms if known is not None else None,
        next_ms=known.next_ms if known is not None else None,
        mature_ms=known.mature_ms if known is not None else None,
        sequence=known.sequence + 1 if known is not None else 1,
        condition="unknown" if known is None else known.condition,
        diagnosis=known.diagnosis if known is not None else None,
        created_ms=tx.now_ms if known is None else known.created_ms,
        updated_ms=tx.now_ms,
    )
    store.save(tx, watch)
    memory = store.memory_of(tx, actor.workspace, endpoint)
    fresh = msgspec.structs.replace(memory.state, detectors=Detectors(questions={}))
    store.save_memory(tx, msgspec.structs.replace(memory, profile=None, state=fresh), with_profile=True)
    _end_alerts_of_before(tx, actor, watch)
    news = WatchStarted(
        endpoint=endpoint,
        model=watch.model,
        version=watch.version,
        revision=revision,
        reference=watch.reference.kind,
        note=watch.reference.note,
    )
    tx.emit(actor, f"endpoint:{endpoint}", news, before=known, after=watch)
    return watch


def _reference_of(version: ModelVersion) -> ReferenceSource:
    if version.reference is not None:
        return ReferenceSource(kind="registered", digest=version.reference)
    return ReferenceSource(
        kind="live",
        note="no reference was registered with the version: its first windows of live traffic are taken for it",
    )


def _end_alerts_of_before(tx: Transaction, actor: Actor, watch: Watch) -> None:
    """Another version took over: harm of the one before is over; a broken feed or a sick service is not."""
    reason = f"{watch.model} {watch.version} took over"
    for alert in alert_store.open_at(tx, watch.workspace, watch.endpoint).values():
        if alert.cause not in MUTED_BY_BROKEN_INPUT:
            continue
        if alert.state == "pending":
            alert_store.drop(tx, alert)
            continue
        event_ms = watch.since_ms or alert.window_end_ms
        ended = alerting.resolved(alert, event_ms, tx.now_ms, reason)
        alert_store.save(tx, ended)
        news = AlertResolved(
            alert=alert.id,
            endpoint=alert.endpoint,
            model=alert.model,
            cause=alert.cause,
            reason=reason,
            resolved_event_ms=event_ms,
        )
        tx.emit(actor, alert.subject, news, before=alert, after=ended)
        version = f"model_version:{watch.model}@{watch.version}"
        lineage.link(tx, actor, upstream=alert.subject, downstream=version, relation="resolved_by")


def count_predictions(tx: Transaction, entry: Entry) -> None:
    """Moves the endpoint's watermark."""
    data = entry.data
    store.add_rows(tx, entry.workspace, data["endpoint"], data["rows"], data["min_event_ms"], data["max_event_ms"])


def count_labels(tx: Transaction, entry: Entry) -> None:
    """Counts labels, so that the evaluator looks whether a window is ripe."""
    store.add_labels(tx, entry.workspace, entry.data["endpoint"], entry.data["rows"])


def count_traffic(tx: Transaction, entry: Entry) -> None:
    """Predictions or labels came in."""
    if entry.kind == "PredictionsRecorded":
        count_predictions(tx, entry)
    else:
        count_labels(tx, entry)


def mark(tx: Transaction, entry: Entry) -> None:
    """Puts what was done at an endpoint on its chart, at the event time that its traffic had reached."""
    endpoint = entry.data.get("endpoint")
    if not isinstance(endpoint, str):
        return
    traffic = store.traffic_of(tx, entry.workspace, endpoint)
    event_ms = next((entry.data[name] for name in _TIMES if entry.data.get(name) is not None), None)
    if event_ms is None:
        event_ms = traffic.watermark_ms if traffic is not None else entry.at_ms
    note = Annotation(event_ms=event_ms, kind=entry.kind, text=describe(entry), subject=entry.subject)
    store.add_mark(tx, entry.workspace, endpoint, entry.id, note)


def describe(entry: Entry) -> str:
    """What happened, for people."""
    data = entry.data
    version = f"{data.get('model', 'the model')} {data.get('version', '')}".strip()
    reason = f": {data['reason']}" if data.get("reason") else ""
    texts = {
        "AlertRaised": f"alarm: {data.get('title', '')}",
        "AlertResolved": f"the alarm is over{reason}",
        "RolloutStarted": f"{version} began to take requests{reason}",
        "RolloutPromoted": f"{version} was promoted{reason}",
        "RolledBack": f"{version} was rolled back{reason}",
        "ShadowsChanged": f"shadows are now {', '.join(data.get('versions', [])) or 'none'}",
        "RetrainingStarted": f"a retraining began{reason}",
        "RetrainingDeclined": f"no retraining{reason}",
        "RetrainingEnded": f"the retraining ended as {data.get('state')}{reason}",
    }
    return texts.get(entry.kind, entry.kind)


def guarded(tx: Transaction, entry: Entry) -> None:
    """`follow_deployment`, unless the endpoint is gone."""
    try:
        follow_deployment(tx, entry)
    except NotFound:
        return


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription(name="monitoring.deployments", kinds=DEPLOYED, handle=guarded),
    Subscription(name="monitoring.traffic", kinds=("PredictionsRecorded", "LabelsRecorded"), handle=count_traffic),
    Subscription(name="monitoring.marks", kinds=MARKED, handle=mark),
)
