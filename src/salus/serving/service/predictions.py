"""Predictions come in from the data planes: each exactly once, whatever arrives twice or overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from salus.kernel.content import digest
from salus.kernel.errors import Conflict, Denied, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.segments import Segments
from salus.kernel.segments_files import StagedFile
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record, invalid
from salus.serving.model.endpoints import NAME, OUTPUT_OF_TASK, Endpoint, Revision
from salus.serving.model.predictions import PredictionsRecorded, Shipped
from salus.serving.model.rollouts import Rollout
from salus.serving.service.labels import settle_pending
from salus.serving.service.planes import known_plane
from salus.serving.store import endpoints as endpoint_store
from salus.serving.store import predictions as store
from salus.serving.store import rollouts as rollout_store
from salus.serving.table import answers_of, failed, number_in, predictions_table
from salus.serving.wire import Answer, PredictionBatch, PredictionRecord, prediction_id

RECORDS_PER_BATCH = 20_000

_decoder = msgspec.msgpack.Decoder(PredictionBatch)


class Intake(Record):
    """What must be known to take in a batch: how far the plane is stored, and the endpoints it speaks of."""

    through_seq: int
    endpoints: dict[str, Endpoint]
    revisions: dict[str, Revision]
    rollouts: dict[str, Rollout]


class Part(msgspec.Struct, frozen=True):
    """A batch's new records of one endpoint, ready to be written."""

    endpoint: str
    records: Sequence[PredictionRecord]
    staged: StagedFile
    digest: str
    rollout: str | None
    sighting: rollout_store.Sighting | None


class Prepared(msgspec.Struct, frozen=True):
    """A batch's new records, made ready outside the transaction; holds while the plane stays at `after_seq`."""

    plane: str
    after_seq: int
    through_seq: int
    parts: list[Part]


def decode_batch(body: bytes) -> PredictionBatch:
    """`body` (msgpack) as a batch whose records count up without a gap.

    Raises:
        InvalidInput: it is none; `path` says where.
    """
    try:
        batch = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid msgpack: {error}", path="$") from error
    count = len(batch.records)
    if not 1 <= count <= RECORDS_PER_BATCH:
        raise InvalidInput(f"a batch has 1 to {RECORDS_PER_BATCH:,} records, got {count:,}", path="$.records")
    if batch.first_seq < 1 or batch.last_seq - batch.first_seq + 1 != count:
        raise InvalidInput(
            f"a batch from {batch.first_seq} to {batch.last_seq} cannot have {count} records", path="$.last_seq"
        )
    for index, record in enumerate(batch.records):
        if record.seq != batch.first_seq + index:
            raise InvalidInput(
                f"records count up by one: expected {batch.first_seq + index}, got {record.seq}",
                path=f"$.records[{index}].seq",
            )
    return batch


def intake(reader: Reader, actor: Actor, batch: PredictionBatch) -> Intake:
    """What must be known to take in `batch`.

    Raises:
        Denied: the plane belongs to another workspace.
        NotFound: a record names an endpoint or a revision that is not there.
    """
    plane = store.find_plane(reader, batch.plane)
    if plane is not None and plane.workspace != actor.workspace:
        raise Denied(f"the plane {batch.plane} belongs to another workspace", path="$.plane")
    names = {record.endpoint for record in batch.records if NAME.fullmatch(record.endpoint)}
    revisions = {
        revision.id: revision
        for name in names
        for revision in endpoint_store.revisions_of(reader, actor.workspace, name)
    }
    endpoints = {name: found for name in names if (found := endpoint_store.find(reader, actor.workspace, name))}
    _check_known(batch, endpoints, revisions)
    rollouts = {
        name: rollout
        for name in names
        if (rollout := rollout_store.under_way(reader, actor.workspace, name)) is not None
    }
    return Intake(
        through_seq=plane.through_seq if plane else 0,
        endpoints=endpoints,
        revisions=revisions,
        rollouts=rollouts,
    )


def _check_known(batch: PredictionBatch, endpoints: dict[str, Endpoint], revisions: dict[str, Revision]) -> None:
    for index, record in enumerate(batch.records):
        if record.endpoint not in endpoints:
            raise NotFound(f"there is no endpoint {record.endpoint!r}", path=f"$.records[{index}].endpoint")
        for place, answer in enumerate(record.answers):
            found = revisions.get(answer.revision)
            if found is None or found.endpoint != record.endpoint:
                raise NotFound(
                    f"the endpoint {record.endpoint} has no revision {answer.revision!r}",
                    path=f"$.records[{index}].answers[{place}].revision",
                )


def prepare(batch: PredictionBatch, known: Intake, segments: Segments, workspace: str) -> Prepared:
    """The records behind `known.through_seq` as tables and evidence.

    Raises:
        Conflict: records are missing between what is stored and this batch; `details` says which one is expected.
    """
    expected = known.through_seq + 1
    if batch.first_seq > expected:
        raise Conflict(
            f"the plane {batch.plane} is stored up to {known.through_seq}, this batch begins at {batch.first_seq}",
            path="$.first_seq",
            remedy=f"Send the records from {expected} on.",
            details={"expected_seq": expected},
        )
    by_endpoint: dict[str, list[PredictionRecord]] = {}
    for record in batch.records[max(0, expected - batch.first_seq) :]:
        by_endpoint.setdefault(record.endpoint, []).append(record)
    return Prepared(
        plane=batch.plane,
        after_seq=known.through_seq,
        through_seq=max(batch.last_seq, known.through_seq),
        parts=[_part(batch.plane, name, records, known, segments, workspace) for name, records in by_endpoint.items()],
    )


def _part(
    plane: str,
    name: str,
    records: list[PredictionRecord],
    known: Intake,
    segments: Segments,
    workspace: str,
) -> Part:
    revisions = {key: revision for key, revision in known.revisions.items() if revision.endpoint == name}
    frame = predictions_table(plane, records, revisions)
    rollout = known.rollouts.get(name)
    return Part(
        endpoint=name,
        records=records,
        staged=segments.stage(frame, sort_by="event_ms"),
        digest=digest(msgspec.msgpack.encode(records)),
        rollout=rollout.id if rollout else None,
        sighting=_sighting(plane, records, rollout, known.endpoints[name]) if rollout else None,
    )


def record_predictions(tx: Transaction, actor: Actor, prepared: Prepared, segments: Segments) -> Shipped | None:
    """Stores what was prepared: rows, watermark, evidence and event in this one transaction.

    Returns None when the plane has moved on since: then it must be prepared anew.
    """
    plane = known_plane(tx, actor, prepared.plane)
    if plane.through_seq != prepared.after_seq:
        return None
    for part in prepared.parts:
        _store_part(tx, actor, prepared.plane, part, segments)
    if prepared.parts:
        store.set_through(tx, prepared.plane, prepared.through_seq)
        settle_pending(tx, actor, prepared.plane, prepared.through_seq)
    return Shipped(through_seq=prepared.through_seq)


def _store_part(tx: Transaction, actor: Actor, plane: str, part: Part, segments: Segments) -> None:
    table = store.table_of(actor.workspace, part.endpoint)
    seqs = [record.seq for record in part.records]
    times = [record.event_ms for record in part.records]
    key = f"{plane}/{seqs[0]}"
    segments.append_staged(tx, table, [part.staged], key=key)
    store.add_stretch(tx, actor.workspace, part.endpoint, plane, seqs, times)
    store.set_newest(tx, actor.workspace, part.endpoint, _newest(plane, part.records))
    if part.sighting is not None and part.rollout is not None:
        under_way = rollout_store.under_way(tx, actor.workspace, part.endpoint)
        if under_way is not None and under_way.id == part.rollout:
            rollout_store.add_sighting(tx, part.rollout, part.sighting)
    event = PredictionsRecorded(
        endpoint=part.endpoint,
        plane=plane,
        rows=len(seqs),
        first_id=prediction_id(plane, seqs[0]),
        last_id=prediction_id(plane, seqs[-1]),
        min_event_ms=min(times),
        max_event_ms=max(times),
        digest=part.digest,
    )
    tx.emit(actor, f"endpoint:{part.endpoint}", event)


def _newest(plane: str, records: Sequence[PredictionRecord]) -> list[tuple[str, str, int]]:
    """The newest prediction of each key in a batch."""
    newest: dict[str, PredictionRecord] = {}
    for record in records:
        known = newest.get(record.key)
        if record.key and (known is None or record.event_ms >= known.event_ms):
            newest[record.key] = record
    return [(key, prediction_id(plane, record.seq), record.event_ms) for key, record in sorted(newest.items())]


def _sighting(
    plane: str, records: Sequence[PredictionRecord], rollout: Rollout, endpoint: Endpoint
) -> rollout_store.Sighting | None:
    """What the records show of champion and challenger: rows both answered when mirrored, live answers otherwise."""
    column = OUTPUT_OF_TASK.get(endpoint.task or "other")
    seen: list[tuple[PredictionRecord, Answer | None, Answer | None]] = []
    for record in records:
        answers = {
            answer.revision: answer for answer in answers_of(record) if rollout.strategy.mirror or answer.role == "live"
        }
        champion, challenger = answers.get(rollout.champion or ""), answers.get(rollout.challenger)
        both = champion is not None and challenger is not None
        if both or (not rollout.strategy.mirror and (champion or challenger)):
            seen.append((record, champion, challenger))
    if not seen:
        return None
    latency_us = _latencies(seen)
    return rollout_store.Sighting(
        plane=plane,
        seqs=[record.seq for record, _, _ in seen],
        event_ms=[record.event_ms for record, _, _ in seen],
        champion_failed=[failed(old, column) if old else None for _, old, _ in seen],
        challenger_failed=[failed(new, column) if new else None for _, _, new in seen],
        champion_latency_us=[old for old, _ in latency_us],
        challenger_latency_us=[new for _, new in latency_us],
        champion_output=[number_in(old, column) if old else None for _, old, _ in seen],
        challenger_output=[number_in(new, column) if new else None for _, _, new in seen],
    )


def _latencies(
    seen: Sequence[tuple[PredictionRecord, Answer | None, Answer | None]],
) -> list[tuple[int | None, int | None]]:
    """How long champion and challenger took, once for each request.

    Rows that were asked together share one latency: counting it for each would feign independent observations.
    """
    found: list[tuple[int | None, int | None]] = []
    before: tuple[int, int | None, int | None] | None = None
    for record, champion, challenger in seen:
        old = champion.latency_us if champion else None
        new = challenger.latency_us if challenger else None
        same = before == (record.at_ms, old, new)
        found.append((None, None) if same else (old, new))
        before = (record.at_ms, old, new)
    return found
