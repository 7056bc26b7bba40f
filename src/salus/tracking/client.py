"""Runs in the SDK: `with salus.run("flight-delay") as run: run.log(loss=0.3)`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import msgspec

from salus.kernel.errors import SalusError, Unavailable
from salus.kernel.ids import new_id
from salus.sdk.outbox import Letter, Outbox
from salus.sdk.session import Session, path
from salus.tracking.capture import ResourceSampler, capture_context
from salus.tracking.model import (
    Artifact,
    Experiment,
    FinishRun,
    LogBatch,
    MetricHistory,
    Point,
    Run,
    RunDetails,
    RunSummary,
    StartRun,
    wire_number,
)
from salus.web.pagination import Page

log = logging.getLogger("salus.tracking")

_encode = msgspec.json.encode
_current: ContextVar[ActiveRun | None] = ContextVar("salus_run", default=None)


class TrackingClient:
    """What a program can do with experiments and runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def experiments(self) -> list[Experiment]:
        """All experiments, newest first."""
        return self._session.call("GET", path("experiments"), expect=list[Experiment])

    def runs(self, experiment: str | None = None, limit: int = 100) -> list[RunSummary]:
        """Runs, newest first."""
        query = {"experiment": experiment, "limit": limit}
        return self._session.call("GET", path("runs"), query=query, expect=Page[RunSummary]).items

    def get(self, run_id: str) -> RunDetails:
        """One run with all that hangs on it."""
        return self._session.call("GET", path("runs", run_id), expect=RunDetails)

    def history(self, run_id: str, key: str, max_points: int | None = None) -> MetricHistory:
        """A metric's curve."""
        return self._session.call(
            "GET",
            path("runs", run_id, "metrics", key),
            query={"max_points": max_points},
            expect=MetricHistory,
        )

    def start(
        self,
        experiment: str = "default",
        *,
        name: str = "",
        parameters: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        inputs: list[str] | None = None,
        parent_run_id: str | None = None,
    ) -> ActiveRun:
        """A run that has begun; end it with `finish`, or use it in a `with`."""
        body = StartRun(
            experiment=experiment,
            name=name,
            parameters=parameters or {},
            tags=tags or {},
            context=capture_context(inputs or []),
            parent_run_id=parent_run_id,
        )
        run = self._session.call("POST", path("runs"), body=body, expect=Run, once=True)
        return ActiveRun(self._session, run)

    def artifact(self, run_id: str, name: str) -> bytes:
        """The bytes of a run's file."""
        return self._session.send("GET", path("runs", run_id, "artifacts", *name.split("/")))

    def current(self) -> ActiveRun:
        """The run whose `with` block we are in. Raises `SalusError` outside one."""
        run = _current.get()
        if run is None:
            raise SalusError("no run is active here", remedy="Open one: with salus.run('experiment') as run: …")
        return run


class ActiveRun:
    """A run under way. Logging takes microseconds: a background thread sends what was logged."""

    def __init__(self, session: Session, run: Run) -> None:
        self._session = session
        self.run = run
        self.id = run.id
        self._steps: dict[str, int] = {}
        self._outbox = Outbox(session, path("runs", run.id, "log"), _pack)
        self._sampler = ResourceSampler(self._log_resource)
        self._began_s = time.perf_counter()
        self._sampler.start()

    @property
    def url(self) -> str:
        """The run's page."""
        return f"{self._session.url}/runs/{self.id}"

    def log(self, metrics: dict[str, float] | None = None, *, step: int | None = None, **more: float) -> None:
        """Logs metric values; without `step`, each metric counts its own from 0."""
        at_ms = time.time_ns() // 1_000_000
        for key, value in {**(metrics or {}), **more}.items():
            at = self._steps.get(key, 0) if step is None else step
            self._steps[key] = at + 1
            self._outbox.put(Point(key=key, value=wire_number(float(value)), step=at, at_ms=at_ms))

    def log_parameters(self, parameters: dict[str, Any] | None = None, **more: Any) -> None:
        """Sets parameters, once each."""
        self._send(LogBatch(parameters={**(parameters or {}), **more}))

    def set_tags(self, tags: dict[str, str] | None = None, **more: str) -> None:
        """Sets tags."""
        self._send(LogBatch(tags={**(tags or {}), **more}))

    def log_artifact(self, name: str, content: bytes | str) -> Artifact:
        """Adds a file to the run."""
        raw = content.encode() if isinstance(content, str) else content
        answer = self._session.upload("PUT", path("runs", self.id, "artifacts", *name.split("/")), raw)
        return msgspec.json.decode(answer, type=Artifact)

    def flush(self) -> None:
        """Returns when all that was logged is with the server, or on disk until it is back."""
        self._outbox.flush()

    def finish(self, state: str = "finished") -> Run:
        """Ends the run as `finished`, `failed` or `killed`.

        While the server is away, this is left on disk behind what was logged; the next run of any program on this
        machine takes it along.
        """
        self._sampler.stop()
        self.log({"system/wall_s": time.perf_counter() - self._began_s}, step=0)
        self._outbox.flush()
        body = msgspec.convert({"state": state, "ended_ms": time.time_ns() // 1_000_000}, FinishRun)
        try:
            self.run = self._end(body)
        except Unavailable as error:
            self._outbox.keep(Letter(path("runs", self.id, "finish"), new_id("log"), msgspec.Raw(_encode(body))))
            log.warning("run %s has ended here; the server will hear of it later: %s", self.id, error)
            self.run = msgspec.structs.replace(self.run, state=body.state, ended_ms=body.ended_ms)
        return self.run

    def __enter__(self) -> ActiveRun:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        if kind is None:
            self.finish()
        else:
            self.finish("killed" if issubclass(kind, KeyboardInterrupt | SystemExit) else "failed")

    def _end(self, body: FinishRun) -> Run:
        if not self._outbox.close():
            raise Unavailable("what was logged last waits on disk")
        return self._session.call("POST", path("runs", self.id, "finish"), body=body, expect=Run)

    def _send(self, batch: LogBatch) -> None:
        self._session.call("POST", path("runs", self.id, "log"), body=batch, once=True)

    def _log_resource(self, values: dict[str, float], step: int) -> None:
        self.log(values, step=step)


def _pack(items: list[object]) -> LogBatch:
    return LogBatch(points=[item for item in items if isinstance(item, Point)])


@contextmanager
def silent() -> Iterator[None]:
    """Inside, no run is the current one."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
