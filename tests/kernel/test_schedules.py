"""Schedules on both databases: each due moment once, a missed stretch once."""

from __future__ import annotations

from salus.kernel import schedules
from salus.kernel.clock import FrozenClock
from salus.kernel.database import SqlDatabase


def test_a_schedule_is_due_once_each_moment(database: SqlDatabase, clock: FrozenClock) -> None:
    database.write(lambda tx: schedules.put(tx, "default", "pipeline:train", "hourly", "0 * * * *", {"p": 1}))
    assert database.write(lambda tx: schedules.take_due(tx, "pipeline:")) == []
    clock.advance(seconds=3600)
    assert database.read(lambda reader: schedules.any_due(reader, "pipeline:"))
    assert database.write(lambda tx: schedules.take_due(tx, "report:")) == []
    (firing,) = database.write(lambda tx: schedules.take_due(tx, "pipeline:"))
    assert (firing.schedule.name, firing.schedule.payload) == ("hourly", {"p": 1})
    assert firing.due_ms % 3_600_000 == 0
    assert database.write(lambda tx: schedules.take_due(tx, "pipeline:")) == []


def test_missed_moments_are_made_up_for_once(database: SqlDatabase, clock: FrozenClock) -> None:
    database.write(lambda tx: schedules.put(tx, "default", "pipeline:train", "hourly", "0 * * * *", None))
    clock.advance(seconds=10 * 3600)
    assert len(database.write(lambda tx: schedules.take_due(tx, "pipeline:"))) == 1
    assert database.write(lambda tx: schedules.take_due(tx, "pipeline:")) == []
    clock.advance(seconds=3600)
    assert len(database.write(lambda tx: schedules.take_due(tx, "pipeline:"))) == 1


def test_replacing_and_removing(database: SqlDatabase) -> None:
    first = database.write(lambda tx: schedules.put(tx, "default", "pipeline:a", "s", "0 * * * *", 1))
    second = database.write(lambda tx: schedules.put(tx, "default", "pipeline:a", "s", "30 * * * *", 2))
    assert (first.id, second.cron, second.payload) == (second.id, "30 * * * *", 2)
    database.write(lambda tx: schedules.remove(tx, second))
    assert database.read(lambda reader: schedules.of_subject(reader, "default", "pipeline:a")) == []
