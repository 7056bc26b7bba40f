"""The doctor over real HTTP: predictions and labels come in as from a data plane, nobody configures anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from salus.kernel import ledger
from salus.monitoring.client import MonitoringClient
from salus.testing.clinic import DAY_MS, ENDPOINT, FIRST_DAY, HOUR_MS, Clinic, Truth
from salus.testing.servers import RunningServer

WAIT_S = 20.0


def eventually(ask: Callable[[], Any], *, wait_s: float = WAIT_S) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def doctor(server: RunningServer) -> MonitoringClient:
    return MonitoringClient(server.session)


@pytest.fixture
def clinic(server: RunningServer) -> Clinic:
    return Clinic(server.session)


def examined(doctor: MonitoringClient, day: int) -> Any:
    """The vital signs once the day's window is closed."""

    def ask() -> Any:
        found = doctor.vitals(ENDPOINT)
        return found if (found.watch.next_ms or 0) >= (FIRST_DAY + day + 1) * DAY_MS else None

    return eventually(ask)


def kinds_in(server: RunningServer, *kinds: str) -> list[str]:
    found = server.context.database.read(lambda reader: ledger.read(reader, kinds=kinds, limit=1_000))
    return [entry.kind for entry in found]


def test_a_broken_feed_is_named_and_over_by_itself(
    server: RunningServer, clinic: Clinic, doctor: MonitoringClient
) -> None:
    clinic.deploy(clinic.register())
    eventually(doctor.ward)
    watch = doctor.watch(ENDPOINT)
    assert watch.reference.kind == "registered"
    assert watch.settings.false_alarms_per_year == 1.0
    for day in range(6):
        clinic.live_day(day)
    clinic.live_day(6, Truth(celsius=True, from_hour=14))
    clinic.live_day(7, Truth(celsius=True))
    for day in range(8, 11):
        clinic.live_day(day)
    found = examined(doctor, 9)
    assert found.watch.window_ms == DAY_MS
    assert kinds_in(server, "AlertRaised", "AlertResolved") == ["AlertRaised", "AlertResolved"]
    (alert,) = doctor.alerts(ENDPOINT)
    assert (alert.cause, alert.state, alert.columns) == ("broken_input", "resolved", ("temp",))
    assert alert.since_event_ms // HOUR_MS == ((FIRST_DAY + 6) * DAY_MS) // HOUR_MS + 14
    assert alert.diagnosis is not None
    assert "°F -> °C" in alert.diagnosis.text
    assert "Fix the feed" in alert.diagnosis.text
    assert doctor.broken_ranges(ENDPOINT) == [((FIRST_DAY + 6) * DAY_MS, (FIRST_DAY + 8) * DAY_MS)]
    (patient,) = doctor.ward()
    assert patient.condition == "healthy"

    def mature_ones() -> Any:
        windows = doctor.vitals(ENDPOINT).windows
        mature = [window for window in windows if window.state == "mature"]
        return mature if len(mature) >= 9 else None

    mature = eventually(mature_ones)
    assert mature[0].metrics["log_loss"].n == clinic.rows
    assert mature[0].harm is not None


def test_a_changed_relationship_is_an_alarm_and_harmless_drift_is_not(
    server: RunningServer, clinic: Clinic, doctor: MonitoringClient
) -> None:
    clinic.deploy(clinic.register())
    for day in range(5):
        clinic.live_day(day, Truth(warmth=10.0 + day))
    for day in range(5, 9):
        clinic.live_day(day, Truth(intercept=0.2, slope=0.7, warmth=14.0))
    examined(doctor, 7)
    alert = eventually(lambda: doctor.alerts(ENDPOINT))[0]
    assert alert.cause == "changed_relationship"
    assert alert.since_event_ms == (FIRST_DAY + 5) * DAY_MS
    assert alert.window_end_ms <= (FIRST_DAY + 7) * DAY_MS
    told = alert.diagnosis
    assert told is not None
    assert told.split is not None
    assert told.split.relation is not None
    assert told.split.relation.low > 0
    assert "relationship changed" in told.text
    assert doctor.diagnosis(ENDPOINT).condition == "sick"
    assert kinds_in(server, "AlertRaised", "DriftRaised") == ["AlertRaised", "DriftRaised"]
