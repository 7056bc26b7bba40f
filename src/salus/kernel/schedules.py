"""Schedules: work that comes back by the clock. Who owns a schedule decides what a firing does.

A moment that was missed (the server was down) is made up for once, not once for each time it was missed.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from salus.kernel.cron import parse_cron
from salus.kernel.ids import new_id
from salus.kernel.sql import Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

table = sa.Table(
    "schedules",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("subject", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("cron", Name, nullable=False),
    sa.Column("payload", Json()),
    sa.Column("next_ms", Ms, nullable=False),
    sa.Column("last_ms", Ms),
    sa.Column("created_ms", Ms, nullable=False),
    sa.UniqueConstraint("workspace", "subject", "name"),
    sa.Index("ix_schedules_next", "next_ms"),
)


class Schedule(Record):
    """`subject` (as in `pipeline:train`) is due when `cron` says so, in UTC; `payload` is the owner's."""

    id: str
    workspace: str
    subject: str
    name: str
    cron: str
    payload: Any
    next_ms: int
    created_ms: int
    last_ms: int | None = None


class Firing(Record):
    """A schedule that is due: `due_ms` is the first moment that was not yet dealt with."""

    schedule: Schedule
    due_ms: int


def put(tx: Transaction, workspace: str, subject: str, name: str, cron: str, payload: Any) -> Schedule:
    """Sets the schedule `name` of `subject`; one that is there already is replaced and counts from now.

    Raises:
        InvalidInput: `cron` is not a lawful expression.
    """
    next_ms = parse_cron(cron).next_after(tx.now_ms)
    known = find(tx, workspace, subject, name)
    if known is not None:
        changes = {"cron": cron, "payload": payload, "next_ms": next_ms}
        tx.execute(sa.update(table).where(table.c.id == known.id).values(**changes))
        return tx.one(Schedule, sa.select(table).where(table.c.id == known.id), what=f"schedule {name}")
    schedule = Schedule(
        id=new_id("sch"),
        workspace=workspace,
        subject=subject,
        name=name,
        cron=cron,
        payload=payload,
        next_ms=next_ms,
        created_ms=tx.now_ms,
    )
    tx.insert(table, schedule)
    return schedule


def find(reader: Reader, workspace: str, subject: str, name: str) -> Schedule | None:
    """The schedule, or None."""
    return reader.record(Schedule, _of(workspace, subject).where(table.c.name == name))


def of_subject(reader: Reader, workspace: str, subject: str) -> list[Schedule]:
    """All schedules of `subject`, by name."""
    return reader.records(Schedule, _of(workspace, subject).order_by(table.c.name))


def _of(workspace: str, subject: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.workspace == workspace, table.c.subject == subject)


def remove(tx: Transaction, schedule: Schedule) -> None:
    """Ends the schedule."""
    tx.execute(sa.delete(table).where(table.c.id == schedule.id))


def any_due(reader: Reader, prefix: str) -> bool:
    """Whether `take_due` would find something."""
    return reader.row(_due(reader, prefix).limit(1)) is not None


def take_due(tx: Transaction, prefix: str, *, limit: int = 100) -> list[Firing]:
    """The due schedules whose subject starts with `prefix`, each once, and moves them on past now.

    The caller acts on the firings in the same transaction: a firing is dealt with exactly once.
    """
    due = tx.records(Schedule, _due(tx, prefix).order_by(table.c.next_ms).limit(limit))
    for schedule in due:
        following_ms = parse_cron(schedule.cron).next_after(tx.now_ms)
        changes = {"next_ms": following_ms, "last_ms": tx.now_ms}
        tx.execute(sa.update(table).where(table.c.id == schedule.id).values(**changes))
    return [Firing(schedule=schedule, due_ms=schedule.next_ms) for schedule in due]


def _due(reader: Reader, prefix: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.next_ms <= reader.now_ms, table.c.subject.startswith(prefix, autoescape=True))
