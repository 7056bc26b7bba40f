"""The examination of one window: first its inputs and service, later, when labels are there, its performance. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl

from salus.monitoring import harm
from salus.monitoring.alerting import Sign
from salus.monitoring.columns import FEWEST_ROWS, ColumnSummary, known_values, summarise
from salus.monitoring.model.alerts import Cause
from salus.monitoring.model.watches import Watch
from salus.monitoring.model.windows import Finding, Harm, Movement, Service, Window
from salus.monitoring.movement import movements_of
from salus.monitoring.performance import metrics_of, residual_of, service_of
from salus.monitoring.quality import RECENT, Examined, examine
from salus.monitoring.reference import Profile, State
from salus.monitoring.rows import Rows, labelled_rows

MOST_SEEN = 2_000
_SLOWER = 5.0
_SLOWER_MS = 20.0
_LATENCIES = 20
_DELAYS = 20
_SICK_AT_ONCE = 0.2
_DELAY_LEVEL = 0.99


class Closed(msgspec.Struct, frozen=True):
    """A window after its end: what it shows, what is remembered of it, what it means."""

    window: Window
    state: State
    signs: tuple[Sign, ...]


class Matured(msgspec.Struct, frozen=True):
    """A window with its labels: live answers first, then each shadow revision; `rows` are the live labelled ones."""

    windows: tuple[Window, ...]
    state: State
    alarms: tuple[str, ...]
    rows: Rows | None


def close_window(
    watch: Watch,
    profile: Profile | None,
    state: State,
    live: pl.DataFrame,
    start_ms: int,
    *,
    refused_ratio: float | None = None,
) -> Closed:
    """Examines the live rows of the window that starts at `start_ms`."""
    end_ms = start_ms + (watch.window_ms or 0)
    seen = examine(live, profile.columns, state.recent, state.seen) if profile is not None else Examined()
    service = msgspec.structs.replace(service_of(live, watch.task), refused_ratio=refused_ratio)
    sick = service_findings(watch, service, state.latencies_ms, start_ms)
    window = Window(
        workspace=watch.workspace,
        endpoint=watch.endpoint,
        revision=watch.revision,
        version=watch.version,
        role="live",
        start_ms=start_ms,
        end_ms=end_ms,
        state="closed",
        rows=live.height,
        labelled=0,
        findings=(*seen.findings, *sick),
        movements=movements_of(profile.columns, seen.summaries, profile.calibration) if profile is not None else (),
        output_movement=_output_movement(profile, live),
        service=service,
        broken=seen.broken,
    )
    signs: list[Sign] = []
    if seen.summaries:
        signs.append(_broken_sign(seen))
    if live.height >= FEWEST_ROWS:
        signs.append(_sick_sign(sick))
    return Closed(window=window, state=_remembered(profile, state, live, seen, service, sick), signs=tuple(signs))


def _broken_sign(seen: Examined) -> Sign:
    if not seen.findings:
        return Sign(cause="broken_input", level="good")
    return Sign(
        cause="broken_input",
        level="harm",
        title="; ".join(finding.text for finding in seen.findings),
        severity="critical",
        columns=seen.broken,
        since_ms=min(finding.since_ms for finding in seen.findings),
    )


def _sick_sign(sick: Sequence[Finding]) -> Sign:
    if not sick:
        return Sign(cause="sick_service", level="good")
    worst = max(sick, key=lambda finding: finding.value if finding.kind == "errors" else 0.0)
    at_once = worst.kind == "errors" and worst.value >= _SICK_AT_ONCE
    return Sign(
        cause="sick_service",
        level="harm" if at_once else "suspicious",
        title="; ".join(finding.text for finding in sick),
        severity="critical" if at_once else "warning",
        since_ms=min(finding.since_ms for finding in sick),
        insists=True,
    )


def service_findings(
    watch: Watch, service: Service, latencies_ms: Sequence[float], start_ms: int
) -> tuple[Finding, ...]:
    """What is wrong with the answers themselves: too many errors or refusals for certain, or far slower than before."""
    found = []
    limit = watch.settings.max_error_ratio
    if service.error_ratio is not None and service.error_ratio.low > limit:
        value = service.error_ratio.value
        found.append(_service_finding("errors", f"{value:.1%} of the rows failed", value, limit, "share", start_ms))
    if service.refused_ratio is not None and service.refused_ratio > _SICK_AT_ONCE:
        text = f"{service.refused_ratio:.0%} of the requests were refused as malformed"
        found.append(_service_finding("refused", text, service.refused_ratio, _SICK_AT_ONCE, "share", start_ms))
    slow, usual = service.latency_p99_ms, float(np.median(latencies_ms)) if len(latencies_ms) >= RECENT - 1 else None
    most = watch.settings.max_latency_ms
    if most is None and usual is not None:
        most = max(_SLOWER * usual, usual + _SLOWER_MS)
    if slow is not None and most is not None and slow > most:
        text = f"the slowest 1 % of the answers take {slow:.1f} ms or more"
        found.append(_service_finding("latency", text, slow, most, "ms", start_ms))
    return tuple(found)


def _service_finding(kind: str, text: str, value: float, limit: float, unit: str, since_ms: int) -> Finding:
    return Finding(kind=kind, column="", text=text, value=value, limit=limit, unit=unit, since_ms=since_ms)  # type: ignore[arg-type]


def _output_movement(profile: Profile | None, live: pl.DataFrame) -> Movement | None:
    if profile is None or profile.output is None or profile.output.name not in live.columns or not live.height:
        return None
    summary = summarise(live[profile.output.name], profile.output, frozenset())
    found = movements_of([profile.output], {profile.output.name: summary}, profile.output_calibration)
    return found[0] if found else None


def _remembered(
    profile: Profile | None,
    state: State,
    live: pl.DataFrame,
    seen: Examined,
    service: Service,
    sick: Sequence[Finding],
) -> State:
    """What the next windows are compared with: only what was good joins it."""
    recent, values = dict(state.recent), dict(state.seen)
    for column in profile.columns if profile is not None else ():
        summary: ColumnSummary | None = seen.summaries.get(column.name)
        if summary is None or column.name in seen.broken:
            continue
        recent[column.name] = (*recent.get(column.name, ()), summary)[-RECENT:]
        known = known_values(column, values)
        if known and summary.unseen_ratio > 0:
            fresh = set(live[f"in.{column.name}"].drop_nulls().unique().to_list()) - known
            values[column.name] = (*values.get(column.name, ()), *sorted(fresh, key=str))[-MOST_SEEN:]
    latencies = state.latencies_ms
    if service.latency_p99_ms is not None and not sick:
        latencies = (*latencies, service.latency_p99_ms)[-_LATENCIES:]
    return msgspec.structs.replace(state, recent=recent, seen=values, latencies_ms=latencies)


def mature_window(watch: Watch, profile: Profile | None, state: State, frame: pl.DataFrame, closed: Window) -> Matured:
    """Examines a window's labelled rows: `frame` holds all its answers, live ones and shadows.

    Only a window without broken input, of the version that is watched, is a step of the detectors.
    """
    live = frame.filter(pl.col("role") == "live")
    owned = watch.since_ms is None or closed.start_ms >= watch.since_ms
    curve = profile.curve if profile is not None and owned else None
    rows = labelled_rows(live, watch.task, curve)
    before = state.detectors
    detectors = before
    if rows is not None and curve is not None and not closed.broken:
        detectors = before.update(rows)
    judged = rows if curve is not None else None
    delays = _delays_s(live)
    window = msgspec.structs.replace(
        closed,
        state="mature",
        rows=live.height,
        labelled=_labelled(live),
        metrics=metrics_of(rows) if rows is not None else {},
        harm=None
        if judged is None
        else Harm(
            evidence=detectors.evidence(),
            residual=residual_of(judged),
            expected_loss=float(judged.expected.mean()),
        ),
        label_delay_s=float(np.median(delays)) if len(delays) else None,
    )
    shadows = [
        _shadow(watch, part, closed) for _, part in frame.group_by("revision", maintain_order=True)
        if part["revision"][0] != watch.revision
    ]  # fmt: skip
    slowest = (*state.delays_s, float(np.quantile(delays, _DELAY_LEVEL)))[-_DELAYS:] if len(delays) else state.delays_s
    return Matured(
        windows=(window, *shadows),
        state=msgspec.structs.replace(state, detectors=detectors, delays_s=slowest),
        alarms=tuple(name for name in detectors.alarms() if name not in before.alarms()),
        rows=judged,
    )


def _shadow(watch: Watch, part: pl.DataFrame, closed: Window) -> Window:
    rows = labelled_rows(part, watch.task)
    return Window(
        workspace=closed.workspace,
        endpoint=closed.endpoint,
        revision=part["revision"][0],
        version=part["version"][0],
        role="shadow",
        start_ms=closed.start_ms,
        end_ms=closed.end_ms,
        state="mature",
        rows=part.height,
        labelled=_labelled(part),
        service=service_of(part, watch.task),
        metrics=metrics_of(rows) if rows is not None else {},
        broken=closed.broken,
    )


def harm_signs(state: State, causes: dict[str, Cause], since_ms: int, titles: dict[Cause, str]) -> tuple[Sign, ...]:
    """What the detectors mean for the two causes of harm; `causes` says which one an alarmed question stands for."""
    signs = []
    told: tuple[Cause, ...] = ("changed_relationship", "shifted_inputs")
    evidence, alarmed = state.detectors.evidence(), set(state.detectors.alarms())
    for cause in told:
        asked = [name for name in evidence if harm.CAUSE_OF[name] == cause]  # type: ignore[index]
        firing = [name for name in alarmed if causes.get(name, harm.CAUSE_OF[name]) == cause]  # type: ignore[index]
        if firing:
            signs.append(Sign(cause=cause, level="harm", title=titles[cause], severity="critical", since_ms=since_ms))
        elif any(evidence[name] >= harm.PENDING_FROM for name in asked if name not in alarmed):
            signs.append(Sign(cause=cause, level="suspicious", title=titles[cause], since_ms=since_ms))
        elif asked:
            signs.append(Sign(cause=cause, level="good"))
    return tuple(signs)


def after_recovery(profile: Profile, state: State) -> tuple[State, tuple[Cause, ...]]:
    """The state with the detectors of every cause that has recovered as new, and those causes."""
    detectors, causes = state.detectors, list[Cause]()
    told: tuple[Cause, ...] = ("changed_relationship", "shifted_inputs")
    for cause in told:
        alarmed = [name for name in detectors.alarms() if harm.CAUSE_OF[name] == cause]  # type: ignore[index]
        if alarmed and detectors.recovered(cause):
            detectors = detectors.restarted(profile.detectors, cause)
            causes.append(cause)
    return msgspec.structs.replace(state, detectors=detectors), tuple(causes)


def _labelled(frame: pl.DataFrame) -> int:
    return int(frame.select(pl.col("label_event_ms").is_not_null().sum()).item())


def _delays_s(live: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds from each labelled prediction to its label."""
    waits = live.select((pl.col("label_event_ms") - pl.col("event_ms")).drop_nulls().cast(pl.Float64) / 1000.0)
    return waits.to_series().to_numpy().astype(np.float64)
