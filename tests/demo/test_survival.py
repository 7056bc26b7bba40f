"""kill -9 of every process in the middle of the demo's replay: what was acknowledged is there at the end, once.

What an acknowledged prediction or label is: the client got its answer. A request whose data plane was killed before
it answered is sent again and becomes a new prediction; the first may have been recorded, and then it is there as well,
under an id that nobody was ever given. The tests bound how many of those there can be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from salus.client import Client
from salus.demo import preparation
from salus.demo.flights import features, model
from salus.demo.flights.pipeline import MODEL, signature, train_flight_delay
from salus.demo.preparation import PROJECT, Year
from salus.demo.replay import ENDPOINT, WEATHER_VIEW, Replay
from salus.kernel.errors import Unavailable
from salus.kernel.ids import new_id
from salus.kernel.ledger import Entry
from salus.kernel.settings import Settings, load_settings
from salus.sdk.session import Session, path
from salus.server.supervisor import Supervisor
from salus.serving.client import EndpointsClient, PredictClient
from salus.serving.wire import parse_prediction_id
from salus.testing import fixtures
from salus.tracking.client import ActiveRun
from salus.web.pagination import Page

FEBRUARY = datetime(2013, 2, 1, 5, tzinfo=UTC)
_MODEL_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_ALL_MS = {"from_ms": 0, "to_ms": 1 << 52}
_CLIENT_THREADS = 4
_PATIENCE_S = 60.0


class Witness:
    """Notes what the platform acknowledged, as the client of the replay saw it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.predictions: dict[str, tuple[str, int]] = {}
        self.labels: dict[str, tuple[float, int]] = {}
        self.twice: list[str] = []
        predict, label = PredictClient.predict, EndpointsClient.label

        def noted_predict(client: PredictClient, endpoint: str, rows: Any, **more: Any) -> Any:
            answers = predict(client, endpoint, rows, **more)
            for answer, key, event_ms in zip(answers, more["keys"], more["event_ms"], strict=True):
                if answer.id in self.predictions:
                    self.twice.append(answer.id)
                self.predictions[answer.id] = (key, event_ms)
            return answers

        def noted_label(client: EndpointsClient, name: str, labels: Any) -> Any:
            accepted = label(client, name, labels)
            self.labels.update({item.prediction_id: (float(item.value), item.event_ms) for item in labels})
            return accepted

        monkeypatch.setattr(PredictClient, "predict", noted_predict)
        monkeypatch.setattr(EndpointsClient, "label", noted_label)


class World:
    """A supervised Salus with a model of January in service, ready for the departures of February."""

    def __init__(self, home: Path, *, database: str = "", workers: int = 1) -> None:
        port, serve_port = _free_ports(2)
        given = {"HOME": str(home), "PORT": str(port), "SERVE_PORT": str(serve_port), "DATABASE": database}
        given |= {"PROJECT": str(PROJECT), "LOG_LEVEL": "warning"}
        self.settings: Settings = load_settings({f"SALUS_{name}": value for name, value in given.items()})
        self.client = Client(Session(self.settings))
        self.supervisor = Supervisor(self.settings, workers=workers, environment=_MODEL_THREADS)
        self.kills: Counter[str] = Counter()
        self.year = preparation.load_year()
        self.fresh_weather = self.year.weather.filter(pl.col("event_time") >= FEBRUARY)

    def __enter__(self) -> World:
        self.supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()

    def prepare(self, train: Callable[[], None]) -> None:
        """What the demo does before its replay, on January alone."""
        self.january = Year(
            departures=preparation.known_before(self.year, FEBRUARY),
            weather=self.year.weather.filter(pl.col("event_time") < FEBRUARY),
            planes=self.year.planes,
        )
        preparation.commit_departures(self.client, self.january)
        preparation.declare_features(self.client, self.january)
        train()
        preparation.declare_endpoint(self.client)
        version = preparation.newest_version(self.client).version
        self.client.endpoints.deploy(ENDPOINT, MODEL, version, reason="first deployment", override=True)
        preparation.await_served(self.client, version)

    def train_here(self) -> None:
        """A small model, made in this process."""
        joined = features.with_plane(
            features.with_weather(self.january.departures.tail(6_000), self.january.weather), self.january.planes
        )
        fitted = model.train(joined)
        example = model.inputs(joined)
        outputs = pl.DataFrame({"probability": model.probability(fitted, joined)})
        self.client.models.log_onnx(
            MODEL, model.to_onnx(fitted, joined.head(200)), example, signature=signature(), outputs=outputs
        )

    def train_by_pipeline(self) -> None:
        """The demo's own pipeline, run by the worker."""
        preparation.train_first_model(self.client)

    def february(self, days: int, every: int = 1) -> pl.DataFrame:
        """Departures from the first of February on that have a label."""
        end = FEBRUARY + timedelta(days=days)
        rows = self.year.departures.filter(pl.col("event_time").is_between(FEBRUARY, end, closed="left"))
        return rows.filter(pl.col("late").is_not_null()).gather_every(every)

    def kill(self, name: str) -> None:
        """kill -9, then waits until the supervisor has put another one in its place that answers."""
        pid = self.supervisor.pid(name)
        os.kill(pid, signal.SIGKILL)
        self.kills[name.partition("-")[0]] += 1
        until(lambda: self.supervisor.pid(name) != pid, f"another {name} is started")
        url = {"server": f"{self.settings.server_url}/readyz", "serve": f"{self.settings.dataplane_url}/readyz"}
        if name in url:
            until(lambda: self.answers(url[name]), f"{name} answers again")

    def answers(self, url: str) -> bool:
        session = Session(self.settings, attempts=1)
        try:
            session.send("GET", url, timeout_s=2.0)
        except Unavailable:
            return False
        finally:
            session.close()
        return True

    def outcomes(self) -> pl.DataFrame:
        """The live rows of all that was predicted."""
        return self.client.endpoints.outcomes(ENDPOINT, **_ALL_MS).filter(pl.col("role") == "live")

    def entries(self, *kinds: str) -> list[Entry]:
        """All ledger entries of these kinds, in order."""
        found: list[Entry] = []
        after: str | None = "0"
        while after is not None:
            query = {"kind": list(kinds), "limit": 500, "after": after}
            page = self.client.session.call("GET", path("ledger"), query=query, expect=Page[Entry])
            found += page.items
            after = page.next_cursor
        return found

    def spooled(self) -> list[Path]:
        """Planes that are gone and have not been shipped to their end."""
        return sorted((self.settings.home_path / "serve" / "spool").glob("pln_*"))[:-1]


class Attack(threading.Thread):
    """Kills `blows` one after the other, each when the client holds so many answers more."""

    def __init__(self, world: World, witness: Witness, blows: Sequence[str], every: int) -> None:
        super().__init__(name="attack", daemon=True)
        self.world, self.witness, self.blows, self.every = world, witness, blows, every
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for count, name in enumerate(self.blows, start=1):
                until(lambda count=count: len(self.witness.predictions) >= count * self.every, "the replay goes on")
                self.world.kill(name)
        except BaseException as error:  # noqa: BLE001 - told by `finished`
            self.error = error

    def finished(self) -> None:
        """Waits for the last blow."""
        self.join(_PATIENCE_S)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


class Logger(threading.Thread):
    """A training program that logs a point every few milliseconds until it is told to end."""

    def __init__(self, run: ActiveRun) -> None:
        super().__init__(name="logger", daemon=True)
        self.tracked = run
        self.points = 0
        self.ending = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ending.wait(0.004):
            self.tracked.log(loss=1.0 / (1 + self.points))
            self.points += 1

    def end(self) -> None:
        self.ending.set()
        self.join()
        assert self.tracked.finish().state == "finished"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives as soon as it gives something."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {_PATIENCE_S:.0f} s: {what}")


def check_predictions(world: World, witness: Witness) -> pl.DataFrame:
    """Each acknowledged prediction is there once, as it was asked; returns the live rows."""
    assert witness.twice == [], "an id was given twice"
    acknowledged = set(witness.predictions)
    until(lambda: acknowledged <= set(world.outcomes()["prediction_id"]), "all that was answered is delivered")
    until(lambda: world.spooled() == [], "the spools of killed planes are drained")
    rows = world.outcomes()
    assert not rows["prediction_id"].is_duplicated().any()
    for row in rows.select("prediction_id", "key", "event_ms").iter_rows():
        assert witness.predictions.get(row[0], row[1:]) == row[1:]
    extra = rows.filter(~pl.col("prediction_id").is_in(acknowledged))
    asked = {key for key, _ in witness.predictions.values()}
    assert set(extra["key"]) <= asked, "a prediction that nobody asked for"
    assert extra.height <= _CLIENT_THREADS * world.kills["serve"]
    return rows


def check_labels(world: World, witness: Witness, rows: pl.DataFrame) -> None:
    """Each acknowledged label is there once, with its value."""
    labelled = rows.filter(pl.col("label").is_not_null())
    found = labelled.select("prediction_id", "label", "label_event_ms").rows()
    assert {name: (value, at) for name, value, at in found} == witness.labels
    assert sum(entry.data["rows"] for entry in world.entries("LabelsRecorded")) == len(witness.labels)


def check_watermarks(world: World, rows: pl.DataFrame) -> None:
    """The records of each plane are stored from 1 to its watermark without a gap, and told of once."""
    stored: dict[str, list[int]] = {}
    for name in rows["prediction_id"]:
        plane, seq = parse_prediction_id(name) or ("", 0)
        stored.setdefault(plane, []).append(seq)
    watermarks = {plane.plane: plane.through_seq for plane in world.client.endpoints.planes() if plane.through_seq}
    assert {plane: sorted(seqs) for plane, seqs in stored.items()} == {
        plane: list(range(1, through + 1)) for plane, through in watermarks.items()
    }
    told: dict[str, int] = {}
    for entry in world.entries("PredictionsRecorded"):
        plane, first = parse_prediction_id(entry.data["first_id"]) or ("", 0)
        assert first == told.get(plane, 0) + 1
        told[plane] = first + entry.data["rows"] - 1
    assert told == watermarks


def check_features(world: World, witness: Witness, rows: pl.DataFrame) -> None:
    """Each answer was given the weather that was known then, and the weather was recorded once."""
    asked = world.february(28).filter(pl.col("flight_id").is_in({key for key, _ in witness.predictions.values()}))
    truth = features.with_weather(asked, world.year.weather).select("flight_id", "wind_speed")
    both = rows.select(flight_id="key", served="in.wind_speed").join(truth, on="flight_id", how="inner")
    assert both.height == rows.height
    wrong = both.filter(~pl.col("served").cast(pl.Float32).eq_missing(pl.col("wind_speed").cast(pl.Float32)))
    assert wrong.height == 0, wrong
    history = world.client.features.history(WEATHER_VIEW)
    assert not history.select("origin", "event_time").is_duplicated().any()


def check_metrics(world: World, logger: Logger) -> None:
    """Each point is there once, with its value."""
    points = world.client.tracking.history(logger.tracked.id, "loss").points
    assert [(step, value) for step, _, value in points] == [(n, 1.0 / (1 + n)) for n in range(logger.points)]
    assert world.client.tracking.get(logger.tracked.id).run.state == "finished"
    assert sum(entry.data["run"] == logger.tracked.id for entry in world.entries("RunFinished")) == 1


def check_ledger(world: World) -> None:
    """`salus audit verify` says that the chain is whole."""
    env = {**os.environ, "SALUS_HOME": world.settings.home, "SALUS_DATABASE": world.settings.database}
    done = subprocess.run(
        [sys.executable, "-m", "salus", "audit", "verify"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "is whole" in done.stdout


def play(world: World, witness: Witness, days: int, blows: Sequence[str], every: int = 1) -> Logger:
    """Replays `days` under attack while a program logs; returns that program, ended."""
    departures = world.february(days, every)
    logger = Logger(world.client.tracking.start("survival"))
    attack = Attack(world, witness, blows, departures.height // (len(blows) + 1))
    replay = Replay(world.client, departures, world.fresh_weather)
    for _ in replay.days():
        pass
    attack.finished()
    logger.end()
    assert replay.predictions == departures.height == len(witness.predictions)
    assert replay.labels == departures.height == len(witness.labels)
    return logger


def check_all(world: World, witness: Witness, logger: Logger) -> None:
    rows = check_predictions(world, witness)
    check_labels(world, witness, rows)
    check_watermarks(world, rows)
    check_features(world, witness, rows)
    check_metrics(world, logger)
    check_ledger(world)


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(monkeypatch)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database of the control plane's own; "" is SQLite under its home."""
    if request.param == "sqlite":
        yield ""
        return
    server: fixtures.PostgresServer = request.getfixturevalue("postgres")
    name = server.lend()
    yield server.address(name)
    server.take_back(name)


def test_the_replay_survives_kills_of_server_and_data_plane(tmp_path: Path, witness: Witness) -> None:
    with World(tmp_path / "home", workers=0) as world:
        world.prepare(world.train_here)
        logger = play(world, witness, days=3, blows=["serve", "server", "serve"])
        check_all(world, witness, logger)


@pytest.mark.slow
def test_the_replay_survives_kills_of_everything_while_a_pipeline_runs(
    tmp_path: Path, witness: Witness, database: str
) -> None:
    with World(tmp_path / "home", database=database) as world:
        world.prepare(world.train_by_pipeline)
        other = {"holdout_days": 9.0}
        run = world.client.pipelines.start(train_flight_delay.name, other, idempotency_key=new_id("req"))
        blows = ["worker-1", "server", "serve", "worker-1", "serve", "server", "serve"]
        logger = play(world, witness, days=8, blows=blows)
        done = world.client.pipelines.wait(run.id, timeout_s=_PATIENCE_S)
        assert done.run.state == "succeeded", done.run.error
        assert [step.state for step in done.steps] == ["succeeded"] * len(done.steps)
        assert max(step.attempts for step in done.steps) > 1, "no step was under way when its worker was killed"
        ended = [entry for entry in world.entries("PipelineRunFinished") if entry.data["run"] == run.id]
        assert len(ended) == 1
        steps = Counter(entry.data["step"] for entry in world.entries("StepFinished") if entry.data["run"] == run.id)
        assert steps == Counter(step.step for step in done.steps)
        assert len(world.client.models.versions(MODEL)) == 2, "the pipeline registered its model once"
        check_all(world, witness, logger)


def test_without_the_server_predictions_are_answered_and_delivered_later(tmp_path: Path, witness: Witness) -> None:
    with World(tmp_path / "home", workers=0) as world:
        world.prepare(world.train_here)
        departures = world.february(1)
        replay = Replay(world.client, departures.head(100), world.fresh_weather)
        list(replay.days())
        delivered = witness.predictions.keys()

        server = world.supervisor.pid("server")
        os.kill(server, signal.SIGSTOP)
        ask(world, departures.slice(100, 100))
        world.kill("serve")
        ask(world, departures.slice(200, 100))
        assert len(delivered) == 300
        assert world.spooled(), "the killed plane's records wait on disk"
        world.kill("server")
        check_watermarks(world, check_predictions(world, witness))
        check_ledger(world)


def ask(world: World, rows: pl.DataFrame) -> None:
    """Asks for each of `rows` until it is answered."""
    predict = PredictClient(world.client.session)
    columns = [name for name in rows.columns if name in model.FEATURES or name == "tailnum"]
    for row, key, at in zip(
        rows.select(columns).to_dicts(), rows["flight_id"], rows["event_time"].dt.timestamp("ms"), strict=True
    ):
        until(lambda row=row, key=key, at=at: _answered(predict, row, key, at), "an answer without the server")
    predict.close()


def _answered(predict: PredictClient, row: dict[str, Any], key: str, event_ms: int) -> bool:
    try:
        return bool(predict.predict(ENDPOINT, [row], keys=[key], event_ms=[event_ms]))
    except Unavailable:
        return False
