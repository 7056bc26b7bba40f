"""The replay: a year's departures as HTTP requests in event-time order, their labels hours later, as arrivals come.

It knows nothing of the platform but its SDK: features are pushed, predictions asked for, labels told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import polars as pl

from salus.client import Client
from salus.kernel.errors import NotFound, SalusError, Unavailable
from salus.kernel.ids import new_id
from salus.kernel.structs import Record
from salus.serving.client import PredictClient
from salus.serving.model.labels import Label

T = TypeVar("T")

ENDPOINT = "flight-delay"
REQUEST_COLUMNS = (
    "carrier", "origin", "dep_delay", "distance", "scheduled_min", "minute_of_day", "weekday", "tailnum",
)  # fmt: skip
WEATHER_VIEW = "weather"

Flight = tuple[int, str, dict[str, Any]]
"""When it left (ms), its id, what is asked about it."""

_THREADS = 8
_LABEL_HOURS = 6
_ONLINE_WAIT_S = 5.0
_RETRY_S = 0.2
_NOT_YET_KNOWN = (Unavailable, NotFound)


class DayOfTraffic(Record):
    """What one day of the replay did."""

    day: datetime
    predictions: int
    labels: int


class Replay:
    """Sends the days of `departures` one after the other.

    `weather` is handed over at the start of each day; the platform's point-in-time lookup gives each request only
    what was observed before it left. A request or label that meets a process that is just being restarted is sent
    again until it is answered: what is not acknowledged was not done.
    """

    def __init__(self, client: Client, departures: pl.DataFrame, weather: pl.DataFrame) -> None:
        self._client = client
        self._predict = PredictClient(client.session)
        self._departures = departures
        self._weather = weather
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="replay")
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.predictions = 0
        self.labels = 0

    def days(self) -> Iterator[DayOfTraffic]:
        """Plays the days, yielding after each."""
        for day in days_of(self._departures["event_time"]):
            yield self._play(day)
        yield self._last_labels()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_error: object) -> None:
        """Sends nothing more: what waits for an answer gives up."""
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def _play(self, day: datetime) -> DayOfTraffic:
        self._push_weather(day)
        sent = labelled = 0
        for part in range(24 // _LABEL_HOURS):
            start = day + timedelta(hours=part * _LABEL_HOURS)
            end = start + timedelta(hours=_LABEL_HOURS)
            rows = _between(self._departures, "event_time", start, end)
            sent += self._ask(rows)
            labelled += self._tell(_between(self._departures, "label_time", start, end))
        self.predictions += sent
        self.labels += labelled
        return DayOfTraffic(day=day, predictions=sent, labels=labelled)

    def _last_labels(self) -> DayOfTraffic:
        last: datetime = self._departures["event_time"].max()  # type: ignore[assignment]
        end = last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        told = self._tell(self._departures.filter(pl.col("label_time") >= end))
        self.labels += told
        return DayOfTraffic(day=end, predictions=0, labels=told)

    def _push_weather(self, day: datetime) -> None:
        rows = _between(self._weather, "event_time", day, day + timedelta(days=1))
        if rows.height:
            key = new_id("req")
            self._until_answered(
                lambda: self._client.features.push(
                    WEATHER_VIEW, rows, wait_online_s=_ONLINE_WAIT_S, idempotency_key=key
                )
            )

    def _ask(self, rows: pl.DataFrame) -> int:
        """One request for all that left in the same minute; several requests are under way at once."""
        times = rows["event_time"].dt.timestamp("ms").to_list()
        flights = zip(times, rows["flight_id"].to_list(), rows.select(REQUEST_COLUMNS).to_dicts(), strict=True)
        minutes = [list(minute) for _, minute in groupby(flights, key=itemgetter(0))]
        parts = [self._pool.submit(self._ask_each, minutes[i::_THREADS]) for i in range(min(_THREADS, len(minutes)))]
        for part in parts:
            part.result()
        return rows.height

    def _ask_each(self, minutes: Sequence[Sequence[Flight]]) -> None:
        ids = {}
        for minute in minutes:
            times, keys, requests = zip(*minute, strict=True)
            answers = self._until_answered(
                partial(self._predict.predict, ENDPOINT, requests, keys=keys, event_ms=times)
            )
            ids.update({key: answer.id for key, answer in zip(keys, answers, strict=True)})
        with self._lock:
            self._ids.update(ids)

    def _tell(self, rows: pl.DataFrame) -> int:
        known = rows.filter(pl.col("flight_id").is_in(list(self._ids)))
        labels = [
            Label(prediction_id=self._ids.pop(key), value=late, event_ms=at_ms)
            for key, late, at_ms in zip(
                known["flight_id"], known["late"], known["label_time"].dt.timestamp("ms"), strict=True
            )
        ]
        if labels:
            # A data plane that was started while the control plane was away is not known there at once.
            self._until_answered(lambda: self._client.endpoints.label(ENDPOINT, labels), _NOT_YET_KNOWN)
        return len(labels)

    def _until_answered(
        self, send: Callable[[], T], passing: tuple[type[SalusError], ...] = (Unavailable,), patience_s: float = 60.0
    ) -> T:
        """What `send` returns; tried again on errors that pass, such as that the other side is away."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return send()
            except passing:
                if time.monotonic() > deadline or self._stopping.wait(_RETRY_S):
                    raise


def days_of(times: pl.Series) -> list[datetime]:
    """The midnights (UTC) of the days in `times`, in order."""
    return [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in times.dt.date().unique().sort().to_list()]


def _between(frame: pl.DataFrame, column: str, start: datetime, end: datetime) -> pl.DataFrame:
    return frame.filter(pl.col(column).is_between(start, end, closed="left"))
