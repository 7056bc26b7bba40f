"""Labels: recorded all or none, once each, and kept waiting while their prediction is still on its way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from salus.kernel.errors import Conflict, InvalidInput, NotFound, SalusError, TooLarge
from salus.kernel.identity import Actor
from salus.kernel.schema import Task
from salus.kernel.sql import Transaction
from salus.kernel.structs import Record
from salus.serving.model.endpoints import Endpoint
from salus.serving.model.labels import (
    LABELS_PER_REQUEST,
    Label,
    LabelsAccepted,
    LabelsDropped,
    LabelsRecorded,
    PostLabels,
)
from salus.serving.service.endpoints import get_endpoint
from salus.serving.store import labels as store
from salus.serving.store import predictions as prediction_store
from salus.serving.wire import LAST_MS, parse_prediction_id

_SHOWN = 100
_MS_LIMIT = LAST_MS + 1


class ItemError(Record):
    """What is wrong with one label of a request."""

    path: str
    code: str
    detail: str


class _Wanted(msgspec.Struct, frozen=True):
    index: int
    prediction_id: str
    plane: str
    plane_seq: int
    value: float | None
    category: str | None
    event_ms: int


def record_labels(tx: Transaction, actor: Actor, name: str, body: PostLabels) -> LabelsAccepted:
    """Records what became of predictions; all labels of the request or none.

    A label that is there with the same value changes nothing. One whose prediction has been answered by a known data
    plane that has not shipped it yet waits for it.

    Raises:
        NotFound: no such endpoint; or all bad labels are of predictions that do not exist.
        Conflict: all bad labels contradict ones that are there.
        InvalidInput: other bad labels. In each case `details` lists every bad label with its path.
        TooLarge: more than 10,000 labels.
    """
    endpoint = get_endpoint(tx, actor, name)
    if len(body.labels) > LABELS_PER_REQUEST:
        raise TooLarge(
            f"a request has at most {LABELS_PER_REQUEST:,} labels, got {len(body.labels):,}",
            path="$.labels",
            remedy="Send them in several requests.",
        )
    problems: list[ItemError] = []
    wanted = _parsed(tx, endpoint, body.labels, problems)
    fresh, known = _without_known(tx, endpoint, wanted, problems)
    here, waiting = _placed(tx, endpoint, fresh, problems)
    if problems:
        raise _refusal(problems, len(body.labels))
    _add(tx, actor, endpoint.name, [_stored(actor, endpoint, item, event_ms, tx.now_ms) for item, event_ms in here])
    tx.insert(store.pending, *(_pending(actor, endpoint, item, tx.now_ms) for item in waiting))
    return LabelsAccepted(recorded=len(here), known=known, pending=len(waiting))


def _parsed(tx: Transaction, endpoint: Endpoint, labels: Sequence[Label], problems: list[ItemError]) -> list[_Wanted]:
    keys = sorted({label.key for label in labels if label.key is not None and label.prediction_id is None})
    by_key = prediction_store.newest_ids(tx, endpoint.workspace, endpoint.name, keys)
    wanted = []
    for index, label in enumerate(labels):
        try:
            wanted.append(_parsed_one(index, label, endpoint.task, by_key))
        except SalusError as error:
            problems.append(ItemError(path=error.path or "$", code=error.code, detail=error.detail))
    return wanted


def _parsed_one(index: int, label: Label, task: Task | None, by_key: dict[str, str]) -> _Wanted:
    place = f"$.labels[{index}]"
    if (label.prediction_id is None) == (label.key is None):
        raise InvalidInput("a label names its prediction by `prediction_id` or by `key`, one of the two", path=place)
    if not 0 <= label.event_ms < _MS_LIMIT:
        raise InvalidInput(f"a time is in milliseconds since 1970, got {label.event_ms}", path=f"{place}.event_ms")
    value, category = label_value(label.value, task, f"{place}.value")
    found = label.prediction_id if label.key is None else by_key.get(label.key)
    if found is None:
        raise NotFound(f"no prediction was made with the key {label.key!r}", path=f"{place}.key")
    parsed = parse_prediction_id(found)
    if parsed is None:
        raise NotFound(f"{found[:80]!r} is not the id of a prediction", path=f"{place}.prediction_id")
    return _Wanted(index, found, parsed[0], parsed[1], value, category, label.event_ms)


def label_value(value: bool | int | float | str, task: Task | None, path: str) -> tuple[float | None, str | None]:
    """`value` as number or category, as the task asks for.

    Raises:
        InvalidInput: it is none of the task's outcomes.

    >>> label_value(True, "binary", "$"), label_value("ok", "multiclass", "$")
    ((1.0, None), (None, 'ok'))
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"a label must be finite, got {value}", path=path)
    if task == "binary":
        if isinstance(value, str) or value not in (0, 1):
            raise InvalidInput(f"a binary label is 0 or 1, got {value!r}", path=path)
        return float(value), None
    if task == "regression":
        if isinstance(value, str | bool):
            raise InvalidInput(f"a regression's label is a number, got {value!r}", path=path)
        return float(value), None
    if isinstance(value, float) and not value.is_integer():
        if task == "multiclass":
            raise InvalidInput(f"a class is a text or a whole number, got {value!r}", path=path)
        return value, None
    return None, value if isinstance(value, str) else str(int(value))


def _without_known(
    tx: Transaction, endpoint: Endpoint, wanted: Sequence[_Wanted], problems: list[ItemError]
) -> tuple[list[_Wanted], int]:
    """Those that are new, and how many are there already with the same value."""
    ids = list(dict.fromkeys(item.prediction_id for item in wanted))
    known = store.known_values(tx, endpoint.workspace, endpoint.name, ids)
    fresh, same = [], 0
    for item in wanted:
        value = (item.value, item.category)
        there = known.setdefault(item.prediction_id, value)
        if there is value:
            fresh.append(item)
        elif there == value:
            same += 1
        else:
            shown = there[0] if there[1] is None else there[1]
            problems.append(
                ItemError(
                    path=f"$.labels[{item.index}]",
                    code=Conflict.code,
                    detail=f"{item.prediction_id} has the label {shown!r} already",
                )
            )
    return fresh, same


def _placed(
    tx: Transaction, endpoint: Endpoint, fresh: Sequence[_Wanted], problems: list[ItemError]
) -> tuple[list[tuple[_Wanted, int]], list[_Wanted]]:
    """Those whose prediction is stored, with its event time; and those whose prediction is still on its way."""
    by_plane: dict[str, list[_Wanted]] = {}
    for item in fresh:
        by_plane.setdefault(item.plane, []).append(item)
    here: list[tuple[_Wanted, int]] = []
    waiting: list[_Wanted] = []
    for name, items in by_plane.items():
        plane = prediction_store.find_plane(tx, name)
        through = plane.through_seq if plane and plane.workspace == endpoint.workspace else None
        stored = [item.plane_seq for item in items if through is not None and item.plane_seq <= through]
        times = prediction_store.event_times(tx, name, endpoint.name, stored) if stored else {}
        for item in items:
            if through is not None and item.plane_seq > through:
                waiting.append(item)
            elif item.plane_seq in times:
                here.append((item, times[item.plane_seq]))
            else:
                problems.append(
                    ItemError(
                        path=f"$.labels[{item.index}].prediction_id",
                        code=NotFound.code,
                        detail=f"the endpoint {endpoint.name} made no prediction {item.prediction_id}",
                    )
                )
    here.sort(key=lambda pair: pair[0].index)
    return here, waiting


def _refusal(problems: list[ItemError], total: int) -> SalusError:
    problems.sort(key=lambda problem: int(problem.path.partition("[")[2].partition("]")[0]))
    codes = {problem.code for problem in problems}
    kinds: dict[str, type[SalusError]] = {NotFound.code: NotFound, Conflict.code: Conflict}
    kind = kinds.get(next(iter(codes)), InvalidInput) if len(codes) == 1 else InvalidInput
    return kind(
        f"{len(problems):,} of {total:,} labels cannot be recorded, so none was; the first: {problems[0].detail}",
        path=problems[0].path,
        remedy="Mend or leave out the labels in `details`, then send the rest again.",
        details=[msgspec.to_builtins(problem) for problem in problems[:_SHOWN]],
    )


def _add(tx: Transaction, actor: Actor, endpoint: str, found: Sequence[store.StoredLabel]) -> None:
    if not found:
        return
    seq = store.last_seq(tx, actor.workspace, endpoint)
    rows = [msgspec.structs.replace(label, seq=seq + place) for place, label in enumerate(found, start=1)]
    tx.insert(store.labels, *rows)
    event = LabelsRecorded(
        endpoint=endpoint,
        rows=len(rows),
        first_seq=rows[0].seq,
        last_seq=rows[-1].seq,
        max_event_ms=max(row.event_ms for row in rows),
        min_prediction_event_ms=min(row.prediction_event_ms for row in rows),
        max_prediction_event_ms=max(row.prediction_event_ms for row in rows),
    )
    tx.emit(actor, f"endpoint:{endpoint}", event)


def _stored(
    actor: Actor, endpoint: Endpoint, item: _Wanted, prediction_event_ms: int, now_ms: int
) -> store.StoredLabel:
    return _settled(_pending(actor, endpoint, item, now_ms), prediction_event_ms)


def _settled(label: store.PendingLabel, prediction_event_ms: int) -> store.StoredLabel:
    """The label with its prediction's event time; `_add` gives it its sequence number."""
    return store.StoredLabel(
        workspace=label.workspace,
        endpoint=label.endpoint,
        prediction_id=label.prediction_id,
        seq=0,
        value=label.value,
        category=label.category,
        event_ms=label.event_ms,
        prediction_event_ms=prediction_event_ms,
        recorded_ms=label.recorded_ms,
        recorded_by=label.recorded_by,
    )


def _pending(actor: Actor, endpoint: Endpoint, item: _Wanted, now_ms: int) -> store.PendingLabel:
    return store.PendingLabel(
        workspace=actor.workspace,
        endpoint=endpoint.name,
        prediction_id=item.prediction_id,
        plane=item.plane,
        plane_seq=item.plane_seq,
        value=item.value,
        category=item.category,
        event_ms=item.event_ms,
        recorded_ms=now_ms,
        recorded_by=actor.principal,
    )


def settle_pending(tx: Transaction, actor: Actor, plane: str, through_seq: int) -> None:
    """Records the labels that waited for the plane's predictions up to `through_seq`, in the same transaction.

    One whose prediction turned out to be another endpoint's is dropped, and the ledger says so.
    """
    by_endpoint: dict[str, list[store.PendingLabel]] = {}
    for item in store.take_pending(tx, plane, through_seq):
        by_endpoint.setdefault(item.endpoint, []).append(item)
    for endpoint, items in by_endpoint.items():
        times = prediction_store.event_times(tx, plane, endpoint, [item.plane_seq for item in items])
        found = [_settled(item, times[item.plane_seq]) for item in items if item.plane_seq in times]
        _add(tx, actor, endpoint, found)
        lost = tuple(item.prediction_id for item in items if item.plane_seq not in times)
        if lost:
            tx.emit(actor, f"endpoint:{endpoint}", LabelsDropped(endpoint=endpoint, prediction_ids=lost))
