"""The demo's middle: the year goes by, and Salus does what it does. The story only watches, and tells."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from salus.client import Client
from salus.demo.flights.pipeline import MODEL, train_flight_delay
from salus.demo.replay import ENDPOINT, DayOfTraffic, Replay
from salus.kernel.errors import Conflict, Unavailable
from salus.kernel.ledger import Entry
from salus.kernel.structs import Record
from salus.sdk.session import path
from salus.web.pagination import Page

SABOTAGE_DAY = datetime(2013, 6, 17, tzinfo=UTC)
"""On this day somebody forces a bad challenger in."""

TOLD = (
    "AlertRaised",
    "AlertResolved",
    "RetrainingStarted",
    "CandidateCompared",
    "RetrainingDeclined",
    "RetrainingEnded",
    "RolloutStarted",
    "RolloutPromoted",
    "RolledBack",
)
_COLOUR = {
    "AlertRaised": "red",
    "AlertResolved": "green",
    "RolledBack": "yellow",
    "RolloutPromoted": "bold green",
    "RetrainingDeclined": "dim",
}
_BUSY = ("waiting", "training", "comparing")
_LAG = timedelta(days=2)
_PATIENCE_S = 90.0
_LOOK_S = 0.05
_SHORT = 150


class Line(Record):
    """One thing that happened: `day` of the replay, the ledger's `kind`, and what it says."""

    day: str
    kind: str
    text: str


class Story:
    """Plays the replay to its end and notes what the ledger says meanwhile.

    A day of the replay takes half a second, a retraining several: before each day the story waits until a training that
    is under way has ended and the monitors are at most two days behind, as they would be in real time.
    """

    def __init__(self, client: Client, console: Console, replay: Replay) -> None:
        self._client = client
        self._console = console
        self._replay = replay
        self._seq = self._head()
        self._sabotaged = False
        self.lines: list[Line] = []

    def play(self, days: int, until: datetime | None = None) -> datetime:
        """Plays until `until` (or the end), showing progress; returns the last day."""
        last = datetime(2013, 3, 1, tzinfo=UTC)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("days"),
            TextColumn("{task.fields[sent]:,} predictions"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("replay", total=days, sent=0)
            for day in self._replay.days():
                last = day.day
                progress.update(bar, advance=1, description=f"{day.day:%d %b}", sent=self._replay.predictions)
                self._after(day)
                if until is not None and day.day >= until:
                    break
        self._wait_settled(last - _LAG)
        self._tell(last)
        return last

    def _after(self, day: DayOfTraffic) -> None:
        self._wait_settled(day.day - _LAG)
        self._tell(day.day)
        if not self._sabotaged and day.day >= SABOTAGE_DAY:
            self._sabotaged = self._sabotage(day.day)

    def _wait_settled(self, examined_until: datetime) -> None:
        """Returns when no training is under way and the monitors have come to `examined_until` (or stand still)."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            newest = self._client.retraining.retrainings(MODEL, limit=1)
            busy = bool(newest) and newest[0].state in _BUSY
            next_ms = self._client.monitoring.watch(ENDPOINT).next_ms
            if not busy and (next_ms is None or next_ms >= round(examined_until.timestamp() * 1_000)):
                return
            time.sleep(_LOOK_S)
        raise Unavailable(
            f"the platform did not come to rest within {_PATIENCE_S:.0f} s on the way to {examined_until}"
        )

    def _sabotage(self, day: datetime) -> bool:
        """Trains a model on delays in seconds and forces it in past the gates; False while a rollout is under way."""
        endpoint = self._client.endpoints.get(ENDPOINT)
        if endpoint.rollout is not None and endpoint.rollout.under_way:
            return False
        until_ms = round((day - timedelta(days=12)).timestamp() * 1_000)
        parameters = {"endpoint": ENDPOINT, "until_ms": until_ms, "sabotage": "seconds"}
        done = self._client.pipelines.run(train_flight_delay.name, parameters, timeout_s=120)
        made = [v for v in self._client.models.versions(MODEL) if v.pipeline_run == done.run.id]
        version = made[0].version
        why = "an operator in a hurry: it looks perfect on its own data"
        try:
            self._client.endpoints.deploy(ENDPOINT, MODEL, version, reason=why, override=True)
        except Conflict:
            return False
        self._say(day, "forced", f"{MODEL} {version} (trained on delays in seconds) is forced in by hand: {why}")
        return True

    def _head(self) -> int:
        newest = self._entries(newest_first=True, limit=1)
        return newest[0].seq if newest else 0

    def _tell(self, day: datetime) -> None:
        while entries := self._entries(after=self._seq, limit=500):
            for entry in entries:
                self._seq = entry.seq
                if text := _in_words(entry):
                    self._say(day, entry.kind, text)

    def _entries(self, **query: Any) -> list[Entry]:
        found = self._client.session.call(
            "GET", path("ledger"), query={"kind": list(TOLD), **query}, expect=Page[Entry]
        )
        return found.items

    def _say(self, day: datetime, kind: str, text: str) -> None:
        self.lines.append(Line(day=f"{day:%d %b}", kind=kind, text=text))
        short = text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
        self._console.print(f"[dim]{day:%d %b}[/]  [{_COLOUR.get(kind, 'default')}]{kind}[/]: {escape(short)}")


def _in_words(entry: Entry) -> str:
    said = entry.data
    match entry.kind:
        case "AlertRaised":
            return f"{said['cause']}: {said['text']}"
        case "AlertResolved":
            return f"{said['cause']}: {said['reason']}"
        case "RetrainingStarted":
            return f"{said['reason']} (champion {said['champion']})"
        case "CandidateCompared":
            return str(said["text"])
        case "RolloutStarted":
            return f"{said['model']} {said['version']} takes {said['share']:.0%} of the requests"
        case "RolloutPromoted":
            return f"{said['model']} {said['version']}: {said['reason']}"
        case "RolledBack":
            return f"{said['model']} {said['version']}: {said['reason']}"
        case "RetrainingEnded" if said["state"] in ("promoted", "rolled_back"):
            return ""  # the rollout said it
        case _:
            return str(said.get("reason", ""))
