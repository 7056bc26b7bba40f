"""`salus doctor` prints what the diagnosis says."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from salus.cli.main import app
from salus.monitoring.client import MonitoringClient
from salus.testing.clinic import DAY_MS, ENDPOINT, FIRST_DAY, Clinic, Truth
from salus.testing.servers import RunningServer


def test_the_doctor_says_the_same_as_the_diagnosis(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALUS_URL", server.url)
    clinic, client = Clinic(server.session), MonitoringClient(server.session)
    clinic.deploy(clinic.register())
    for day in range(3):
        clinic.live_day(day, Truth(unknown=0.8 if day else 0.0))
    deadline = time.monotonic() + 20
    while not client.ward() or (client.watch(ENDPOINT).mature_ms or 0) < (FIRST_DAY + 1) * DAY_MS:
        assert time.monotonic() < deadline
        time.sleep(0.03)
    shown = CliRunner().invoke(app, ["doctor", ENDPOINT], env={"COLUMNS": "400"})
    assert shown.exit_code == 0, shown.output
    assert client.diagnosis(ENDPOINT).text in " ".join(shown.output.split())
    assert "broken input" in shown.output
    assert "log loss" in shown.output
    unknown = CliRunner().invoke(app, ["doctor", "nobody"])
    assert unknown.exit_code == 1
