"""Evaluation: what is due at one endpoint is read, examined and written, one window at a time.

What is read and computed happens outside the transaction; the transaction checks that nobody evaluated meanwhile (the
watch's `sequence`), then writes the windows, what is remembered, the alerts and their news together. A kill in between
loses nothing: the window is due again.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
import polars as pl

from salus.kernel.errors import SalusError
from salus.kernel.identity import system
from salus.kernel.ids import new_id
from salus.kernel.ports import Blobs, Database
from salus.kernel.schema import Signature
from salus.kernel.segments import Segments
from salus.kernel.sql import Reader, Transaction
from salus.monitoring import alerting, carriers, diagnosis, examination, incidents, spans
from salus.monitoring.alerting import Sign
from salus.monitoring.diagnosis import Evidence
from salus.monitoring.model.alerts import Alert, Cause
from salus.monitoring.model.diagnoses import Condition, Diagnosis, RecentEvent
from salus.monitoring.model.watches import ReferenceSource, Watch
from salus.monitoring.model.windows import Window, WindowMatured
from salus.monitoring.reference import Profile, State, learn, normalised, read_reference
from salus.monitoring.rows import Rows, labelled_rows
from salus.monitoring.store import alerts as alert_store
from salus.monitoring.store import watches as store
from salus.monitoring.store import windows as window_store
from salus.monitoring.store.watches import Memory, Traffic
from salus.registry import service as registry
from salus.serving.service.endpoints import get_endpoint
from salus.serving.service.outcomes import outcomes

NAME = "monitoring"
LIVE_WINDOWS = 7
LIVE_WINDOWS_UNLABELLED = 14
LONGEST_LOOK = 14
_UNKNOWN_DELAY_WINDOWS = 14
_EVENTS_BEFORE = 3
_CACHED = 8


class Chart(msgspec.Struct, frozen=True):
    """All that an evaluation starts from."""

    watch: Watch
    memory: Memory
    traffic: Traffic | None
    signature: Signature
    label_delay_s: float


class Examiner:
    """Evaluates endpoints over these engines. Not thread-safe: one thread examines."""

    def __init__(self, database: Database, segments: Segments, blobs: Blobs) -> None:
        self._database = database
        self._segments = segments
        self._blobs = blobs
        self._references: OrderedDict[str, pl.DataFrame] = OrderedDict()

    def examine(self, workspace: str, endpoint: str) -> bool:
        """Does the next thing that is due at the endpoint; tells whether it did one (then there may be more)."""
        chart = self._database.read(lambda reader: read_chart(reader, workspace, endpoint))
        if chart is None or chart.traffic is None:
            return False
        if chart.watch.window_ms is None or chart.watch.next_ms is None or chart.watch.mature_ms is None:
            return self._choose_windows(chart, chart.traffic)
        if chart.memory.profile is None and self._learn(chart, chart.traffic):
            return True
        start_ms, window_ms = chart.watch.next_ms, chart.watch.window_ms
        grace = spans.grace_ms(window_ms, chart.watch.settings.grace_s)
        if spans.is_closed(start_ms, window_ms, grace, chart.traffic.watermark_ms):
            return self._close(chart, start_ms)
        if chart.watch.mature_ms < chart.watch.next_ms:
            return self._mature(chart, chart.traffic, chart.watch.mature_ms)
        return False

    def _choose_windows(self, chart: Chart, traffic: Traffic) -> bool:
        watch = chart.watch
        size = None if watch.settings.window_s is None else round(watch.settings.window_s * 1000)
        size = size or spans.window_size_ms(traffic.rows, traffic.watermark_ms - traffic.first_ms)
        if size is None:
            return False
        start = spans.window_start(traffic.first_ms, size)
        chosen = msgspec.structs.replace(watch, window_ms=size, next_ms=start, mature_ms=start)
        return self._write(chart, chosen, chart.memory, with_profile=False)

    def _learn(self, chart: Chart, traffic: Traffic) -> bool:
        """Learns the reference, once there is one to learn from."""
        watch = chart.watch
        window_ms, next_ms, mature_ms = watch.window_ms or 0, watch.next_ms or 0, watch.mature_ms or 0
        if watch.reference.kind == "none":
            return False
        if watch.reference.kind == "registered":
            try:
                frame = self._registered(chart)
            except SalusError as error:
                note = f"the registered reference cannot be read ({error}): live traffic is taken for it"
                replaced = msgspec.structs.replace(watch, reference=ReferenceSource(kind="live", note=note))
                return self._write(chart, replaced, chart.memory, with_profile=False)
        else:
            since = spans.window_start(max(traffic.first_ms, watch.since_ms or 0), window_ms)
            ripe = (mature_ms - since) // window_ms >= LIVE_WINDOWS
            if not ripe and (next_ms - since) // window_ms < LIVE_WINDOWS_UNLABELLED:
                return False
            frame = normalised(self._answers(watch, since, next_ms).filter(pl.col("role") == "live"), chart.signature)
        profile = learn(frame, chart.signature, window_ms=window_ms, settings=watch.settings)
        spanned = "event_ms" in frame.columns and frame.height > 0
        source = msgspec.structs.replace(
            watch.reference,
            rows=profile.rows,
            labelled=profile.labelled,
            from_ms=frame["event_ms"].min() if spanned else None,
            to_ms=frame["event_ms"].max() if spanned else None,
        )
        state = msgspec.structs.replace(chart.memory.state, detectors=profile.detectors)
        memory = msgspec.structs.replace(chart.memory, profile=profile, state=state)
        return self._write(chart, msgspec.structs.replace(watch, reference=source), memory, with_profile=True)

    def _registered(self, chart: Chart) -> pl.DataFrame:
        digest = chart.watch.reference.digest or ""
        if digest not in self._references:
            self._references[digest] = read_reference(self._blobs.get(digest), chart.signature)
            while len(self._references) > _CACHED:
                self._references.popitem(last=False)
        return self._references[digest]

    def _answers(self, watch: Watch, from_ms: int, to_ms: int) -> pl.DataFrame:
        actor = system(NAME, watch.workspace)
        found = self._database.read(
            lambda reader: outcomes(reader, actor, watch.endpoint, self._segments, from_ms=from_ms, to_ms=to_ms)
        )
        return found.read()

    def _close(self, chart: Chart, start_ms: int) -> bool:
        watch = chart.watch
        end_ms = start_ms + (watch.window_ms or 0)
        live = self._answers(watch, start_ms, end_ms).filter(pl.col("role") == "live")
        closed = examination.close_window(watch, chart.memory.profile, chart.memory.state, live, start_ms)
        moved = msgspec.structs.replace(watch, next_ms=end_ms)
        memory = msgspec.structs.replace(chart.memory, state=closed.state)
        windows = (closed.window,) if live.height else ()
        return self._write(chart, moved, memory, with_profile=False, windows=windows, signs=closed.signs)

    def _mature(self, chart: Chart, traffic: Traffic, start_ms: int) -> bool:
        watch = chart.watch
        end_ms = start_ms + (watch.window_ms or 0)
        known = self._database.read(
            lambda reader: window_store.live_at(reader, watch.workspace, watch.endpoint, start_ms)
        )
        moved = msgspec.structs.replace(watch, mature_ms=end_ms)
        if known is None:
            return self._write(chart, moved, chart.memory, with_profile=False)
        frame = self._answers(watch, start_ms, end_ms)
        live = frame.filter(pl.col("role") == "live")
        ripe = spans.is_mature(
            end_ms=end_ms,
            rows=live.height,
            labelled=int(live.select(pl.col("label_event_ms").is_not_null().sum()).item()),
            mature_ratio=watch.settings.mature_ratio,
            label_delay_ms=_delay_ms(chart),
            watermark_ms=traffic.watermark_ms,
        )
        if not ripe:
            return False
        return self._write_mature(chart, moved, frame, known)

    def _write_mature(self, chart: Chart, moved: Watch, frame: pl.DataFrame, known: Window) -> bool:
        profile = chart.memory.profile
        matured = examination.mature_window(moved, profile, chart.memory.state, frame, known)
        state, signs, evidence = matured.state, tuple[Sign, ...](), None
        if profile is not None and matured.rows is not None and not known.broken:
            state, _ = examination.after_recovery(profile, state)
            if state.detectors.alarms():
                since_ms = self._since(moved, known, state)
                evidence = self._evidence(chart, profile, since_ms, known.end_ms)
            signs = self._signs(state, evidence, moved, known)
        if state.delays_s:
            moved = msgspec.structs.replace(moved, label_delay_ms=round(1000 * max(state.delays_s)))
        memory = msgspec.structs.replace(chart.memory, state=state)
        return self._write(
            chart, moved, memory, with_profile=False, windows=matured.windows, signs=signs, evidence=evidence
        )

    def _since(self, watch: Watch, known: Window, state: State) -> int:
        """The start of the window in which the change likely began, at most 14 windows back."""
        back = max(1, min(LONGEST_LOOK, state.detectors.windows_since_change()))
        return max(known.end_ms - back * (watch.window_ms or 0), watch.since_ms or 0)

    def _signs(self, state: State, evidence: Evidence | None, watch: Watch, known: Window) -> tuple[Sign, ...]:
        split = evidence.split if evidence is not None else None
        causes: dict[str, Cause] = {"level": diagnosis.leading_cause(split, "shifted_inputs")}
        titles: dict[Cause, str] = {
            "changed_relationship": f"{watch.model}: its answers no longer mean what they did",
            "shifted_inputs": f"{watch.model}: its inputs moved to harder ground",
        }
        return examination.harm_signs(state, causes, self._since(watch, known, state), titles)

    def _evidence(self, chart: Chart, profile: Profile, from_ms: int, to_ms: int) -> Evidence:
        """The numbers of a diagnosis, from the rows since the change began, broken windows left out."""
        watch, window_ms = chart.watch, chart.watch.window_ms or 1
        if profile.curve is None or from_ms >= to_ms:
            return Evidence()
        frame = self._answers(watch, from_ms, to_ms).filter(pl.col("role") == "live")
        broken = self._database.read(lambda reader: window_store.broken_starts(reader, watch.workspace, watch.endpoint))
        for start_ms, end_ms in broken:
            frame = frame.filter(~pl.col("event_ms").is_between(start_ms, end_ms, closed="left"))
        rows = labelled_rows(frame, watch.task, profile.curve)
        reference = self._reference_rows(chart, profile)
        if rows is None or reference is None:
            return Evidence()
        recent = self._database.read(
            lambda reader: window_store.latest(reader, watch.workspace, watch.endpoint, limit=1)
        )
        blocks = (rows.frame["event_ms"] // window_ms).to_list()
        return Evidence(
            split=diagnosis.split_of(rows, reference, profile.curve, blocks),
            columns=carriers.column_shares(reference, rows, profile.columns, recent[-1].movements if recent else ()),
            segments=carriers.segments_of(rows, chart.signature),
            events=self._events(watch, from_ms),
        )

    def _reference_rows(self, chart: Chart, profile: Profile) -> Rows | None:
        if chart.watch.reference.kind == "registered":
            frame = self._registered(chart)
        else:
            source = chart.watch.reference
            if source.from_ms is None or source.to_ms is None:
                return None
            answers = self._answers(chart.watch, source.from_ms, source.to_ms + 1)
            frame = normalised(answers.filter(pl.col("role") == "live"), chart.signature)
        if "held_out" in frame.columns:
            frame = frame.filter(pl.col("held_out").fill_null(value=False))
        return labelled_rows(frame, chart.watch.task, profile.curve)

    def _events(self, watch: Watch, from_ms: int) -> tuple[RecentEvent, ...]:
        before_ms = from_ms - _EVENTS_BEFORE * (watch.window_ms or 0)
        marks = self._database.read(
            lambda reader: store.marks_of(
                reader, watch.workspace, watch.endpoint, from_ms=before_ms, to_ms=from_ms + (watch.window_ms or 0)
            )
        )
        return tuple(
            RecentEvent(event_ms=note.event_ms, kind=note.kind, text=note.text, subject=note.subject) for note in marks
        )

    def _write(
        self,
        chart: Chart,
        watch: Watch,
        memory: Memory,
        *,
        with_profile: bool,
        windows: tuple[Window, ...] = (),
        signs: tuple[Sign, ...] = (),
        evidence: Evidence | None = None,
    ) -> bool:
        """Writes one evaluation, unless another one came first."""

        def unit(tx: Transaction) -> bool:
            current = store.find(tx, watch.workspace, watch.endpoint)
            if current is None or current.sequence != chart.watch.sequence:
                return True
            for window in windows:
                window_store.save(tx, window)
            store.save_memory(tx, memory, with_profile=with_profile)
            condition, told = _tell(tx, watch, windows, signs, memory, evidence)
            store.save(
                tx,
                msgspec.structs.replace(
                    watch,
                    settings=current.settings,
                    sequence=current.sequence + 1,
                    condition=condition,
                    diagnosis=told,
                    updated_ms=tx.now_ms,
                ),
            )
            return True

        return self._database.write(unit)


def read_chart(reader: Reader, workspace: str, endpoint: str) -> Chart | None:
    """What an evaluation of the endpoint starts from; None where it is not watched."""
    watch = store.find(reader, workspace, endpoint)
    if watch is None:
        return None
    actor = system(NAME, workspace)
    try:
        version = registry.get_version(reader, actor, watch.model, watch.version)
        served = get_endpoint(reader, actor, endpoint)
    except SalusError:
        return None
    return Chart(
        watch=watch,
        memory=store.memory_of(reader, workspace, endpoint),
        traffic=store.traffic_of(reader, workspace, endpoint),
        signature=version.signature,
        label_delay_s=served.label_delay_s,
    )


def _delay_ms(chart: Chart) -> int | None:
    """How long labels may take: as set, else as the endpoint says, else as learned, else 14 windows."""
    watch = chart.watch
    if watch.settings.label_delay_s is not None:
        return round(1000 * watch.settings.label_delay_s)
    if chart.label_delay_s > 0:
        return round(1000 * chart.label_delay_s)
    if watch.label_delay_ms is not None:
        return watch.label_delay_ms
    return _UNKNOWN_DELAY_WINDOWS * (watch.window_ms or 0)


def _tell(
    tx: Transaction,
    watch: Watch,
    windows: tuple[Window, ...],
    signs: tuple[Sign, ...],
    memory: Memory,
    evidence: Evidence | None,
) -> tuple[Condition, Diagnosis | None]:
    """Brings the alerts forward and writes the diagnosis; returns the endpoint's condition and diagnosis."""
    actor = system(NAME, watch.workspace)
    live = next((window for window in windows if window.role == "live"), None)
    if live is None:
        return watch.condition, watch.diagnosis
    open_alerts = alert_store.open_at(tx, watch.workspace, watch.endpoint)
    muted = "broken_input" in open_alerts and open_alerts["broken_input"].state == "firing"
    steps = [
        alerting.advance(open_alerts.get(sign.cause), sign, _fresh(watch, sign, live, tx.now_ms), muted=muted)
        for sign in signs
    ]
    for step in steps:
        incidents.keep(tx, step)
    latest = window_store.latest(tx, watch.workspace, watch.endpoint, limit=1)
    mature = window_store.latest(tx, watch.workspace, watch.endpoint, limit=1, mature=True)
    now_open = list(alert_store.open_at(tx, watch.workspace, watch.endpoint).values())
    told = diagnosis.diagnose(
        watch,
        latest=latest[-1] if latest else None,
        mature=mature[-1] if mature else None,
        alerts=now_open,
        reference_metrics=memory.profile.metrics if memory.profile is not None else {},
        evidence=evidence or incidents.kept_evidence(now_open),
    )
    for step in steps:
        incidents.announce(tx, actor, step, told)
    if live.state == "mature":
        metrics = {name: estimate.value for name, estimate in live.metrics.items()}
        news = WindowMatured(
            endpoint=watch.endpoint,
            version=live.version,
            start_ms=live.start_ms,
            end_ms=live.end_ms,
            rows=live.rows,
            labelled=live.labelled,
            broken=live.broken,
            metrics=metrics,
        )
        tx.emit(actor, f"endpoint:{watch.endpoint}", news)
    return told.condition, told


def _fresh(watch: Watch, sign: Sign, live: Window, now_ms: int) -> Alert:
    return Alert(
        id=new_id("alr"),
        workspace=watch.workspace,
        endpoint=watch.endpoint,
        model=watch.model,
        version=watch.version,
        cause=sign.cause,
        state="firing",
        severity=sign.severity,
        columns=sign.columns,
        title=sign.title,
        since_event_ms=sign.since_ms,
        window_start_ms=live.start_ms,
        window_end_ms=live.end_ms,
        diagnosis=None,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
