"""What one can ask monitoring: the ward, vital signs, alerts, diagnoses; and the few things one can set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from salus.kernel.errors import Conflict, NotFound
from salus.kernel.identity import Actor
from salus.kernel.sql import Reader, Transaction
from salus.monitoring.model.alerts import Alert, AlertAcknowledged, AlertState
from salus.monitoring.model.diagnoses import Diagnosis
from salus.monitoring.model.watches import Annotation, Patient, Vitals, Watch, WatchChanged, WatchSettings
from salus.monitoring.model.windows import Movement, Window
from salus.monitoring.rows import LOSS_NAME
from salus.monitoring.store import alerts as alert_store
from salus.monitoring.store import watches as store
from salus.monitoring.store import windows as window_store
from salus.serving.service.endpoints import get_endpoint

TREND = 60
_SIGNS = ("log_loss", "auc", "squared_error", "mae")


def get_watch(reader: Reader, actor: Actor, endpoint: str) -> Watch:
    """The endpoint's watch. Raises `NotFound`."""
    found = store.find(reader, actor.workspace, endpoint)
    if found is None:
        get_endpoint(reader, actor, endpoint)
        raise NotFound(
            f"nothing is watched at {endpoint} yet",
            path="endpoint",
            remedy=f"It begins by itself with the first deployment: salus endpoints deploy {endpoint} MODEL@VERSION.",
        )
    return found


def change_watch(tx: Transaction, actor: Actor, endpoint: str, body: WatchSettings) -> Watch:
    """Watches the endpoint so from the next window on; thresholds are learned anew from the reference.

    Raises:
        Conflict: windows of another length are there already.
    """
    before = get_watch(tx, actor, endpoint)
    if body.window_s is not None and before.window_ms not in (None, round(body.window_s * 1000)):
        raise Conflict(
            f"the windows at {endpoint} are {(before.window_ms or 0) / 1000:g} s long since they began",
            path="$.window_s",
            remedy="Set the length before traffic comes, or watch another endpoint.",
        )
    if body == before.settings:
        return before
    after = msgspec.structs.replace(before, settings=body, sequence=before.sequence + 1, updated_ms=tx.now_ms)
    store.save(tx, after)
    memory = store.memory_of(tx, actor.workspace, endpoint)
    store.save_memory(tx, msgspec.structs.replace(memory, profile=None), with_profile=True)
    news = WatchChanged(endpoint=endpoint, settings=body)
    tx.emit(actor, f"endpoint:{endpoint}", news, before=before.settings, after=body)
    return after


def ward(reader: Reader, actor: Actor) -> list[Patient]:
    """Every endpoint that is watched, by name."""
    return [_patient(reader, watch) for watch in reader.records(Watch, store.select_watches(actor.workspace))]


def find_watches(reader: Reader, actor: Actor, model: str) -> list[Watch]:
    """The watches over a model or an endpoint of that name; the endpoint's own first. Raises `NotFound`."""
    watches = reader.records(Watch, store.select_watches(actor.workspace))
    found = [watch for watch in watches if watch.endpoint == model]
    found += [watch for watch in watches if watch.model == model and watch.endpoint != model]
    if not found:
        raise NotFound(f"no endpoint that is watched serves {model!r}", remedy="See who is watched: GET /api/v1/ward.")
    return found


def _patient(reader: Reader, watch: Watch) -> Patient:
    windows = window_store.latest(reader, watch.workspace, watch.endpoint, limit=TREND)
    mature = [window for window in windows if window.state == "mature"]
    marks = store.marks_of(reader, watch.workspace, watch.endpoint, to_ms=_seen_ms(reader, watch), limit=1)
    memory = store.memory_of(reader, watch.workspace, watch.endpoint)
    metrics = memory.profile.metrics if memory.profile is not None else {}
    return Patient(
        endpoint=watch.endpoint,
        model=watch.model,
        version=watch.version,
        condition=watch.condition,
        text=watch.diagnosis.text if watch.diagnosis is not None else _unexamined(watch),
        latest=windows[-1] if windows else None,
        latest_mature=mature[-1] if mature else None,
        trend=_trend(windows),
        alerts=list(alert_store.open_at(reader, watch.workspace, watch.endpoint).values()),
        last_decision=marks[-1] if marks else None,
        reference_metrics={name: estimate.value for name, estimate in metrics.items()},
    )


def _trend(windows: Sequence[Window]) -> dict[str, list[float | None]]:
    """The ward's small curves: by vital sign one value for each window, None where it was not measured."""

    def curve(read: Callable[[Window], float | None]) -> list[float | None]:
        return [read(window) for window in windows]

    def error_ratio(window: Window) -> float | None:
        answered = window.service.error_ratio if window.service is not None else None
        return answered.value if answered is not None else None

    curves = {
        "rows": curve(lambda window: float(window.rows)),
        "broken": curve(lambda window: float(len(window.broken))),
        "drift": curve(lambda window: max(map(_surprise, window.movements), default=None)),
        "output_drift": curve(lambda window: _surprise(window.output_movement) if window.output_movement else None),
        "latency_p99_ms": curve(lambda window: window.service.latency_p99_ms if window.service else None),
        "error_ratio": curve(error_ratio),
        "completeness": curve(lambda window: window.completeness if window.state == "mature" else None),
    }
    for name in _SIGNS:
        if any(name in window.metrics for window in windows):
            curves[name] = [window.metrics[name].value if name in window.metrics else None for window in windows]
    return curves


def _surprise(movement: Movement) -> float:
    """How far a column moved, comparable between columns: as a share of what chance explains, where that is known."""
    return movement.effect if movement.excess is None else movement.excess


def vitals(
    reader: Reader, actor: Actor, endpoint: str, *, from_ms: int | None = None, to_ms: int | None = None
) -> Vitals:
    """The endpoint's windows in [from_ms, to_ms), those of its shadows, its alerts and the marks between them."""
    watch = get_watch(reader, actor, endpoint)
    windows = window_store.between(reader, actor.workspace, endpoint, from_ms=from_ms, to_ms=to_ms)
    shadows: dict[str, list[Window]] = {}
    for window in windows:
        if window.role == "shadow":
            shadows.setdefault(f"{window.version} ({window.revision})", []).append(window)
    query = alert_store.select_alerts(actor.workspace).where(alert_store.alerts.c.endpoint == endpoint)
    return Vitals(
        watch=watch,
        windows=[window for window in windows if window.role == "live"],
        shadows=shadows,
        alerts=reader.records(Alert, query.limit(TREND)),
        annotations=_marks(reader, watch, from_ms=from_ms, to_ms=to_ms),
    )


def _seen_ms(reader: Reader, watch: Watch) -> int | None:
    """Past this event time there can be no mark of a decision about traffic; None before any traffic."""
    traffic = store.traffic_of(reader, watch.workspace, watch.endpoint)
    return traffic.watermark_ms + (watch.window_ms or 0) + 1 if traffic is not None else None


def _marks(reader: Reader, watch: Watch, *, from_ms: int | None, to_ms: int | None) -> list[Annotation]:
    """The marks in [from_ms, to_ms); those made before the first request stand at it.

    They carry the clock on the wall, which a replay of the past is far behind.
    """
    marks = store.marks_of(reader, watch.workspace, watch.endpoint, from_ms=from_ms, to_ms=to_ms)
    traffic, seen_ms = store.traffic_of(reader, watch.workspace, watch.endpoint), _seen_ms(reader, watch)
    if traffic is None or seen_ms is None or not marks or marks[-1].event_ms < seen_ms:
        return marks
    early = [msgspec.structs.replace(one, event_ms=traffic.first_ms) for one in marks if one.event_ms >= seen_ms]
    return early + [one for one in marks if one.event_ms < seen_ms]


def diagnosis(reader: Reader, actor: Actor, endpoint: str) -> Diagnosis:
    """How the endpoint is, why, and what to do. Raises `NotFound`."""
    watch = get_watch(reader, actor, endpoint)
    if watch.diagnosis is not None:
        return watch.diagnosis
    return Diagnosis(
        endpoint=endpoint, model=watch.model, version=watch.version, condition="unknown", text=_unexamined(watch)
    )


def _unexamined(watch: Watch) -> str:
    metric = LOSS_NAME.get(watch.task)
    judged = f" Its {metric} will be told when labels come." if metric else ""
    return f"{watch.model} {watch.version}: no window is complete yet, so nothing can be told.{judged}"


def broken_ranges(reader: Reader, actor: Actor, endpoint: str) -> list[tuple[int, int]]:
    """The stretches of event time [start, end) with broken input, neighbours joined: not to be learned from."""
    joined: list[tuple[int, int]] = []
    for start_ms, end_ms in window_store.broken_starts(reader, actor.workspace, endpoint):
        if joined and joined[-1][1] >= start_ms:
            joined[-1] = (joined[-1][0], end_ms)
        else:
            joined.append((start_ms, end_ms))
    return joined


def list_alerts(
    reader: Reader,
    actor: Actor,
    *,
    endpoint: str | None = None,
    state: AlertState | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Alert]:
    """Alerts, newest first; suspicions (`pending`) only where they are asked for."""
    table = alert_store.alerts
    query = alert_store.select_alerts(actor.workspace).limit(limit)
    query = query.where(table.c.state == state if state is not None else table.c.state != "pending")
    if endpoint is not None:
        query = query.where(table.c.endpoint == endpoint)
    return reader.records(Alert, query if before is None else query.where(table.c.id < before))


def get_alert(reader: Reader, actor: Actor, alert_id: str) -> Alert:
    """The alert with the diagnosis it was raised with. Raises `NotFound`."""
    query = alert_store.select_alerts(actor.workspace).where(alert_store.alerts.c.id == alert_id)
    return reader.one(Alert, query, what=f"alert {alert_id}")


def acknowledge(tx: Transaction, actor: Actor, alert_id: str) -> Alert:
    """Somebody looks after it; a second time changes nothing.

    Raises:
        Conflict: it is over.
    """
    before = get_alert(tx, actor, alert_id)
    if before.acknowledged_by is not None:
        return before
    if before.state == "resolved":
        raise Conflict(f"the alert {alert_id} is over: {before.resolved_reason}")
    after = msgspec.structs.replace(before, acknowledged_by=actor.principal, acknowledged_ms=tx.now_ms)
    alert_store.save(tx, after)
    news = AlertAcknowledged(alert=alert_id, endpoint=before.endpoint)
    tx.emit(actor, before.subject, news, before=before, after=after)
    return after


def reach(reader: Reader, actor: Actor, endpoint: str) -> tuple[int, int, int] | None:
    """First and last event time that the endpoint has seen, and how many labels it got; None before any traffic."""
    found = store.traffic_of(reader, actor.workspace, endpoint)
    return None if found is None else (found.first_ms, found.watermark_ms, found.labels)
