"""What workers do: take jobs, keep them, report. The end of a step's job is also the end of the step."""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel import claims, jobs
from salus.kernel.claims import Progress, Pulse, Settled
from salus.kernel.errors import InvalidInput
from salus.kernel.identity import Actor, system
from salus.kernel.jobs import Job
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Value, invalid
from salus.pipelines import progression, store
from salus.pipelines.graph import StepTask
from salus.pipelines.model import STEP_JOB, PipelineRun, StepResult, StepRun
from salus.pipelines.service import get_run

MAX_CLAIM = 64
MAX_WAIT_S = 30.0
_TEXT_CHARS = 8_000


class ClaimJobs(Value):
    """A worker's wish for work: at most `limit` jobs of `kinds` (all, if empty), each under a lease of
    `lease_s`.

    The answer comes when there is some, or empty after `wait_s`.
    """

    worker: str
    kinds: tuple[str, ...] = ()
    queues: tuple[str, ...] = ("default",)
    limit: int = 1
    wait_s: float = 0.0
    lease_s: float = 30.0


class Beat(Value):
    """A sign of life from whoever holds the claim `epoch`, and how far the work is."""

    epoch: int
    progress: Progress = Progress()


class CompleteJob(Value):
    """A job's result, from whoever holds the claim `epoch`."""

    epoch: int
    result: Any = None
    progress: Progress = Progress()


class FailJob(Value):
    """An attempt that failed, from whoever held the claim `epoch`; `retry` is False where trying again is
    vain."""

    epoch: int
    error: str
    traceback: str = ""
    retry: bool = True
    progress: Progress = Progress()


class ReleaseJob(Value):
    """A job given back unharmed by whoever holds the claim `epoch`."""

    epoch: int


def any_due(reader: Reader, actor: Actor, body: ClaimJobs) -> bool:
    """Whether a claim would find something. Raises `InvalidInput` where the claim would."""
    _check(body)
    return claims.any_due(reader, actor.workspace, kinds=body.kinds, queues=body.queues)


def _check(body: ClaimJobs) -> None:
    laws = (
        (1 <= body.limit <= MAX_CLAIM, "limit", f"1 to {MAX_CLAIM}", body.limit),
        (0 <= body.wait_s <= MAX_WAIT_S, "wait_s", f"0 to {MAX_WAIT_S:g}", body.wait_s),
        (1 <= body.lease_s <= 3_600, "lease_s", "1 to 3600", body.lease_s),
        (1 <= len(body.worker) <= 255, "worker", "a name of 1 to 255 characters", body.worker),
    )
    for holds, name, law, value in laws:
        if not holds:
            raise InvalidInput(f"{name} must be {law}, got {value!r}", path=f"$.{name}")


def claim(tx: Transaction, actor: Actor, body: ClaimJobs) -> list[Job]:
    """Hands out due jobs of the actor's workspace. Raises `InvalidInput`."""
    _check(body)
    return claims.claim(
        tx,
        body.worker,
        workspace=actor.workspace,
        kinds=body.kinds,
        queues=body.queues,
        limit=body.limit,
        lease_s=body.lease_s,
    )


def list_jobs(reader: Reader, actor: Actor, *, before: str | None = None, limit: int = 100) -> list[Job]:
    """Jobs, newest first."""
    return jobs.recent(reader, actor.workspace, before=before, limit=limit)


def beat(tx: Transaction, actor: Actor, job_id: str, body: Beat) -> Pulse:
    """Renews a lease. Raises `Conflict` when it was lost."""
    jobs.get(tx, job_id, actor.workspace)
    return claims.heartbeat(tx, job_id, body.epoch, body.progress)


def release(tx: Transaction, actor: Actor, job_id: str, body: ReleaseJob) -> Job:
    """Takes a job back from a worker that stops; a job whose cancellation was asked for is over."""
    jobs.get(tx, job_id, actor.workspace)
    job = claims.release(tx, job_id, body.epoch)
    _follow(tx, actor, job)
    return job


def complete(tx: Transaction, actor: Actor, job_id: str, body: CompleteJob) -> Job:
    """Records a result, once, and what follows from it."""
    job = jobs.get(tx, job_id, actor.workspace)
    result = _step_result(job, body.result) if job.kind == STEP_JOB else body.result
    settled = claims.complete(tx, job_id, body.epoch, result, body.progress)
    if settled.first and isinstance(result, StepResult):
        _finish_step(tx, actor, settled.job, result)
    return settled.job


def fail(tx: Transaction, actor: Actor, job_id: str, body: FailJob) -> Job:
    """Records a failed attempt; when it was the last, the step fails, and the run with it."""
    jobs.get(tx, job_id, actor.workspace)
    error = body.error[:_TEXT_CHARS]
    settled: Settled = claims.fail(tx, job_id, body.epoch, error, retry=body.retry, progress=body.progress)
    if settled.first:
        _follow(tx, actor, settled.job, body.traceback[-_TEXT_CHARS:] or None)
    return settled.job


def sweep(tx: Transaction) -> list[Job]:
    """Takes the jobs of silent workers back, in all workspaces; a step whose job is over by that is over
    too."""
    lost = claims.sweep(tx)
    for job in lost:
        _follow(tx, system("scheduler", job.workspace), job)
    return lost


def _step_result(job: Job, result: Any) -> StepResult:
    try:
        given = msgspec.convert(result, StepResult)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    task = msgspec.convert(job.payload, StepTask)
    if set(given.outputs) != set(task.outputs):
        raise InvalidInput(
            f"the step {task.step} gives {', '.join(task.outputs)}; got {', '.join(given.outputs) or 'nothing'}",
            path="$.result.outputs",
        )
    return given


def _of_job(tx: Transaction, actor: Actor, job: Job) -> tuple[PipelineRun, StepRun] | None:
    """The run and step that wait for `job`; None when they no longer do (the run was resumed without it)."""
    task = msgspec.convert(job.payload, StepTask)
    for step in store.steps_of(tx, task.run):
        if step.step == task.step and step.job_id == job.id:
            return get_run(tx, actor, task.run), step
    return None


def _finish_step(tx: Transaction, actor: Actor, job: Job, result: StepResult) -> None:
    found = _of_job(tx, actor, job)
    if found is None:
        return
    run, step = found
    node = next(node for node in run.graph.steps if node.name == step.step)
    if node.cache and step.key is not None:
        store.keep_result(tx, run.workspace, step.key, step, result.outputs)
    progression.end_step(
        tx,
        actor,
        run,
        step,
        "succeeded",
        outputs=result.outputs,
        attempts=job.epoch,
        cpu_s=result.cpu_s,
        peak_memory_bytes=result.peak_memory_bytes,
        error=None,
    )
    if run.state == "running":
        progression.advance(tx, actor, run)


def _follow(tx: Transaction, actor: Actor, job: Job, traceback: str | None = None) -> None:
    """What the end of a step's job without a result means for its step and run."""
    if job.kind != STEP_JOB or not job.over:
        return
    found = _of_job(tx, actor, job)
    if found is None:
        return
    run, step = found
    cancelled = job.state == "cancelled"
    progression.end_step(
        tx,
        actor,
        run,
        step,
        "cancelled" if cancelled else "failed",
        attempts=job.epoch,
        error=job.error,
        traceback=traceback,
    )
    if run.state == "running" and not cancelled:
        progression.halt(tx, store.steps_of(tx, run.id), running_too=False)
        progression.end_run(tx, actor, run, "failed", f"step {step.step}: {job.error}")
