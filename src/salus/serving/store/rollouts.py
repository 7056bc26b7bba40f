"""Rollouts, their evidence, and what waits to enter it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record
from salus.serving.model.rollouts import Criterion, Look, Rollout, Strategy, Verdict
from salus.serving.store.labels import labels
from salus.serving.verdict import Evidence

LABELS_AT_ONCE = 50_000

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("endpoint", Name, nullable=False),
    sa.Column("champion", Id),
    sa.Column("challenger", Id, nullable=False),
    sa.Column("model", Name, nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("strategy", Json(Strategy), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("verdict", Json(Verdict)),
    sa.Column("started_ms", Ms, nullable=False),
    sa.Column("started_by", Name, nullable=False),
    sa.Column("ended_ms", Ms),
    sa.Column("ended_by", Name),
    sa.Index("ix_rollouts_workspace_endpoint", "workspace", "endpoint", "id"),
)

watches = sa.Table(
    "rollout_watches",
    metadata,
    sa.Column("rollout", Id, primary_key=True),
    sa.Column("evidence", Json(Evidence), nullable=False),
    sa.Column("label_seq", sa.BigInteger, nullable=False),
    sa.Column("last_look_n", sa.BigInteger, nullable=False),
    sa.Column("newest_ms", Ms),
)

looks = sa.Table(
    "rollout_looks",
    metadata,
    sa.Column("rollout", Id, primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Column("event_ms", Ms),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("criteria", Json(tuple[Criterion, ...]), nullable=False),
)

inbox = sa.Table(
    "rollout_inbox",
    metadata,
    sa.Column("rollout", Id, primary_key=True),
    sa.Column("plane", Id, primary_key=True),
    sa.Column("first_seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sighting", sa.LargeBinary, nullable=False),
)

pairs = sa.Table(
    "rollout_pairs",
    metadata,
    sa.Column("rollout", Id, primary_key=True),
    sa.Column("prediction_id", sa.String(64), primary_key=True),
    sa.Column("event_ms", Ms, nullable=False),
    sa.Column("champion", sa.Double),
    sa.Column("challenger", sa.Double),
    sa.Column("label", sa.Double),
    sa.Index("ix_rollout_pairs_labelled", "rollout", "label", "event_ms"),
)
"""Compared rows that have not entered the evidence yet; they leave when they do, so none enters twice."""


class Watch(Record):
    """Where the evidence of a rollout stands: all labels up to `label_seq` are in or wait in `rollout_pairs`;
    `newest_ms` is the greatest event time of predictions and labels seen."""

    rollout: str
    evidence: Evidence
    label_seq: int
    last_look_n: int = 0
    newest_ms: int | None = None


class Sighting(Record):
    """What one batch showed of champion and challenger; all lists are as long as `seqs`.

    Without mirroring a row has only one side: the other's `failed` and `latency_us` are None. Rows that were asked
    together have their latency once. An `output` is None where the model failed or the task has none that is a number.
    """

    plane: str
    seqs: list[int]
    event_ms: list[int]
    champion_failed: list[bool | None]
    challenger_failed: list[bool | None]
    champion_latency_us: list[int | None]
    challenger_latency_us: list[int | None]
    champion_output: list[float | None]
    challenger_output: list[float | None]


class Pair(Record):
    """One compared row: what champion and challenger answered, and its label once that is known."""

    rollout: str
    prediction_id: str
    event_ms: int
    champion: float | None
    challenger: float | None
    label: float | None = None


def select_rollouts(workspace: str) -> sa.Select[tuple[object, ...]]:
    """All rollouts, newest first."""
    return sa.select(rollouts).where(rollouts.c.workspace == workspace).order_by(rollouts.c.id.desc())


def under_way(reader: Reader, workspace: str, endpoint: str) -> Rollout | None:
    """The rollout of the endpoint that has not ended, or None."""
    query = select_rollouts(workspace).where(rollouts.c.endpoint == endpoint, rollouts.c.state.in_(["running", "held"]))
    return reader.record(Rollout, query)


def all_under_way(reader: Reader, workspace: str) -> dict[str, Rollout]:
    """The rollouts that have not ended, by endpoint."""
    query = select_rollouts(workspace).where(rollouts.c.state.in_(["running", "held"]))
    return {rollout.endpoint: rollout for rollout in reader.records(Rollout, query)}


def list_of(reader: Reader, workspace: str, endpoint: str, *, before: str | None, limit: int) -> list[Rollout]:
    """The endpoint's rollouts, newest first, older than `before`."""
    query = select_rollouts(workspace).where(rollouts.c.endpoint == endpoint).limit(limit)
    return reader.records(Rollout, query.where(rollouts.c.id < before) if before else query)


def update(tx: Transaction, rollout: Rollout) -> None:
    """Writes all fields of a rollout that is there."""
    values = {name: getattr(rollout, name) for name in rollout.__struct_fields__}
    tx.execute(sa.update(rollouts).where(rollouts.c.id == rollout.id).values(**values))


def open_watch(tx: Transaction, watch: Watch) -> None:
    """Begins to collect evidence."""
    tx.insert(watches, watch)


def watch_of(reader: Reader, rollout: str) -> Watch:
    """Where the evidence stands. Raises `NotFound`."""
    query = sa.select(watches).where(watches.c.rollout == rollout)
    return reader.one(Watch, query, what=f"watch over the rollout {rollout}")


def save_watch(tx: Transaction, watch: Watch) -> None:
    """Writes where the evidence stands now."""
    values = {name: getattr(watch, name) for name in watch.__struct_fields__}
    tx.execute(sa.update(watches).where(watches.c.rollout == watch.rollout).values(**values))


def add_look(tx: Transaction, rollout: str, look: Look) -> None:
    """Adds a point of the chart; a later look at the same n takes its place."""
    tx.execute(sa.delete(looks).where(looks.c.rollout == rollout, looks.c.n == look.n))
    values = {name: getattr(look, name) for name in look.__struct_fields__}
    tx.execute(sa.insert(looks).values(rollout=rollout, **values))


def looks_of(reader: Reader, rollout: str) -> list[Look]:
    """The chart's points, oldest first."""
    return reader.records(Look, sa.select(looks).where(looks.c.rollout == rollout).order_by(looks.c.n))


def add_sighting(tx: Transaction, rollout: str, sighting: Sighting) -> None:
    """Puts what a batch showed before the watch."""
    tx.execute(
        sa.insert(inbox).values(
            rollout=rollout,
            plane=sighting.plane,
            first_seq=sighting.seqs[0],
            sighting=msgspec.msgpack.encode(sighting),
        )
    )


def take_sightings(tx: Transaction, rollout: str, limit: int) -> list[Sighting]:
    """Removes and returns what waits, at most `limit`, oldest first within a plane."""
    query = sa.select(inbox).where(inbox.c.rollout == rollout)
    rows = tx.rows(query.order_by(inbox.c.plane, inbox.c.first_seq).limit(limit))
    for row in rows:
        tx.execute(
            sa.delete(inbox).where(
                inbox.c.rollout == rollout,
                inbox.c.plane == row["plane"],
                inbox.c.first_seq == row["first_seq"],
            )
        )
    return [msgspec.msgpack.decode(row["sighting"], type=Sighting) for row in rows]


def add_pairs(tx: Transaction, found: Sequence[Pair]) -> None:
    """Rows to wait for their labels."""
    tx.insert(pairs, *found)


def label_pairs(tx: Transaction, rollout: Rollout, after_seq: int) -> tuple[int, int | None]:
    """Gives waiting pairs the endpoint's labels behind `after_seq`.

    Returns the last label's sequence number and the greatest event time of these labels.
    """
    fresh = (labels.c.workspace == rollout.workspace, labels.c.endpoint == rollout.endpoint)
    span = (
        sa.select(labels.c.seq, labels.c.event_ms)
        .where(*fresh, labels.c.seq > after_seq)
        .order_by(labels.c.seq)
        .limit(LABELS_AT_ONCE)
        .subquery()
    )
    ends = tx.row(sa.select(sa.func.max(span.c.seq).label("last"), sa.func.max(span.c.event_ms).label("newest")))
    if ends is None or ends["last"] is None:
        return after_seq, None
    last, newest = ends["last"], ends["newest"]
    matched = tx.execute(
        sa.select(pairs.c.prediction_id.label("b_id"), labels.c.value.label("b_label"))
        .select_from(labels.join(pairs, pairs.c.prediction_id == labels.c.prediction_id))
        .where(*fresh, labels.c.seq > after_seq, labels.c.seq <= last, pairs.c.rollout == rollout.id)
        .where(labels.c.value.is_not(None))
    ).mappings()
    rows = [dict(row) for row in matched]
    if rows:
        tx.execute(
            sa.update(pairs)
            .where(pairs.c.rollout == rollout.id, pairs.c.prediction_id == sa.bindparam("b_id"))
            .values(label=sa.bindparam("b_label")),
            rows,
        )
    return last, newest


def take_labelled(tx: Transaction, rollout: str, until_ms: int | None) -> list[Pair]:
    """Removes and returns the labelled pairs with an event time up to `until_ms` (None: all), in order of time."""
    ripe = [pairs.c.rollout == rollout, pairs.c.label.is_not(None)]
    if until_ms is not None:
        ripe.append(pairs.c.event_ms <= until_ms)
    query = sa.select(pairs).where(*ripe).order_by(pairs.c.event_ms, pairs.c.prediction_id)
    found = tx.records(Pair, query)
    if found:
        tx.execute(sa.delete(pairs).where(*ripe))
    return found


def close_watch(tx: Transaction, rollout: str) -> None:
    """Drops what waits; the evidence and its looks stay."""
    tx.execute(sa.delete(inbox).where(inbox.c.rollout == rollout))
    tx.execute(sa.delete(pairs).where(pairs.c.rollout == rollout))


def sightings_wait(reader: Reader, rollout: str) -> bool:
    """Whether something lies before the watch."""
    return reader.value(sa.select(inbox.c.plane).where(inbox.c.rollout == rollout).limit(1)) is not None
