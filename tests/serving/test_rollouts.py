"""Rollouts: what the routes say at each moment, what the evidence decides, and what the ledger keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from salus.kernel import ledger
from salus.kernel.errors import Conflict, Denied, InvalidInput, NotFound
from salus.kernel.identity import Actor
from salus.kernel.policy import Answer as GateAnswer
from salus.kernel.policy import Question
from salus.kernel.schema import Column, Schema, Signature
from salus.serving.model.endpoints import PutEndpoint, PutShadows
from salus.serving.model.labels import Label
from salus.serving.model.rollouts import Reason, Strategy
from salus.serving.service import endpoints, rollouts
from salus.serving.service.watch import advance
from salus.serving.split import check_split
from salus.serving.wire import Answer, RouteTable, prediction_id


@pytest.fixture
def live(world: Any) -> str:
    """The revision of `delay@1.0.0`, live."""
    world.deploy(world.version("1.0.0"))
    return world.live()


def routes(world: Any, actor: Actor | None = None) -> RouteTable:
    return world.read(endpoints.route_table, actor or world.actor)


def kinds(world: Any) -> list[str]:
    found = world.read(ledger.read, limit=1_000)
    return [entry.kind for entry in found if entry.kind.startswith("Rol")]


def mirrored(answer: Any, champion: str, challenger: str, **of_challenger: Any) -> Callable[[int], Sequence[Answer]]:
    """The champion answers live, the challenger unseen."""
    return lambda seq: [answer(champion, 0.3), answer(challenger, role="shadow", **of_challenger)]


def label_all(world: Any, first: int, last: int, value: Callable[[int], int]) -> None:
    items = [
        Label(prediction_id=prediction_id("pln_a", seq), value=value(seq), event_ms=seq * 60_000)
        for seq in range(first, last + 1)
    ]
    world.label(*items)


def test_the_first_version_gets_everything_at_once(world: Any) -> None:
    rollout = world.deploy(world.version("1.0.0"))
    detail = world.show()
    assert rollout.state == "promoted"
    assert [weight.share for weight in detail.split] == [1.0]
    assert detail.endpoint.task == "binary"
    assert kinds(world) == ["RolloutStarted", "RolloutPromoted"]
    table = routes(world)
    assert table.endpoints[0].endpoint == "delay"
    assert [revision.version for revision in table.revisions] == ["1.0.0"]


def test_a_canary_gets_its_share_and_both_answer_everything(world: Any, live: str) -> None:
    before = routes(world).epoch
    rollout = world.deploy(world.version("1.1.0"))
    table = routes(world)
    (route,) = table.endpoints
    check_split(route.split)
    assert {weight.revision: weight.share for weight in route.split} == {
        live: 0.95,
        rollout.challenger: 0.05,
    }
    assert set(route.shadows) == {live, rollout.challenger}
    assert table.epoch > before


def test_every_change_of_routes_grows_the_epoch(world: Any, live: str) -> None:
    epochs = [routes(world).epoch]
    world.version("1.1.0")
    for change in (
        lambda: world.deploy("1.1.0"),
        lambda: world.write(rollouts.roll_back_endpoint, world.actor, "delay", Reason()),
        lambda: world.write(endpoints.put_shadows, world.actor, "delay", PutShadows(versions=("delay@1.1.0",))),
        lambda: world.write(endpoints.put_endpoint, world.actor, "delay", PutEndpoint(key_column="carrier")),
        lambda: world.deploy("1.1.0", Strategy(kind="all_at_once")),
        lambda: world.write(rollouts.roll_back_endpoint, world.actor, "delay", Reason()),
    ):
        change()
        epochs.append(routes(world).epoch)
    assert epochs == sorted(set(epochs))
    assert world.read(endpoints.routes_after, world.actor, epochs[-1]) is None


def test_workspaces_do_not_see_each_other(world: Any, live: str) -> None:
    other = Actor(principal="bob", role="admin", workspace="other")
    assert routes(world, other) == RouteTable(epoch=0)
    with pytest.raises(NotFound):
        world.read(endpoints.get_endpoint, other, "delay")


def test_an_unapproved_version_needs_an_override_with_a_reason(world: Any, live: str) -> None:
    world.version("2.0.0", state="candidate")
    with pytest.raises(Denied, match="is not approved"):
        world.deploy("2.0.0")
    with pytest.raises(InvalidInput, match="an override needs a reason"):
        world.deploy("2.0.0", override=True)
    world.deploy("2.0.0", override=True, reason="incident 12")
    entry = world.read(ledger.read, kinds=["RolloutStarted"])[-1]
    assert (entry.data["override"], entry.data["reason"]) == (True, "incident 12")


def test_a_gate_may_refuse(world: Any, live: str) -> None:
    def freeze(question: Question) -> GateAnswer:
        return GateAnswer(allowed=False, by="freeze", reason="holidays")

    world.gate.register("endpoints.deploy", freeze)
    world.version("1.1.0")
    with pytest.raises(Denied, match="holidays"):
        world.deploy("1.1.0")
    assert world.show().rollout is None


def test_one_rollout_at_a_time_and_no_rollout_to_what_is_live(world: Any, live: str) -> None:
    with pytest.raises(Conflict, match="is live"):
        world.deploy("1.0.0")
    world.deploy(world.version("1.1.0"))
    with pytest.raises(Conflict, match="is under way"):
        world.deploy(world.version("1.2.0"))


@pytest.mark.parametrize(
    ("inputs", "task", "law"),
    [
        ((Column(name="temp", dtype="float"), Column(name="wind", dtype="float", nullable=False)), "binary", "wind"),
        ((Column(name="temp", dtype="string"),), "binary", "comes as float, the version takes string"),
        ((Column(name="temp", dtype="float"),), "regression", "the version's is regression"),
    ],
)
def test_a_version_that_does_not_fit_the_requests_is_refused(
    world: Any, live: str, inputs: Any, task: Any, law: str
) -> None:
    output = Column(name="probability" if task == "binary" else "value", dtype="float")
    signature = Signature(inputs=Schema(columns=inputs), outputs=Schema(columns=(output,)), task=task)
    world.version("2.0.0", signature=signature)
    with pytest.raises(InvalidInput, match=law) as error:
        world.deploy("2.0.0")
    assert error.value.path == "$.version"


def test_a_model_without_the_tasks_output_is_refused(world: Any) -> None:
    outputs = Schema(columns=(Column(name="score", dtype="float"),))
    inputs = Schema(columns=(Column(name="temp", dtype="float"),))
    world.version("1.0.0", signature=Signature(inputs=inputs, outputs=outputs, task="binary"))
    with pytest.raises(InvalidInput, match="has the output 'probability'"):
        world.deploy("1.0.0")


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": (0.5, 0.2)},
        {"steps": ()},
        {"steps": (0.0,)},
        {"steps": (1.5,)},
        {"min_rows": 0},
        {"max_false_rollback_ratio": 0.0},
        {"max_false_promotion_ratio": 0.7},
        {"margin": -0.1},
    ],
)
def test_a_strategy_that_breaks_a_law_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as error:
        Strategy(**fields)
    assert (error.value.path or "").startswith("$.strategy.")


def test_a_crashing_challenger_is_rolled_back_without_any_label(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(100, mirrored(answer, live, rollout.challenger, error="boom")))
    world.deliver()
    ended = world.rollout(rollout.id)
    assert ended.state == "rolled_back"
    assert "errors is certainly worse" in ended.verdict.reason
    assert world.show().split[0].revision == live
    assert kinds(world)[-1] == "RolledBack"


def test_an_output_that_is_no_number_counts_as_failed(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(100, mirrored(answer, live, rollout.challenger, probability=float("nan"))))
    world.deliver()
    assert world.rollout(rollout.id).state == "rolled_back"


def test_a_slow_challenger_is_rolled_back(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(1_000, mirrored(answer, live, rollout.challenger, probability=0.3, latency_us=50_000)))
    world.deliver()
    ended = world.rollout(rollout.id)
    assert ended.state == "rolled_back"
    assert ended.verdict.reason.startswith("latency is certainly worse")


def test_a_worse_challenger_is_rolled_back_on_labels(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    for _ in range(4):
        world.ship(world.batch(500, mirrored(answer, live, rollout.challenger, probability=0.9)))
    label_all(world, 1, 2_000, lambda seq: int(seq % 10 < 3))
    world.deliver()
    ended = world.rollout(rollout.id)
    assert ended.state == "rolled_back"
    assert ended.verdict.criteria[0].low > 0.005
    assert world.read(rollouts.describe_rollout, world.actor, rollout.id).looks


def test_a_good_challenger_steps_and_is_promoted(world: Any, live: str, answer: Any) -> None:
    strategy = Strategy(steps=(0.05, 0.5), min_rows=400)
    rollout = world.deploy(world.version("1.1.0"), strategy)
    shares = []
    for start in range(1, 6_001, 500):
        world.ship(world.batch(500, mirrored(answer, live, rollout.challenger, probability=0.29)))
        label_all(world, start, start + 499, lambda seq: int(seq % 10 < 3))
        world.deliver()
        shares.append(world.rollout(rollout.id).share)
        if world.rollout(rollout.id).state == "promoted":
            break
    assert kinds(world)[2:] == ["RolloutStarted", "RolloutStepped", "RolloutPromoted"]
    assert sorted(shares) == shares
    detail = world.show()
    assert detail.endpoint.live == rollout.challenger
    assert detail.endpoint.previous == live
    assert world.rollout(rollout.id).verdict.criteria[0].high <= 0.005


def test_evidence_enters_once_however_often_one_looks(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    batch = world.batch(50, mirrored(answer, live, rollout.challenger, probability=0.3))
    world.ship(batch)
    world.ship(batch)
    label_all(world, 1, 30, lambda seq: 0)
    label_all(world, 1, 30, lambda seq: 0)
    world.deliver()
    first = world.rollout(rollout.id)
    again = world.write(advance, world.actor, first)
    assert again == first
    found = {criterion.name: criterion.n for criterion in first.verdict.criteria}
    assert found == {"loss": 30, "errors": 50, "latency": 50}


def test_a_label_that_came_before_its_prediction_counts(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(1, mirrored(answer, live, rollout.challenger, probability=0.3)))
    label_all(world, 1, 4, lambda seq: 0)
    world.ship(world.batch(3, mirrored(answer, live, rollout.challenger, probability=0.3)))
    world.deliver()
    assert world.rollout(rollout.id).verdict.criteria[0].n == 4


def test_labels_that_come_early_wait_for_the_label_delay(world: Any, live: str, answer: Any) -> None:
    world.write(endpoints.put_endpoint, world.actor, "delay", PutEndpoint(label_delay_s=600.0))
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(20, mirrored(answer, live, rollout.challenger, probability=0.3)))
    label_all(world, 1, 20, lambda seq: 0)
    world.deliver()
    assert world.rollout(rollout.id).verdict.criteria[0].n == 10
    world.ship(world.batch(10, mirrored(answer, live, rollout.challenger, probability=0.3)))
    world.deliver()
    assert world.rollout(rollout.id).verdict.criteria[0].n == 20


def test_rows_of_before_the_rollout_do_not_count(world: Any, live: str, answer: Any) -> None:
    world.ship(world.batch(20, lambda seq: [answer(live)]))
    rollout = world.deploy(world.version("1.1.0"))
    world.ship(world.batch(10, mirrored(answer, live, rollout.challenger, probability=0.3)))
    label_all(world, 1, 30, lambda seq: 0)
    world.deliver()
    assert world.rollout(rollout.id).verdict.criteria[0].n == 10


def test_without_mirroring_each_model_has_rows_of_its_own(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"), Strategy(mirror=False, steps=(0.5,)))
    assert world.show().shadows == ()
    sides = (live, rollout.challenger)
    for start in range(1, 2_001, 500):
        world.ship(world.batch(500, lambda seq: [answer(sides[seq % 2], (0.3, 0.95)[seq % 2])]))
        label_all(world, start, start + 499, lambda seq: int(seq % 10 < 3))
    world.deliver()
    assert world.rollout(rollout.id).state == "rolled_back"


def test_when_time_is_up_it_holds_and_a_person_decides(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"), Strategy(max_duration_s=300.0))
    world.ship(world.batch(10, mirrored(answer, live, rollout.challenger, probability=0.3)))
    world.deliver()
    held = world.rollout(rollout.id)
    assert held.state == "held"
    assert "cannot tell yet" in held.verdict.reason
    promoted = world.write(rollouts.promote_by_hand, world.actor, rollout.id, Reason(reason="seen"), gate=world.gate)
    assert promoted.state == "promoted"
    assert kinds(world)[2:] == ["RolloutStarted", "RolloutHeld", "RolloutPromoted"]


def test_a_held_rollout_is_still_rolled_back_by_evidence(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"), Strategy(max_duration_s=300.0))
    world.ship(world.batch(10, mirrored(answer, live, rollout.challenger, probability=0.3)))
    world.deliver()
    world.ship(world.batch(200, mirrored(answer, live, rollout.challenger, error="boom")))
    world.deliver()
    assert world.rollout(rollout.id).state == "rolled_back"


def test_blue_green_switches_at_once_and_watches(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"), Strategy(kind="blue_green"))
    (route,) = routes(world).endpoints
    assert [(weight.revision, weight.share) for weight in route.split] == [(rollout.challenger, 1.0)]
    assert live in route.shadows
    world.ship(
        world.batch(100, lambda seq: [answer(rollout.challenger, error="boom"), answer(live, 0.3, role="shadow")])
    )
    world.deliver()
    assert world.show().split[0].revision == live


def test_rolling_back_goes_to_the_previous_revision(world: Any, live: str) -> None:
    with pytest.raises(Conflict, match="no previous revision"):
        world.write(rollouts.roll_back_endpoint, world.actor, "delay", Reason())
    world.deploy(world.version("1.1.0"), Strategy(kind="all_at_once"))
    second = world.live()
    undone = world.write(rollouts.roll_back_endpoint, world.actor, "delay", Reason(reason="complaints"))
    assert undone.state == "rolled_back"
    assert world.live() == live
    assert world.show().endpoint.previous == second


def test_a_rollout_that_has_ended_cannot_be_promoted(world: Any, live: str) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    world.write(rollouts.roll_back_by_hand, world.actor, rollout.id, Reason())
    with pytest.raises(Conflict, match="has ended"):
        world.write(rollouts.promote_by_hand, world.actor, rollout.id, Reason(), gate=world.gate)


def test_shadows_answer_unseen_and_must_fit(world: Any, live: str) -> None:
    world.version("0.9.0")
    shown = world.write(
        endpoints.put_shadows, world.actor, "delay", PutShadows(versions=("delay@0.9.0", "delay@1.0.0"))
    )
    assert len(shown.endpoint.shadows) == 2
    assert live not in shown.shadows
    with pytest.raises(InvalidInput, match=r"model@version"):
        world.write(endpoints.put_shadows, world.actor, "delay", PutShadows(versions=("delay",)))


def test_the_task_of_a_serving_endpoint_stays(world: Any, live: str) -> None:
    with pytest.raises(Conflict, match="its task cannot become"):
        world.write(endpoints.put_endpoint, world.actor, "delay", PutEndpoint(task="regression"))


def test_a_regression_canary_needs_a_scale(world: Any) -> None:
    world.deploy(world.version("1.0.0", "regression"))
    world.version("1.1.0", "regression")
    with pytest.raises(InvalidInput, match="needs a scale") as error:
        world.deploy("1.1.0")
    assert error.value.path == "$.strategy.scale"
    world.version("1.2.0", "regression", metrics={"rmse": 5.0})
    assert world.deploy("1.2.0").strategy.scale == pytest.approx(20.0)


def test_the_looks_are_few(world: Any, live: str, answer: Any) -> None:
    rng = np.random.default_rng(5)
    rollout = world.deploy(world.version("1.1.0"), Strategy(min_rows=100_000))
    for _ in range(40):
        world.ship(
            world.batch(20, lambda seq: [answer(live, rng.random()), answer(rollout.challenger, 0.4, role="shadow")])
        )
        world.deliver()
    looks = world.read(rollouts.describe_rollout, world.actor, rollout.id).looks
    assert 10 <= len(looks) <= 40
    assert [look.n for look in looks] == sorted({look.n for look in looks})


def test_rows_asked_together_count_as_one_latency(world: Any, live: str, answer: Any) -> None:
    rollout = world.deploy(world.version("1.1.0"))
    slow = mirrored(answer, live, rollout.challenger, probability=0.3, latency_us=900_000)
    batch = world.batch(2_000, slow)
    together = tuple(
        type(record)(record.seq, record.endpoint, record.event_ms, 7, record.key, record.inputs, record.answers)
        for record in batch.records
    )
    world.ship(type(batch)(batch.plane, batch.first_seq, batch.last_seq, together))
    world.deliver()
    assert world.rollout(rollout.id).state == "running"
    assert world.rollout(rollout.id).verdict.criteria[-1].value is None
