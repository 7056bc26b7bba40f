"""The loop over real HTTP: alarm, training, comparison, canary, promotion; and everything that must not happen."""

from __future__ import annotations

import msgspec
import pytest

from salus.kernel.errors import InvalidInput
from salus.monitoring.client import MonitoringClient
from salus.retraining.client import RetrainingClient
from salus.retraining.model import DAY_S, Gate, PutPolicy
from salus.sdk.session import path
from salus.serving.model.rollouts import Strategy
from salus.testing.clinic import DAY_MS, ENDPOINT, FIRST_DAY, MODEL, Truth
from salus.testing.servers import RunningServer

CHANGED = Truth(intercept=0.2, slope=0.7)
POLICY = PutPolicy(
    pipeline="train_delay",
    endpoint=ENDPOINT,
    checkup_s=None,
    cooldown_s=3 * DAY_S,
    holdout_s=3 * DAY_S,
    gate=Gate(min_rows=300, min_days=3),
    rollout=Strategy(steps=(0.2,), min_rows=200, margin=0.02),
)


@pytest.fixture
def ward(server: RunningServer) -> MonitoringClient:
    return MonitoringClient(server.session)


@pytest.fixture
def policies(server: RunningServer) -> RetrainingClient:
    return RetrainingClient(server.session)


def begin(hospital, ward, policies, policy=POLICY):  # type: ignore[no-untyped-def]
    hospital.put_pipeline()
    hospital.deploy(hospital.admit(-1.0, 1.5))
    hospital.eventually(ward.ward)
    policies.put_policy(MODEL, policy)
    for day in range(4):
        hospital.live_day(day)


def test_a_changed_world_is_healed(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    begin(hospital, ward, policies)
    hospital.learned = (0.2, 0.7)
    for day in range(4, 11):
        hospital.live_day(day, CHANGED)
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "rolling_out"])
    assert hospital.tasks[0]["champion"] == "1.0.0"
    assert hospital.tasks[0]["until_ms"] == found.now_ms - 3 * DAY_MS
    assert found.comparison.verdict == "better"
    assert found.comparison.gain.low > 0
    for day in range(11, 15):
        hospital.live_day(day, CHANGED)
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "promoted"])
    assert [step.state for step in found.decisions] == ["training", "comparing", "rolling_out", "promoted"]
    hospital.eventually(lambda: ward.watch(ENDPOINT).version == "1.1.0")
    assert all(alert.state == "resolved" for alert in ward.alerts(ENDPOINT))
    assert hospital.models.get(MODEL).aliases["champion"] == "1.1.0"


def test_a_candidate_that_is_no_better_is_turned_down_with_numbers(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    begin(hospital, ward, policies)
    hospital.learned = (-1.4, 1.9)
    for day in range(4, 11):
        hospital.live_day(day, CHANGED)
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "rejected"])
    assert "not promoted: log_loss" in found.reason
    assert found.comparison.candidate_loss > found.comparison.champion_loss
    gates = hospital.models.version(MODEL, "1.1.0").gates
    assert [(gate.name, gate.passed) for gate in gates] == [("better-than-champion", False)]
    assert hospital.detail().rollout is None


def test_broken_input_starts_nothing_and_says_so(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    begin(hospital, ward, policies)
    hospital.live_day(4, Truth(unknown=0.6))
    hospital.live_day(5)
    (found,) = hospital.eventually(lambda: policies.retrainings(MODEL))
    assert found.state == "declined"
    assert "fix the feed" in found.reason
    hospital.live_day(6)
    hospital.eventually(lambda: (ward.watch(ENDPOINT).mature_ms or 0) >= (FIRST_DAY + 6) * DAY_MS)
    later = policies.retrain(MODEL, "a person asks")
    assert later.excluded == (((FIRST_DAY + 4) * DAY_MS, (FIRST_DAY + 5) * DAY_MS),)


def test_a_policy_cannot_retrain_on_broken_input(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match="learn the fault"):
        PutPolicy(pipeline="train_delay", causes=("broken_input",))


def test_a_person_approves_where_the_policy_asks_for_it(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    begin(hospital, ward, policies, msgspec.structs.replace(POLICY, automatic=False))
    hospital.learned = (0.2, 0.7)
    for day in range(4, 8):
        hospital.live_day(day, CHANGED)
    hospital.eventually(lambda: (ward.watch(ENDPOINT).mature_ms or 0) >= (FIRST_DAY + 7) * DAY_MS)
    policies.retrain(MODEL, "the world changed")
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "approving"])
    assert hospital.detail().rollout is None
    hospital.models.decide(MODEL, found.candidate, "approved", "looked at it")
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "rolling_out"])
    assert "approved: looked at it" in [step.reason for step in found.decisions]


def test_a_pipeline_that_fails_ends_the_retraining(hospital, ward, policies) -> None:  # type: ignore[no-untyped-def]
    begin(hospital, ward, policies, msgspec.structs.replace(POLICY, min_labelled=1))
    started = policies.retrain(MODEL)
    hospital.session.call("POST", path("pipeline-runs", started.pipeline_run, "cancel"))
    (found,) = hospital.eventually(lambda: [r for r in policies.retrainings(MODEL) if r.state == "failed"])
    assert "cancelled" in found.reason
    assert hospital.detail().rollout is None
