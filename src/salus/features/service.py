"""What one can do with features: one function for each use case, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from salus.data.model import check_name
from salus.features import store
from salus.features.codec import pack, read_fresh, unpack
from salus.features.model import (
    FeatureService,
    FeatureServiceChanged,
    FeaturesPushed,
    FeatureView,
    FeatureViewChanged,
    OnlineChanges,
    OnlineRead,
    OnlineRow,
    Pushed,
    PutService,
    PutView,
    check_evolution,
    check_service,
    check_view,
    entity_key,
    parse_entity_key,
)
from salus.features.online import plan
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record

MAX_KEYS = 10_000


class CheckedRows(Record):
    """Rows of a push that were read and validated against `view`.

    `online` maps a key to the event times and values of its newest rows; `append` writes all rows to the history.
    """

    view: FeatureView
    rows: int
    min_event_ms: int
    max_event_ms: int
    online: Mapping[str, Mapping[int, tuple[Any, ...]]]
    append: Callable[[Transaction], None]


def put_view(tx: Transaction, actor: Actor, name: str, body: PutView) -> FeatureView:
    """The view as `body` wants it, made if it is not there.

    Raises:
        InvalidInput: it cannot be meant.
        Conflict: it holds rows that the change would betray.
    """
    keys = check_view(body)
    before = store.find_view(tx, actor.workspace, check_name(name, "name"))
    wanted = FeatureView(
        name=name,
        description=body.description,
        entity=body.entity,
        keys=keys,
        event_time=body.event_time,
        features=body.features,
        ttl_s=body.ttl_s,
        online_depth=body.online_depth,
        rows=before.rows if before else 0,
        newest_event_ms=before.newest_event_ms if before else None,
        created_ms=before.created_ms if before else tx.now_ms,
        updated_ms=before.updated_ms if before else tx.now_ms,
    )
    if before is not None:
        if wanted == before:
            return before
        check_evolution(before, wanted)
        wanted = msgspec.structs.replace(wanted, updated_ms=tx.now_ms)
    store.save(tx, store.feature_views, actor.workspace, wanted)
    news = FeatureViewChanged(view=name, features=wanted.feature_names)
    tx.emit(actor, f"feature_view:{name}", news, before=before, after=wanted)
    return wanted


def get_view(reader: Reader, actor: Actor, name: str) -> FeatureView:
    """The view. Raises `NotFound`."""
    found = store.find_view(reader, actor.workspace, name)
    if found is None:
        raise NotFound(
            f"there is no feature view {name}", path="view", remedy="Declare it: PUT /features/views/{name}."
        )
    return found


def list_views(reader: Reader, actor: Actor) -> list[FeatureView]:
    """All views, by name."""
    return reader.records(FeatureView, store.select_views(actor.workspace))


def push(tx: Transaction, actor: Actor, checked: CheckedRows) -> Pushed:
    """Adds rows to the history and, of each key, the newest ones to the online state: both or neither.

    An online row gives way to newer ones only, whatever the order in which pushes come; a second row for the same
    key and event time replaces the first.

    Raises:
        Conflict: the view was changed while the rows were checked.
    """
    view = get_view(tx, actor, checked.view.name)
    if (view.features, view.keys, view.event_time) != (
        checked.view.features,
        checked.view.keys,
        checked.view.event_time,
    ):
        raise Conflict(f"the view {view.name} was changed while its rows were checked", remedy="Push again.")
    checked.append(tx)
    online, cursor = _write_online(tx, actor.workspace, view, checked.online)
    newest = max(checked.max_event_ms, view.newest_event_ms or checked.max_event_ms)
    counted = msgspec.structs.replace(view, rows=view.rows + checked.rows, newest_event_ms=newest)
    store.save(tx, store.feature_views, actor.workspace, counted)
    news = FeaturesPushed(
        view=view.name,
        rows=checked.rows,
        online_rows=online,
        cursor=cursor,
        min_event_ms=checked.min_event_ms,
        max_event_ms=checked.max_event_ms,
    )
    tx.emit(actor, f"feature_view:{view.name}", news)
    return Pushed(view=view.name, rows=checked.rows, online_rows=online, cursor=cursor)


def _write_online(
    tx: Transaction, workspace: str, view: FeatureView, online: Mapping[str, Mapping[int, tuple[Any, ...]]]
) -> tuple[int, int]:
    held = store.moments(tx, workspace, view.name, list(online))
    write, drop = plan(held, {key: list(rows) for key, rows in online.items()}, view.online_depth)
    ordered = sorted((event_ms, key) for key, moments in write.items() for event_ms in moments)
    gone = [(key, event_ms) for key, moments in drop.items() for event_ms in moments]
    replaced = [(key, event_ms) for event_ms, key in ordered if event_ms in held.get(key, ())]
    store.drop_online(tx, workspace, view.name, gone + replaced)
    first = store.advance(tx, workspace, len(ordered)) + 1
    rows = [
        store.PackedRow(
            view=view.name,
            key=key,
            event_ms=event_ms,
            seq=first + index,
            packed=pack(view.features, event_ms, online[key][event_ms]),
        )
        for index, (event_ms, key) in enumerate(ordered)
    ]
    store.add_online(tx, workspace, rows)
    return len(rows), first + len(rows) - 1


def online_changes(reader: Reader, actor: Actor, after: int, limit: int) -> OnlineChanges:
    """Online rows written behind the cursor `after`, at most `limit`; all of them from `after` 0 on.

    A cursor that was never given out (of a database that was replaced since) counts as 0.
    """
    head = store.head(reader, actor.workspace)
    after = after if after <= head else 0
    packed = store.changes(reader, actor.workspace, after, limit)
    views = {view.name: view for view in list_views(reader, actor)} if packed else {}
    rows = []
    for row in packed:
        view = views[row.view]
        _, values = unpack(view.features, row.packed)
        rows.append(
            OnlineRow(
                view=row.view,
                key=parse_entity_key(view.keys, row.key),
                event_ms=row.event_ms,
                values=dict(zip(view.feature_names, values, strict=True)),
            )
        )
    return OnlineChanges(
        cursor=packed[-1].seq if len(packed) == limit else head,
        rows=rows,
        depths={name: views[name].online_depth for name in {row.view for row in packed}},
    )


def online_head(reader: Reader, actor: Actor) -> int:
    """The newest cursor of the online state."""
    return store.head(reader, actor.workspace)


def read_online(reader: Reader, actor: Actor, body: OnlineRead) -> list[dict[str, Any] | None]:
    """For each key the features that hold at `at_ms`; None where there are none, or they are past their time."""
    view = get_view(reader, actor, body.view)
    if len(body.keys) > MAX_KEYS:
        raise InvalidInput(f"at most {MAX_KEYS:,} keys at a time, got {len(body.keys):,}", path="$.keys")
    keys = [_key_text(view, values, f"$.keys[{index}]") for index, values in enumerate(body.keys)]
    held = store.online_of(reader, actor.workspace, view.name, sorted(set(keys)))
    at_ms = reader.now_ms if body.at_ms is None else body.at_ms
    found: list[dict[str, Any] | None] = []
    for key in keys:
        packed = [row.packed for row in held.get(key, ())]
        values = read_fresh(view.features, packed, at_ms, view.ttl_ms)
        found.append(None if values is None else dict(zip(view.feature_names, values, strict=True)))
    return found


def _key_text(view: FeatureView, values: Sequence[Any], path: str) -> str:
    lawful = {"string": str, "int": int}
    if len(values) != len(view.keys):
        raise InvalidInput(f"a key of {view.name} is {', '.join(view.key_names)}, got {len(values)} values", path=path)
    for index, (column, value) in enumerate(zip(view.keys, values, strict=True)):
        if not isinstance(value, lawful[column.dtype]) or isinstance(value, bool):
            raise InvalidInput(
                f"the key {column.name} is of type {column.dtype}, got {value!r}", path=f"{path}[{index}]"
            )
    return entity_key(values)


def put_service(tx: Transaction, actor: Actor, name: str, body: PutService) -> FeatureService:
    """The service as `body` wants it, made if it is not there. Raises `InvalidInput`."""
    before = store.find_service(tx, actor.workspace, check_name(name, "name"))
    check_service(body, {view.name: view for view in list_views(tx, actor)})
    if before is not None and (before.views, before.description) == (body.views, body.description):
        return before
    saved = FeatureService(
        name=name,
        views=body.views,
        description=body.description,
        created_ms=before.created_ms if before else tx.now_ms,
        updated_ms=tx.now_ms,
    )
    store.save(tx, store.feature_services, actor.workspace, saved)
    news = FeatureServiceChanged(service=name, views=tuple(view.view for view in body.views))
    tx.emit(actor, f"feature_service:{name}", news, before=before, after=saved)
    return saved


def get_service(reader: Reader, actor: Actor, name: str) -> FeatureService:
    """The service. Raises `NotFound`."""
    found = store.find_service(reader, actor.workspace, name)
    if found is None:
        raise NotFound(f"there is no feature service {name}", path="name", remedy="List the services.")
    return found


def list_services(reader: Reader, actor: Actor) -> list[FeatureService]:
    """All services, by name."""
    return reader.records(FeatureService, store.select_services(actor.workspace))
