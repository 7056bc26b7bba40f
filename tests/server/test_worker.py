"""The worker against a server and an executor that are played: reports, lost leases, cancellation, stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from salus.kernel.claims import Pulse
from salus.kernel.errors import Conflict, InvalidInput, SalusError, Unavailable
from salus.kernel.jobs import Job
from salus.kernel.ports import Handle, Outcome, Task
from salus.pipelines.model import STEP_JOB
from salus.sdk.session import Session
from salus.server.worker import Worker


def job(job_id: str = "job_1", kind: str = STEP_JOB, **changes: Any) -> Job:
    made = Job(
        id=job_id,
        workspace="default",
        kind=kind,
        queue="default",
        state="running",
        priority=0,
        run_at_ms=0,
        payload={"step": "a"},
        max_attempts=1,
        backoff_s=1.0,
        lease_s=15.0,
        created_ms=0,
        epoch=3,
    )
    return msgspec.structs.replace(made, **changes)


class PlayedServer(Session):
    """Gives its jobs out once; notes what it is told; answers a verb with its error as often as it is listed."""

    def __init__(self, jobs: list[Job], errors: dict[str, list[SalusError]] | None = None) -> None:
        super().__init__()
        self.jobs = jobs
        self.errors = errors or {}
        self.cancel = False
        self.told: list[tuple[str, Any]] = []

    def call(self, method: str, path: str, *, expect: Any = None, body: Any = None, **_: Any) -> Any:
        verb = path.rpartition("/")[2]
        if verb == "claim":
            given, self.jobs = self.jobs[: body.limit], self.jobs[body.limit :]
            if not given:
                time.sleep(0.02)
            return given
        self.told.append((verb, body))
        if self.errors.get(verb):
            raise self.errors[verb].pop(0)
        return Pulse(lease_until_ms=0, cancel=self.cancel) if verb == "heartbeat" else None

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.told if verb != "heartbeat"]


class PlayedHandle:
    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.cancelled = threading.Event()

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        if self.outcome is not None:
            return self.outcome
        self.cancelled.wait(timeout_s)
        return Outcome(ok=False, error="cancelled", logs="so far") if self.cancelled.is_set() else None

    def cancel(self) -> None:
        self.cancelled.set()


class PlayedExecutor:
    """Every task has this outcome; None goes on until it is cancelled."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.tasks: list[Task] = []
        self.handles: list[PlayedHandle] = []

    def submit(self, task: Task) -> Handle:
        self.tasks.append(task)
        self.handles.append(PlayedHandle(self.outcome))
        return self.handles[-1]

    def close(self) -> None:
        return


def work(server: PlayedServer, executor: PlayedExecutor, done: Callable[[], bool], **options: Any) -> Worker:
    """Runs a worker until `done`, then tells it to stop and waits for its end."""
    worker = Worker(server, executor, project=".", **{"grace_s": 0.2, "lease_s": 0.3, **options})
    thread = threading.Thread(target=worker.run)
    thread.start()
    end_s = time.monotonic() + 10
    while not done() and time.monotonic() < end_s:
        time.sleep(0.01)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert done()
    return worker


DONE = Outcome(ok=True, result={"outputs": {}}, cpu_s=0.5, peak_memory_bytes=9, logs="printed")


def test_a_result_is_reported_with_what_it_cost_and_printed() -> None:
    server = PlayedServer([job()])
    work(server, PlayedExecutor(DONE), lambda: bool(server.verbs()))
    ((verb, body),) = [told for told in server.told if told[0] != "heartbeat"]
    assert (verb, body.epoch, body.progress.log_tail) == ("complete", 3, "printed")
    assert body.result == {"outputs": {}, "cpu_s": 0.5, "peak_memory_bytes": 9}


def test_a_report_is_sent_until_the_server_has_it() -> None:
    errors: dict[str, list[SalusError]] = {"complete": [Unavailable("away"), Unavailable("away")]}
    server = PlayedServer([job()], errors)
    work(server, PlayedExecutor(DONE), lambda: len(server.verbs()) == 3)
    assert server.verbs() == ["complete"] * 3


def test_a_report_that_comes_too_late_is_dropped() -> None:
    server = PlayedServer([job()], {"complete": [Conflict("claim 3 no longer holds it")]})
    work(server, PlayedExecutor(DONE), lambda: server.verbs() == ["complete"])
    assert server.verbs() == ["complete"]


def test_a_result_that_the_server_refuses_fails_the_job_for_good() -> None:
    server = PlayedServer([job()], {"complete": [InvalidInput("outputs are wrong")]})
    work(server, PlayedExecutor(DONE), lambda: len(server.verbs()) == 2)
    verb, body = server.told[-1]
    assert (verb, body.retry) == ("fail", False)
    assert "outputs are wrong" in body.error


def test_an_error_is_reported_with_its_traceback() -> None:
    server = PlayedServer([job()])
    failed = Outcome(ok=False, error="ValueError: x", traceback="line 3", logs="printed")
    work(server, PlayedExecutor(failed), lambda: bool(server.verbs()))
    verb, body = server.told[-1]
    assert (verb, body.error, body.traceback, body.retry) == ("fail", "ValueError: x", "line 3", True)


def test_a_refused_step_is_not_tried_again() -> None:
    server = PlayedServer([job()])
    work(server, PlayedExecutor(Outcome(ok=True, result={"refused": "code moved on"})), lambda: bool(server.verbs()))
    verb, body = server.told[-1]
    assert (verb, body.error, body.retry) == ("fail", "code moved on", False)


def test_a_cancelled_job_is_ended_and_reported() -> None:
    server = PlayedServer([job()])
    server.cancel = True
    executor = PlayedExecutor(None)
    work(server, executor, lambda: server.verbs() == ["fail"])
    assert executor.handles[0].cancelled.is_set()
    assert server.told[-1][1].progress.log_tail == "so far"


def test_a_job_whose_lease_was_lost_is_ended_and_not_reported() -> None:
    server = PlayedServer([job()], {"heartbeat": [Conflict("taken over")]})
    executor = PlayedExecutor(None)
    work(server, executor, lambda: bool(executor.handles) and executor.handles[0].cancelled.is_set())
    assert server.verbs() == []


def test_a_heartbeat_that_does_not_arrive_ends_nothing() -> None:
    server = PlayedServer([job()], {"heartbeat": [Unavailable("away")] * 3})
    executor = PlayedExecutor(None)
    work(server, executor, lambda: len(server.told) >= 4, lease_s=0.1)
    assert [verb for verb, _ in server.told[:4]] == ["heartbeat"] * 4


def test_a_worker_that_stops_gives_back_what_it_cannot_finish() -> None:
    server = PlayedServer([job()])
    executor = PlayedExecutor(None)
    work(server, executor, lambda: bool(executor.handles))
    assert server.verbs() == ["release"]
    assert executor.handles[0].cancelled.is_set()


def test_no_more_jobs_run_at_once_than_allowed() -> None:
    server = PlayedServer([job(f"job_{n}") for n in range(5)])
    executor = PlayedExecutor(None)
    work(server, executor, lambda: len(executor.handles) == 2, concurrency=2)
    assert len(executor.handles) == 2
    assert len(server.jobs) == 3


def test_a_built_in_kind_runs_its_function() -> None:
    server = PlayedServer([job(kind="compare")])
    executor = PlayedExecutor(Outcome(ok=True, result={"better": True}))
    work(server, executor, lambda: bool(server.verbs()), kinds={"compare": "somewhere:compare"})
    (task,) = executor.tasks
    assert task.function == "salus.pipelines.execution:run_job"
    assert task.arguments["function"] == "somewhere:compare"
    assert server.told[-1][1].result == {"better": True}
