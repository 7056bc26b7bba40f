"""The rules of runs, on each database."""

from __future__ import annotations

import math

import pytest

from salus.kernel import ledger
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Conflict, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.tracking import service
from salus.tracking.model import FinishRun, LogBatch, Point, Run, StartRun


@pytest.fixture
def run(database: SqlDatabase, actor: Actor) -> Run:
    body = StartRun(experiment="delays", parameters={"depth": 6}, tags={"team": "ops"})
    return database.write(lambda tx: service.start_run(tx, actor, body))


def test_a_run_keeps_what_it_was_started_with(database: SqlDatabase, actor: Actor, run: Run) -> None:
    found = database.read(lambda reader: service.describe_run(reader, actor, run.id))
    assert found.experiment == "delays"
    assert found.parameters == {"depth": "6"}
    assert found.tags == {"team": "ops"}
    assert found.run.state == "running"


def test_points_come_back_in_the_order_of_steps_with_special_numbers(
    database: SqlDatabase, actor: Actor, run: Run
) -> None:
    values: list[float | str] = [3.0, "NaN", "Infinity", "-Infinity", 1.0]
    points = [Point(key="loss", value=value, step=9 - i) for i, value in enumerate(values)]  # type: ignore[arg-type]
    database.write(lambda tx: service.log(tx, actor, run.id, LogBatch(points=points)))
    found = database.read(lambda reader: service.metric_history(reader, actor, run.id, "loss", None))
    assert [value for _, _, value in found.points] == [1.0, "-Infinity", "Infinity", "NaN", 3.0]
    latest = database.read(lambda reader: service.describe_run(reader, actor, run.id)).metrics[0]
    assert (latest.value, latest.step, latest.low, latest.high, latest.points) == (3.0, 9, 1.0, 3.0, 5)


def test_a_parameter_is_set_once(database: SqlDatabase, actor: Actor, run: Run) -> None:
    same = LogBatch(parameters={"depth": 6})
    database.write(lambda tx: service.log(tx, actor, run.id, same))
    other = LogBatch(parameters={"depth": 7}, points=[Point(key="loss", value=1.0)])
    with pytest.raises(Conflict, match=r"'depth'.*'6' already, got '7'"):
        database.write(lambda tx: service.log(tx, actor, run.id, other))
    assert not database.read(lambda reader: service.describe_run(reader, actor, run.id)).metrics


def test_a_run_ends_once(database: SqlDatabase, actor: Actor, run: Run) -> None:
    batch = LogBatch(points=[Point(key="auc", value=0.8)])
    database.write(lambda tx: service.log(tx, actor, run.id, batch))
    ended = database.write(lambda tx: service.finish_run(tx, actor, run.id, FinishRun()))
    again = database.write(lambda tx: service.finish_run(tx, actor, run.id, FinishRun()))
    assert ended == again
    with pytest.raises(Conflict):
        database.write(lambda tx: service.finish_run(tx, actor, run.id, FinishRun(state="failed")))
    with pytest.raises(Conflict, match="has ended"):
        database.write(lambda tx: service.log(tx, actor, run.id, batch))
    entry = database.read(lambda reader: ledger.read(reader, kinds=["RunFinished"]))[0]
    assert entry.subject == f"run:{run.id}"
    assert entry.data["metrics"] == {"auc": 0.8}
    assert entry.before != entry.after


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (LogBatch(points=[Point(key="", value=1.0)]), "$.points[0].key"),
        (LogBatch(points=[Point(key="k" * 251, value=1.0)]), "$.points[0].key"),
        (LogBatch(points=[Point(key="k", value=1.0), Point(key="k", value=1.0, step=2**70)]), "$.points[1].step"),
        (LogBatch(parameters={"p": "x" * 8_001}), "$.parameters.p"),
        (LogBatch(tags={"a\nb": "x"}), "$.tags.a\nb"),
    ],
)
def test_bad_input_is_named_and_nothing_is_kept(
    database: SqlDatabase, actor: Actor, run: Run, batch: LogBatch, path: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        database.write(lambda tx: service.log(tx, actor, run.id, batch))
    assert caught.value.path == path
    assert not database.read(lambda reader: service.describe_run(reader, actor, run.id)).metrics


def test_another_workspace_sees_nothing(database: SqlDatabase, actor: Actor, run: Run) -> None:
    other = Actor(principal="bob", role="admin", workspace="other")
    with pytest.raises(NotFound):
        database.read(lambda reader: service.describe_run(reader, other, run.id))
    assert database.read(lambda reader: service.list_experiments(reader, other)) == []


def test_runs_come_newest_first_in_pages(database: SqlDatabase, actor: Actor) -> None:
    made = [database.write(lambda tx: service.start_run(tx, actor, StartRun(experiment="many"))) for _ in range(5)]
    ids = [run.id for run in reversed(made)]
    first = database.read(lambda reader: service.list_runs(reader, actor, experiment="many", before=None, limit=3))
    rest = database.read(lambda reader: service.list_runs(reader, actor, experiment="many", before=ids[2], limit=3))
    assert [row.run.id for row in first + rest] == ids


def test_a_sampled_curve_keeps_its_spike(database: SqlDatabase, actor: Actor, run: Run) -> None:
    values = [math.sin(i / 50) for i in range(5_000)]
    values[3_333] = 99.0
    points = [Point(key="loss", value=value, step=i) for i, value in enumerate(values)]
    database.write(lambda tx: service.log(tx, actor, run.id, LogBatch(points=points)))
    found = database.read(lambda reader: service.metric_history(reader, actor, run.id, "loss", 100))
    assert found.total == 5_000
    assert len(found.points) <= 100
    assert (3_333, 99.0) in [(step, value) for step, _, value in found.points]
