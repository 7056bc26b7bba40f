"""Incidents: kept in the transaction of the evaluation that found them, and told to everybody who wants to know."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from salus.kernel import lineage
from salus.kernel.identity import Actor
from salus.kernel.sql import Event, Transaction
from salus.monitoring.alerting import Step
from salus.monitoring.diagnosis import Evidence
from salus.monitoring.model.alerts import Alert, AlertChanged, AlertRaised, AlertResolved, DriftRaised
from salus.monitoring.model.diagnoses import Diagnosis
from salus.monitoring.store import alerts as store

HARM_BY_DRIFT = ("shifted_inputs", "changed_relationship")


def keep(tx: Transaction, step: Step) -> None:
    """Writes what became of an incident."""
    if step.alert is None:
        return
    if step.kind == "dropped":
        store.drop(tx, step.alert)
    else:
        store.save(tx, step.alert)


def kept_evidence(open_alerts: Sequence[Alert]) -> Evidence:
    """The numbers that an incident was raised with: they hold until newer ones are there."""
    for alert in open_alerts:
        told = alert.diagnosis
        if told is not None and told.split is not None:
            return Evidence(split=told.split, columns=told.columns, segments=told.segments, events=told.events)
    return Evidence()


def announce(tx: Transaction, actor: Actor, step: Step, told: Diagnosis) -> None:
    """The news of a step that is one, with the diagnosis as it stands."""
    alert = step.alert
    if alert is None or step.kind in ("none", "kept", "dropped"):
        return
    if step.kind == "resolved":
        news: Event = AlertResolved(
            alert=alert.id,
            endpoint=alert.endpoint,
            model=alert.model,
            cause=alert.cause,
            reason=alert.resolved_reason,
            resolved_event_ms=alert.resolved_event_ms or alert.window_end_ms,
        )
        tx.emit(actor, alert.subject, news, after=alert)
        return
    diagnosed = msgspec.structs.replace(alert, diagnosis=told)
    store.save(tx, diagnosed)
    if step.kind == "changed":
        tx.emit(
            actor,
            alert.subject,
            AlertChanged(alert=alert.id, endpoint=alert.endpoint, cause=alert.cause, columns=alert.columns),
            after=diagnosed,
        )
        return
    _raise(tx, actor, diagnosed, told)


def _raise(tx: Transaction, actor: Actor, alert: Alert, told: Diagnosis) -> None:
    news = AlertRaised(
        alert=alert.id,
        endpoint=alert.endpoint,
        model=alert.model,
        version=alert.version,
        cause=alert.cause,
        severity=alert.severity,
        columns=alert.columns,
        title=alert.title,
        since_event_ms=alert.since_event_ms,
        window_start_ms=alert.window_start_ms,
        window_end_ms=alert.window_end_ms,
        text=told.text,
    )
    tx.emit(actor, alert.subject, news, after=alert)
    version = f"model_version:{alert.model}@{alert.version}"
    lineage.link(tx, actor, upstream=version, downstream=alert.subject, relation="triggered")
    lineage.link(tx, actor, upstream=f"endpoint:{alert.endpoint}", downstream=alert.subject, relation="triggered")
    if alert.cause in HARM_BY_DRIFT:
        drift = DriftRaised(
            alert=alert.id,
            endpoint=alert.endpoint,
            model=alert.model,
            version=alert.version,
            cause=alert.cause,
            window_end_ms=alert.window_end_ms,
        )
        tx.emit(actor, alert.subject, drift)
