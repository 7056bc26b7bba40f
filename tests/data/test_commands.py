"""`salus data`, `salus features` and `salus models` against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from salus.cli import data, features, models
from salus.features.client import FeaturesClient
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column
from salus.registry.client import RegistryClient, infer_signature
from salus.testing.servers import RunningServer


@pytest.fixture(autouse=True)
def environment(server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SALUS_URL", server.url)
    monkeypatch.setenv("SALUS_HOME", str(tmp_path / "home"))
    for module in (data, features, models):
        monkeypatch.setattr(module.console, "width", 200, raising=False)


def run(module: object, *arguments: str) -> Result:
    return CliRunner().invoke(module.app, list(arguments))  # type: ignore[attr-defined]


def test_a_file_is_committed_shown_and_refused(tmp_path: Path) -> None:
    good, bad, text = tmp_path / "good.parquet", tmp_path / "bad.csv", tmp_path / "x.txt"
    pl.DataFrame({"temp": [1.0, 2.0], "origin": ["EWR", "JFK"]}).write_parquet(good)
    pl.DataFrame({"temp": [999.0], "origin": ["EWR"]}).write_csv(bad)
    assert "flights@1: 2 rows added" in run(data, "commit", "flights", str(good), "-m", "first", "--infer").output
    assert "none is broken" in run(data, "validate", "flights", str(good)).output
    for command in ("commit", "validate"):
        refused = run(data, command, "flights", str(bad))
        assert isinstance(refused.exception, InvalidInput)
        assert "row 0: 999.0" in refused.output
    assert isinstance(run(data, "commit", "flights", str(text)).exception, InvalidInput)
    shown = run(data, "show", "flights").output
    assert "expects that temp is between 0.5 and 2.5" in shown or "expects that temp" in shown
    assert "first" in shown
    assert json.loads(run(data, "list", "--json").output)[0]["latest_version"] == 1
    assert json.loads(run(data, "show", "flights", "--json").output)["version"]["rows"] == 2
    assert "flights" in run(data, "list").output


def test_views_are_listed_and_shown(server: RunningServer) -> None:
    client = FeaturesClient(server.session)
    client.put_view(
        "weather", entity="airport", keys=["origin"], event_time="at", features=[Column(name="temp", dtype="float")]
    )
    assert "weather" in run(features, "list").output
    assert "event time" in run(features, "show", "weather").output
    assert json.loads(run(features, "show", "weather", "--json").output)["view"]["entity"] == "airport"


def test_versions_are_shown_approved_and_named(server: RunningServer) -> None:
    client = RegistryClient(server.session)
    client.register("delay", {"model.onnx": b"x"}, infer_signature({"temp": [1.0]}), metrics={"auc": 0.8})
    assert "delay@1.0.0 is approved" in run(models, "approve", "delay@1.0.0", "--reason", "seen").output
    assert "champion is 1.0.0" in run(models, "alias", "delay@1.0.0", "champion").output
    assert "champion=1.0.0" in run(models, "list").output
    assert "auc=0.8" in run(models, "show", "delay").output
    assert "approved by local: seen" in run(models, "show", "delay@champion").output
    assert json.loads(run(models, "show", "delay@1.0.0", "--json").output)["state"] == "approved"
    assert isinstance(run(models, "approve", "delay", "--reason", "x").exception, InvalidInput)
