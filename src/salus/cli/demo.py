"""`salus demo`: a year of real flights."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from salus.cli.up import StopSignal
from salus.client import Client, connect
from salus.demo import preparation as first
from salus.demo.replay import ENDPOINT, Replay, days_of
from salus.demo.report import Comparison, fetch_and_compare, show_chart, show_table, verdict
from salus.demo.story import Line, Story
from salus.kernel.errors import InvalidInput
from salus.kernel.settings import Settings, load_settings
from salus.registry.model import NewGate
from salus.server.supervisor import Supervisor, end_orphans, read_state

console = Console(width=None if sys.stdout.isatty() else 120)

_MARK = ".salus-demo"
_MIN_AUC, _MAX_LOG_LOSS = 0.85, 0.35
_MODEL_THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


def demo(
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the last step instead of keeping the page up.")
    ] = False,
    until: Annotated[str, typer.Option(help="Last day of the replay, as in 2013-05-31.")] = "2013-12-31",
) -> None:
    """A year of real flights: a model is trained, deployed, watched, healed, and compared with itself left alone."""
    last = _day(until)
    settings = _settings()
    stop = StopSignal(at_once=True)
    supervisor = Supervisor(settings, environment=_MODEL_THREADS)
    began = time.monotonic()
    try:
        supervisor.start()
        _play(connect(settings.url), settings, last)
        console.print(f"\nThat took {time.monotonic() - began:.0f} s. Everything is at [bold]{settings.server_url}[/].")
        if not leave:
            console.print("Ctrl-C stops everything.")
        stop.at_once = False
        while not (leave or stop.asked):
            time.sleep(0.2)
    finally:
        supervisor.stop()


def _play(client: Client, settings: Settings, last: datetime) -> None:
    year = first.load_year()
    _chapter(1, "Data")
    version = first.commit_departures(client, year)
    console.print(f"departures@{version.version}: {version.rows:,} rows, schema and expectations inferred, all hold.")
    report = first.refuse_broken_batch(client, year)
    console.print(f"A broken batch of {report.rows:,} rows was refused, nothing was written:")
    for violation in report.violations:
        console.print(f"  {violation.law}: {violation.observed}")
    rows = first.declare_features(client, year)
    console.print(f"Feature views weather and plane: {rows:,} rows, joined as of each departure.")
    _chapter(2, "Training")
    done = first.train_first_model(client)
    console.print("Pipeline: " + ", ".join(f"{step.step} {step.state}" for step in done.steps))
    _chapter(3, "Registry, gates, deployment")
    _deploy(client)
    _chapter(4, "From March on: requests in event-time order, labels hours later")
    departures = year.departures.filter(pl.col("event_time").is_between(first.MARCH, last.replace(hour=23, minute=59)))
    with Replay(client, departures, year.weather.filter(pl.col("event_time") >= first.MARCH)) as replay:
        story = Story(client, console, replay)
        ended = story.play(len(days_of(departures["event_time"])) + 1)
    _chapter(5, "What came of it")
    months = fetch_and_compare(client, "1.0.0", min(ended, last))
    show_table(console, months)
    show_chart(console, months)
    _decisions(story.lines)
    console.print(f"\n[bold]{verdict(months)}[/]")
    console.print(f"{replay.predictions:,} predictions and {replay.labels:,} labels went over HTTP.")
    _keep(client, months)


def _deploy(client: Client) -> None:
    version = first.newest_version(client)
    checks = [
        NewGate(
            name="holdout-auc",
            passed=version.metrics["auc"] >= _MIN_AUC,
            reason=f"AUC {version.metrics['auc']:.4f} on the hold-out, at least {_MIN_AUC} asked",
        ),
        NewGate(
            name="holdout-log-loss",
            passed=version.metrics["log_loss"] <= _MAX_LOG_LOSS,
            reason=f"log loss {version.metrics['log_loss']:.4f} on the hold-out, at most {_MAX_LOG_LOSS} allowed",
        ),
    ]
    decided = client.models.check_gates(version.model, version.version, checks)
    for gate in decided.gates:
        console.print(f"gate {gate.name}: {'passed' if gate.passed else 'FAILED'} ({gate.reason})")
    console.print(f"{version.model} {version.version} is {decided.state} by policy.")
    first.declare_endpoint(client)
    client.endpoints.deploy(ENDPOINT, version.model, version.version, reason="first deployment")
    client.models.alias(version.model, "champion", version.version)
    client.endpoints.shadow(ENDPOINT, [f"{version.model}@{version.version}"])
    first.await_served(client, version.version)
    console.print(f"Endpoint {ENDPOINT} serves it; 1.0.0 also stays as a shadow, to compare with at the end.")


def _decisions(lines: list[Line]) -> None:
    table = Table("day", "what", "based on", title="Alarms and decisions", title_justify="left", box=None)
    for line in lines:
        table.add_row(line.day, line.kind, escape(line.text))
    console.print()
    console.print(table)


def _keep(client: Client, months: list[Comparison]) -> None:
    """The comparison as a tracked run, with its table as an artifact."""
    with client.tracking.start("demo", name="alone against Salus") as run:
        for step, month in enumerate(months[:-1], start=3):
            run.log({"frozen_log_loss": month.frozen_loss.value, "healed_log_loss": month.healed_loss.value}, step=step)
        run.log_artifact("comparison.json", msgspec.json.format(msgspec.json.encode(months)))


def _settings() -> Settings:
    """The demo's own home under the user's, emptied."""
    settings = load_settings()
    home = settings.home_path / "demo"
    if read_state(msgspec.structs.replace(settings, home=str(home))) is None:
        end_orphans(msgspec.structs.replace(settings, home=str(home)))
        _empty(home)
    os.environ["SALUS_HOME"] = str(home)
    for name in ("SALUS_DATABASE", "SALUS_BLOBS"):
        os.environ.pop(name, None)
    return msgspec.structs.replace(load_settings(), project=str(first.PROJECT))


def _empty(home: Path) -> None:
    """Removes what an earlier demo left; never a folder that is not a demo's."""
    if home.exists() and not (home / _MARK).exists() and any(home.iterdir()):
        raise InvalidInput(f"{home} holds something that is not a demo's", remedy="Move it away, or set SALUS_HOME.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / _MARK).touch()


def _day(text: str) -> datetime:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"a day is written as 2013-05-31, got {text!r}", path="--until") from error
    if not datetime(2013, 3, 3, tzinfo=UTC) <= day <= datetime(2013, 12, 31, tzinfo=UTC):
        raise InvalidInput(f"the replay ends between 2013-03-03 and 2013-12-31, got {text}", path="--until")
    return day


def _chapter(number: int, title: str) -> None:
    console.rule(f"[bold]{number}. {title}", align="left")
