"""Data planes, where each prediction's event time is found again, and the newest prediction of each key.

The predictions themselves are rows of the segment table that `table_of` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import sqlalchemy as sa

from salus.kernel.content import digest
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.serving.model.predictions import Plane

_KEYS_AT_ONCE = 500
_KEY_BYTES = 512
_FAR = 20_000
_STRETCHES = 1_000
_SPREAD_MS = 30 * 86_400_000

planes = sa.Table(
    "planes",
    metadata,
    sa.Column("plane", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False, index=True),
    sa.Column("started_ms", Ms, nullable=False),
    sa.Column("seen_ms", Ms, nullable=False),
    sa.Column("through_seq", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("counters", Json(dict[str, float]), nullable=False),
    sa.Column("problems", Json(tuple[str, ...]), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
)

stretches = sa.Table(
    "prediction_stretches",
    metadata,
    sa.Column("plane", Id, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("last_seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("newest_ms", Ms, nullable=False),
    sa.Column("members", sa.LargeBinary, nullable=False),
    sa.Index("ix_prediction_stretches_newest", "workspace", "endpoint", "newest_ms"),
)
"""Which predictions of a plane belong to an endpoint, and when they were made: 16 bytes each instead of a row each."""

newest = sa.Table(
    "newest_predictions",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("endpoint", Name, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("prediction_id", sa.String(64), nullable=False),
    sa.Column("event_ms", Ms, nullable=False),
    sqlite_with_rowid=False,
)

_SET_NEWEST = sa.text(
    "INSERT INTO newest_predictions (workspace, endpoint, key, prediction_id, event_ms)"
    " VALUES (:workspace, :endpoint, :key, :prediction_id, :event_ms)"
    " ON CONFLICT (workspace, endpoint, key) DO UPDATE"
    " SET prediction_id = excluded.prediction_id, event_ms = excluded.event_ms"
    " WHERE excluded.event_ms >= newest_predictions.event_ms"
)


def table_of(workspace: str, endpoint: str) -> str:
    """The segment table of an endpoint's predictions."""
    return f"predictions:{workspace}/{endpoint}"


def find_plane(reader: Reader, plane: str) -> Plane | None:
    """The plane, of whatever workspace, or None."""
    return reader.record(Plane, sa.select(planes).where(planes.c.plane == plane))


def planes_of(reader: Reader, workspace: str) -> list[Plane]:
    """The workspace's planes, newest first."""
    query = sa.select(planes).where(planes.c.workspace == workspace)
    return reader.records(Plane, query.order_by(planes.c.started_ms.desc(), planes.c.plane))


def add_plane(tx: Transaction, plane: Plane) -> None:
    """A plane that was not known."""
    tx.insert(planes, plane)


def update_plane(tx: Transaction, plane: Plane) -> None:
    """Writes all fields of a plane that is there."""
    values = {name: getattr(plane, name) for name in plane.__struct_fields__}
    tx.execute(sa.update(planes).where(planes.c.plane == plane.plane).values(**values))


def set_through(tx: Transaction, plane: str, through_seq: int) -> None:
    """All predictions of the plane up to here are stored."""
    statement = sa.update(planes).where(planes.c.plane == plane)
    tx.execute(statement.values(through_seq=through_seq, seen_ms=tx.now_ms))


def add_stretch(
    tx: Transaction,
    workspace: str,
    endpoint: str,
    plane: str,
    seqs: Sequence[int],
    event_ms: Sequence[int],
) -> None:
    """Remembers when the predictions `seqs` (ascending) were made."""
    members = np.array([seqs, event_ms], dtype="<i8").tobytes()
    tx.execute(
        sa.insert(stretches).values(
            plane=plane,
            endpoint=endpoint,
            last_seq=seqs[-1],
            workspace=workspace,
            newest_ms=max(event_ms),
            members=members,
        )
    )


def event_times(reader: Reader, plane: str, endpoint: str, seqs: Sequence[int]) -> dict[int, int]:
    """Event time by sequence number, of those among `seqs` that are predictions of the endpoint.

    Cost: reads 16 bytes for each prediction between neighbours that are less than 20,000 apart.
    """
    wanted, found = set(seqs), dict[int, int]()
    for first, last in _clusters(sorted(wanted)):
        mine = (stretches.c.plane == plane, stretches.c.endpoint == endpoint)
        end = sa.select(sa.func.min(stretches.c.last_seq)).where(*mine, stretches.c.last_seq >= last)
        query = sa.select(stretches.c.members).where(
            *mine,
            stretches.c.last_seq >= first,
            stretches.c.last_seq <= sa.func.coalesce(end.scalar_subquery(), last),
        )
        for (members,) in reader.execute(query):
            numbers, times = np.frombuffer(members, dtype="<i8").reshape(2, -1)
            part = slice(*np.searchsorted(numbers, [first, last + 1]))
            both = zip(numbers[part].tolist(), times[part].tolist(), strict=True)
            found.update({seq: event_ms for seq, event_ms in both if seq in wanted})
    return found


def _clusters(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches of neighbours in ascending `seqs`."""
    if not seqs:
        return
    first = last = seqs[0]
    for seq in seqs[1:]:
        if seq - last > _FAR:
            yield first, last
            first = seq
        last = seq
    yield first, last


def since_for(reader: Reader, workspace: str, endpoint: str, until_ms: int | None, limit: int) -> int | None:
    """From which event time on there are about `limit` predictions up to `until_ms`; None when there is none."""
    query = sa.select(stretches.c.members).where(stretches.c.workspace == workspace, stretches.c.endpoint == endpoint)
    if until_ms is not None:
        query = query.where(stretches.c.newest_ms <= until_ms + _SPREAD_MS)
    found: list[int] = []
    for (members,) in reader.execute(query.order_by(stretches.c.newest_ms.desc()).limit(_STRETCHES)):
        times = np.frombuffer(members, dtype="<i8").reshape(2, -1)[1]
        found.extend(times.tolist() if until_ms is None else times[times <= until_ms].tolist())
        if len(found) > limit:
            break
    return sorted(found, reverse=True)[:limit][-1] if found else None


def stored_key(key: str) -> str:
    """`key` as the index holds it: as it is, or its digest where it is too long for an index or has a NUL character.

    A data plane has acknowledged its prediction already, so no key may be refused here.

    >>> stored_key("JFK-1")
    'JFK-1'
    """
    raw = key.encode()
    return key if len(raw) <= _KEY_BYTES and b"\0" not in raw else digest(raw)


def set_newest(tx: Transaction, workspace: str, endpoint: str, items: Sequence[tuple[str, str, int]]) -> None:
    """Notes `(key, prediction_id, event_ms)` where no prediction with that key is newer in event time."""
    if items:
        rows = [
            {
                "workspace": workspace,
                "endpoint": endpoint,
                "key": stored_key(key),
                "prediction_id": prediction_id,
                "event_ms": event_ms,
            }
            for key, prediction_id, event_ms in items
        ]
        tx.execute(_SET_NEWEST, rows)


def newest_ids(reader: Reader, workspace: str, endpoint: str, keys: Sequence[str]) -> dict[str, str]:
    """The newest prediction of each of `keys` that has one."""
    found: dict[str, str] = {}
    asked = {stored_key(key): key for key in keys}
    stored = list(asked)
    for start in range(0, len(stored), _KEYS_AT_ONCE):
        query = sa.select(newest.c.key, newest.c.prediction_id).where(
            newest.c.workspace == workspace,
            newest.c.endpoint == endpoint,
            newest.c.key.in_(stored[start : start + _KEYS_AT_ONCE]),
        )
        found.update({asked[row["key"]]: row["prediction_id"] for row in reader.rows(query)})
    return found
