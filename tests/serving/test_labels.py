"""Labels: all or none, once each, and patient with predictions that are on their way."""

from __future__ import annotations

import math
from typing import Any

import pytest

from salus.kernel import ledger
from salus.kernel.errors import Conflict, InvalidInput, NotFound, TooLarge
from salus.serving.model.endpoints import PutEndpoint
from salus.serving.model.labels import Label, LabelsAccepted, PostLabels
from salus.serving.service import endpoints, labels
from salus.serving.wire import PredictionBatch, prediction_id


@pytest.fixture
def live(world: Any) -> str:
    """The revision of `delay@1.0.0`, live."""
    world.deploy(world.version("1.0.0"))
    return world.live()


def said(seq: int, value: Any = 1, **fields: Any) -> Label:
    return Label(prediction_id=prediction_id("pln_a", seq), value=value, event_ms=1_000, **fields)


def kinds(world: Any) -> list[str]:
    return [entry.kind for entry in world.read(ledger.read, kinds=["LabelsRecorded", "LabelsDropped"])]


def test_labels_are_recorded_once(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(3, lambda seq: [answer(live)]))
    assert world.label(said(1), said(2, 0)) == LabelsAccepted(recorded=2, known=0, pending=0)
    assert world.label(said(2, 0), said(3)) == LabelsAccepted(recorded=1, known=1, pending=0)
    first, second = world.read(ledger.read, kinds=["LabelsRecorded"])
    assert (first.data["rows"], first.data["first_seq"], first.data["last_seq"]) == (2, 1, 2)
    assert (second.data["rows"], second.data["first_seq"], second.data["last_seq"]) == (1, 3, 3)


def test_repeating_a_request_says_nothing_new(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    world.label(said(1))
    assert world.label(said(1, True)) == LabelsAccepted(recorded=0, known=1, pending=0)
    assert kinds(world) == ["LabelsRecorded"]


def test_another_value_is_a_conflict_and_nothing_is_written(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(3, lambda seq: [answer(live)]))
    world.label(said(1, 1))
    with pytest.raises(Conflict, match=r"1 of 2 labels .* has the label 1.0 already") as error:
        world.label(said(2), said(1, 0))
    assert error.value.path == "$.labels[1]"
    assert world.label(said(2)).recorded == 1


def test_a_label_given_twice_in_one_request_must_agree(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    with pytest.raises(Conflict):
        world.label(said(1, 1), said(1, 0))
    assert world.label(said(1, 1), said(1, 1)) == LabelsAccepted(recorded=1, known=1, pending=0)


@pytest.mark.parametrize("name", ["pln_nobody-1", "nonsense", "pln_a-zz", ""])
def test_an_unknown_prediction_is_not_found(world: Any, live: str, answer: Any, name: str) -> None:
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    with pytest.raises(NotFound) as error:
        world.label(Label(prediction_id=name, value=1, event_ms=1))
    assert error.value.details[0]["code"] == "not-found"
    assert error.value.path == "$.labels[0].prediction_id"


def test_every_bad_label_is_listed_in_order(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(20, lambda seq: [answer(live)]))
    good = [said(seq) for seq in range(1, 11)]
    with pytest.raises(InvalidInput) as error:
        world.label(
            Label(value=1, event_ms=1),
            said(11, "late"),
            *good,
            Label(key="nobody", value=1, event_ms=1),
            Label(prediction_id="pln_a-c", value=1, event_ms=-5),
        )
    assert [item["path"] for item in error.value.details] == [
        "$.labels[0]",
        "$.labels[1].value",
        "$.labels[12].key",
        "$.labels[13].event_ms",
    ]
    assert kinds(world) == []


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ("binary", 2),
        ("binary", 0.5),
        ("binary", "1"),
        ("binary", math.nan),
        ("binary", math.inf),
        ("regression", "3"),
        ("regression", True),
        ("regression", -math.inf),
        ("multiclass", 1.5),
        ("other", math.nan),
    ],
)
def test_a_value_that_is_no_outcome_of_the_task_is_refused(task: Any, value: Any) -> None:
    with pytest.raises(InvalidInput) as error:
        labels.label_value(value, task, "$.labels[0].value")
    assert error.value.path == "$.labels[0].value"


def test_values_by_task() -> None:
    assert labels.label_value(0, "binary", "$") == (0.0, None)
    assert labels.label_value(-3, "regression", "$") == (-3.0, None)
    assert labels.label_value(7, "multiclass", "$") == (None, "7")
    assert labels.label_value(2.5, "other", "$") == (2.5, None)


def test_a_label_waits_for_its_prediction(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    assert world.label(said(3)) == LabelsAccepted(recorded=0, known=0, pending=1)
    assert world.label(said(3)) == LabelsAccepted(recorded=0, known=1, pending=0)
    with pytest.raises(Conflict):
        world.label(said(3, 0))
    assert kinds(world) == []
    world.ship(world.batch(3, lambda seq: [answer(live)]))
    assert kinds(world) == ["LabelsRecorded"]
    assert world.label(said(3)).known == 1


def test_a_waiting_label_of_another_endpoints_prediction_is_dropped(world: Any, live: str, answer: Any) -> None:
    world.write(endpoints.put_endpoint, world.actor, "other", PutEndpoint(task="binary"))
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    wrong = PostLabels(labels=(said(2),))
    assert world.write(labels.record_labels, world.actor, "other", wrong).pending == 1
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    assert kinds(world) == ["LabelsDropped"]


def test_a_label_for_another_endpoints_prediction_is_not_found(world: Any, live: str, answer: Any) -> None:
    world.write(endpoints.put_endpoint, world.actor, "other", PutEndpoint(task="binary"))
    world.ship(world.batch(1, lambda seq: [answer(live)]))
    with pytest.raises(NotFound, match="the endpoint other made no prediction pln_a-1"):
        world.write(labels.record_labels, world.actor, "other", PostLabels(labels=(said(1),)))


def test_a_key_names_its_newest_prediction_in_event_time(world: Any, live: str, answer: Any) -> None:
    batch = world.batch(3, lambda seq: [answer(live)])
    same = tuple(
        type(record)(record.seq, record.endpoint, at_ms, record.at_ms, "UA1", record.inputs, record.answers)
        for record, at_ms in zip(batch.records, (100, 300, 200), strict=True)
    )
    world.ship(PredictionBatch(batch.plane, batch.first_seq, batch.last_seq, same))
    world.label(Label(key="UA1", value=1, event_ms=400))
    assert world.label(said(2)).known == 1


def test_labels_far_apart_are_found(world: Any, live: str, answer: Any) -> None:
    for _ in range(30):
        world.ship(world.batch(100, lambda seq: [answer(live)]))
    assert world.label(*(said(seq) for seq in (1, 100, 101, 1550, 3000))).recorded == 5


def test_too_many_labels_are_refused(world: Any, live: str) -> None:
    with pytest.raises(TooLarge):
        world.label(*(said(1) for _ in range(10_001)))
