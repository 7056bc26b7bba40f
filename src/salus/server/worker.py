"""The worker: takes jobs from the control plane over HTTP and runs them in child processes.

The worker itself runs no code of the project. It keeps its jobs by heartbeats, ends the process of a job that was
cancelled or taken over, and sends its reports until the server has them, or says that the job is no longer its own.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from salus.kernel.claims import Progress, Pulse
from salus.kernel.errors import Conflict, NotFound, SalusError
from salus.kernel.ids import new_id
from salus.kernel.jobs import Job
from salus.kernel.ports import Executor, Handle, Outcome, Task
from salus.pipelines.model import STEP_JOB
from salus.pipelines.work import Beat, ClaimJobs, CompleteJob, FailJob, ReleaseJob
from salus.sdk.session import Session, path

log = logging.getLogger("salus.worker")

KINDS: dict[str, str] = {"compare_candidate": "salus.retraining.compare:compare_candidate"}
"""Built-in kinds of jobs: kind -> `module:function`, called as `function(payload, session)` in a child process."""

_CLAIM_WAIT_S = 2.0
_AWAY_PAUSE_S = 1.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.2, 5.0


class Worker:
    """Runs at most `concurrency` jobs at once, until `stop`.

    Args:
        project: the folder with the code of the steps.
        lease_s: a job goes to another worker when this one was silent for so long.
        grace_s: how long jobs under way may go on after `stop`; then they are given back.
        kinds: what it runs beside pipeline steps.
    """

    def __init__(
        self,
        session: Session,
        executor: Executor,
        *,
        project: str,
        concurrency: int = 1,
        lease_s: float = 15.0,
        grace_s: float = 3.0,
        kinds: Mapping[str, str] = KINDS,
    ) -> None:
        self.name = f"{socket.gethostname()[:60]}-{os.getpid()}-{new_id('wrk')[-6:]}"
        self._session = session
        self._executor = executor
        self._project = os.path.abspath(project)
        self._free = threading.Semaphore(concurrency)
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._kinds = dict(kinds)
        self._stopping = threading.Event()
        self._stop_by_s = float("inf")
        self._attending: set[threading.Thread] = set()

    def run(self) -> None:
        """Works until `stop` was called and the jobs under way are done or given back."""
        log.info("%s works for %s on %s", self.name, self._session.url, self._project)
        while not self._stopping.is_set():
            slots = self._take_slots()
            claimed = self._claim(slots) if slots and not self._stopping.is_set() else []
            for _ in range(slots - len(claimed)):
                self._free.release()
            for job in claimed:
                thread = threading.Thread(target=self._attend, args=(job,), name=f"job-{job.id}")
                self._attending.add(thread)
                thread.start()
        for thread in list(self._attending):
            thread.join()

    def stop(self) -> None:
        """Takes no more jobs, and ends within about `grace_s`."""
        self._stop_by_s = time.monotonic() + self._grace_s
        self._stopping.set()

    def _take_slots(self) -> int:
        """Waits for a free slot, a moment at most, and takes all there are."""
        if not self._free.acquire(timeout=_CLAIM_WAIT_S):
            return 0
        slots = 1
        while slots < self._concurrency and self._free.acquire(blocking=False):
            slots += 1
        return slots

    def _claim(self, limit: int) -> list[Job]:
        body = ClaimJobs(
            worker=self.name,
            kinds=(STEP_JOB, *self._kinds),
            limit=limit,
            wait_s=_CLAIM_WAIT_S,
            lease_s=self._lease_s,
        )
        try:
            return self._session.call(
                "POST", path("jobs", "claim"), body=body, expect=list[Job], timeout_s=_CLAIM_WAIT_S + 10
            )
        except SalusError as error:
            log.warning("no jobs from %s: %s", self._session.url, error)
            self._stopping.wait(_AWAY_PAUSE_S)
            return []

    def _attend(self, job: Job) -> None:
        try:
            self._work(job)
        except Exception:  # the outer loop of a job: the worker must outlive it
            log.exception("%s was left to others", job.id)
        finally:
            self._attending.discard(threading.current_thread())
            self._free.release()

    def _work(self, job: Job) -> None:
        if self._stopping.is_set():
            self._send(job, "release", ReleaseJob(epoch=job.epoch))
            return
        handle = self._executor.submit(self._task(job))
        beat_at_s = time.monotonic() + self._lease_s / 3
        while (outcome := handle.wait(min(0.25, max(0.0, beat_at_s - time.monotonic())))) is None:
            if time.monotonic() > self._stop_by_s:
                self._give_back(job, handle)
                return
            if time.monotonic() < beat_at_s:
                continue
            beat_at_s = time.monotonic() + self._lease_s / 3
            if not self._keep(job, handle):
                return
        self._report(job, outcome)

    def _task(self, job: Job) -> Task:
        arguments: dict[str, Any] = {"job": job.id, "epoch": job.epoch, "project": self._project}
        if job.kind == STEP_JOB:
            function = "salus.pipelines.execution:run_step"
            arguments["task"] = job.payload
        else:
            function = "salus.pipelines.execution:run_job"
            arguments |= {"function": self._kinds[job.kind], "payload": job.payload}
        return Task(function=function, arguments=arguments, timeout_s=job.timeout_s)

    def _keep(self, job: Job, handle: Handle) -> bool:
        """Renews the lease; False when the work is over because the job is not ours any more, or cancelled."""
        try:
            pulse = self._session.call(
                "POST",
                path("jobs", job.id, "heartbeat"),
                body=Beat(epoch=job.epoch),
                expect=Pulse,
                timeout_s=max(1.0, self._lease_s / 3),
            )
        except (Conflict, NotFound) as error:
            log.warning("%s is lost: %s", job.id, error)
            _end(handle)
            return False
        except SalusError as error:
            log.warning("no heartbeat for %s: %s", job.id, error)
            return True
        if not pulse.cancel:
            return True
        outcome = _end(handle)
        body = FailJob(epoch=job.epoch, error="cancelled", progress=Progress(log_tail=outcome.logs or None))
        self._send(job, "fail", body)
        return False

    def _give_back(self, job: Job, handle: Handle) -> None:
        _end(handle)
        self._send(job, "release", ReleaseJob(epoch=job.epoch))

    def _report(self, job: Job, outcome: Outcome) -> None:
        progress = Progress(log_tail=outcome.logs or None)
        if not outcome.ok:
            self._send(job, "fail", _failure(job, outcome.error, outcome, progress))
            return
        result = outcome.result
        if job.kind == STEP_JOB and (refused := result.get("refused")) is not None:
            self._send(job, "fail", _failure(job, refused, outcome, progress, retry=False))
            return
        if job.kind == STEP_JOB:
            result = {**result, "cpu_s": outcome.cpu_s, "peak_memory_bytes": outcome.peak_memory_bytes}
        refusal = self._send(job, "complete", CompleteJob(epoch=job.epoch, result=result, progress=progress))
        if refusal is not None:
            self._send(job, "fail", _failure(job, str(refusal), outcome, progress, retry=False))

    def _send(self, job: Job, verb: str, body: Any) -> SalusError | None:
        """Sends a report until the server has it, or the job is not ours any more; gives the server's refusal.

        A worker that stops sends it for `grace_s` more; then the lease runs out, and another one takes over.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._session.call("POST", path("jobs", job.id, verb), body=body, timeout_s=10.0)
                return None
            except (Conflict, NotFound) as error:
                log.warning("%s of %s came too late: %s", verb, job.id, error)
                return None
            except SalusError as error:
                if 400 <= error.status < 500 and error.status != 429:
                    log.error("%s of %s was refused: %s", verb, job.id, error)
                    return error
                log.warning("%s of %s must wait: %s", verb, job.id, error)
            if time.monotonic() > self._stop_by_s + self._grace_s:
                return None
            time.sleep(pause_s)
            pause_s = min(_LAST_PAUSE_S, 2 * pause_s)


def _end(handle: Handle) -> Outcome:
    handle.cancel()
    outcome = handle.wait(10.0)
    return outcome or Outcome(ok=False, error="the task could not be ended in 10 s")


def _failure(job: Job, error: str, outcome: Outcome, progress: Progress, *, retry: bool = True) -> FailJob:
    return FailJob(
        epoch=job.epoch,
        error=error,
        traceback=_tail(outcome.traceback, 8_000),
        retry=retry,
        progress=progress,
    )


def _tail(text: str, chars: int) -> str:
    return text if len(text) <= chars else "…" + text[-chars:]
