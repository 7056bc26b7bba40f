"""Claims: how workers take jobs, keep them and report what came of them.

A claim holds a job under a lease that heartbeats renew. Each claim raises the job's `epoch`, a fencing
token: a report carries the epoch of its claim, and a report of an older claim writes nothing. Source: M.
Kleppmann, How to do distributed locking, 2016.

A use case that must commit together with the end of a job calls `complete` or `fail` in its own transaction.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from salus.kernel import jobs
from salus.kernel.errors import Conflict
from salus.kernel.jobs import Job, table
from salus.kernel.sql import Ms, Reader, Transaction
from salus.kernel.structs import Record

MAX_LOSSES = 10
"""So many workers may die over a job before it is taken to be what kills them."""
MAX_BACKOFF_S = 3_600.0
LOG_TAIL_CHARS = 16_000


class Progress(Record):
    """How far an attempt is: a share from 0 to 1, a word about it, the end of what it printed."""

    ratio: float | None = None
    text: str | None = None
    log_tail: str | None = None


class Pulse(Record):
    """The answer to a heartbeat: until when the lease runs, and whether the work is to be given up."""

    lease_until_ms: int
    cancel: bool


class Settled(Record):
    """A job after a report; `first` is False when the same report had been recorded before."""

    job: Job
    first: bool


def any_due(reader: Reader, workspace: str, *, kinds: Sequence[str] = (), queues: Sequence[str] = ("default",)) -> bool:
    """Whether a claim would find something: asks without waiting for the writer."""
    return reader.row(_due(reader, workspace, kinds, queues).limit(1)) is not None


def _due(reader: Reader, workspace: str, kinds: Sequence[str], queues: Sequence[str]) -> sa.Select[Any]:
    """Queued jobs whose time has come and whose concurrency key has room, first things first."""
    busy = (
        sa.select(table.c.concurrency_key, sa.func.count().label("running"))
        .where(table.c.state == "running", table.c.workspace == workspace, table.c.concurrency_key.is_not(None))
        .group_by(table.c.concurrency_key)
        .subquery()
    )
    query = (
        sa.select(table.c.id, table.c.concurrency_key, table.c.concurrency_limit, busy.c.running)
        .select_from(table.outerjoin(busy, busy.c.concurrency_key == table.c.concurrency_key))
        .where(
            table.c.state == "queued",
            table.c.workspace == workspace,
            table.c.queue.in_(queues),
            table.c.run_at_ms <= reader.now_ms,
            sa.or_(
                table.c.concurrency_key.is_(None),
                sa.func.coalesce(busy.c.running, 0) < table.c.concurrency_limit,
            ),
        )
        .order_by(table.c.priority.desc(), table.c.run_at_ms, table.c.id)
    )
    return query.where(table.c.kind.in_(kinds)) if kinds else query


def claim(
    tx: Transaction,
    owner: str,
    *,
    workspace: str = "default",
    kinds: Sequence[str] = (),
    queues: Sequence[str] = ("default",),
    limit: int = 1,
    lease_s: float | None = None,
) -> list[Job]:
    """Hands out at most `limit` due jobs to `owner`, each under a lease of its `lease_s` (or the one given).

    No job is handed out twice at a time, and no concurrency limit is passed, however many claim at once:
    claims are writes, and the Database runs one write at a time.
    """
    claimed: list[Job] = []
    while len(claimed) < limit:
        chosen = _admit(tx, workspace, kinds, queues, limit - len(claimed))
        if not chosen:
            break
        tx.execute(
            sa.update(table)
            .where(table.c.id.in_(chosen))
            .values(
                state="running",
                epoch=table.c.epoch + 1,
                owner=owner,
                lease_s=table.c.lease_s if lease_s is None else lease_s,
                lease_until_ms=tx.now_ms
                + sa.cast((table.c.lease_s if lease_s is None else sa.literal(lease_s)) * 1000, Ms),
                started_ms=sa.func.coalesce(table.c.started_ms, tx.now_ms),
                progress_ratio=None,
                progress_text=None,
                log_tail=None,
            )
        )
        found = {job.id: job for job in tx.records(Job, sa.select(table).where(table.c.id.in_(chosen)))}
        claimed.extend(found[job_id] for job_id in chosen)
    return claimed


def _admit(tx: Transaction, workspace: str, kinds: Sequence[str], queues: Sequence[str], limit: int) -> list[str]:
    """Ids of the first due jobs that fit beside each other; the first candidate always does."""
    chosen: list[str] = []
    joining: Counter[str] = Counter()
    for row in tx.rows(_due(tx, workspace, kinds, queues).limit(limit)):
        key = row["concurrency_key"]
        if key is not None:
            if (row["running"] or 0) + joining[key] >= row["concurrency_limit"]:
                continue
            joining[key] += 1
        chosen.append(row["id"])
    return chosen


def heartbeat(tx: Transaction, job_id: str, epoch: int, progress: Progress | None = None) -> Pulse:
    """Renews the lease, and notes how far the work is.

    Raises:
        Conflict: the lease was lost; the work must be given up.
    """
    job = _held(tx, job_id, epoch)
    lease_until_ms = tx.now_ms + round(job.lease_s * 1000)
    jobs.change(tx, job, lease_until_ms=lease_until_ms, **_told(progress))
    return Pulse(lease_until_ms=lease_until_ms, cancel=job.cancel_requested)


def complete(tx: Transaction, job_id: str, epoch: int, result: Any, progress: Progress | None = None) -> Settled:
    """Records the result, once: the same report again changes nothing and says so (`first` is False).

    Raises:
        Conflict: the claim `epoch` no longer holds the job; nothing is written.
    """
    job = jobs.get(tx, job_id)
    if job.state == "succeeded" and job.epoch == epoch:
        return Settled(job=job, first=False)
    job = _held(tx, job_id, epoch)
    return Settled(job=jobs.end(tx, job, "succeeded", result=result, **_told(progress)), first=True)


def fail(
    tx: Transaction,
    job_id: str,
    epoch: int,
    error: str,
    *,
    retry: bool = True,
    progress: Progress | None = None,
) -> Settled:
    """Records a failed attempt: another one is due after the back-off, or the job is dead.

    A job whose cancellation was asked for is `cancelled` by it. The same report again changes nothing.

    Raises:
        Conflict: the claim `epoch` no longer holds the job; nothing is written.
    """
    job = jobs.get(tx, job_id)
    if job.state != "running" and job.state != "succeeded" and job.epoch == epoch and job.error == error:
        return Settled(job=job, first=False)
    job = _held(tx, job_id, epoch)
    told = _told(progress)
    if job.cancel_requested:
        return Settled(job=jobs.end(tx, job, "cancelled", error=error, **told), first=True)
    failures = job.failures + 1
    if not retry or failures >= job.max_attempts:
        return Settled(job=jobs.end(tx, job, "failed", error=error, failures=failures, **told), first=True)
    wait_ms = round(1000 * backoff_s(job.id, failures, job.backoff_s))
    return Settled(
        job=jobs.requeue(tx, job, run_at_ms=tx.now_ms + wait_ms, failures=failures, error=error, **told),
        first=True,
    )


def release(tx: Transaction, job_id: str, epoch: int) -> Job:
    """Gives a claimed job back unharmed (a worker that is told to stop): due at once, no failure counted."""
    job = _held(tx, job_id, epoch)
    if job.cancel_requested:
        return jobs.end(tx, job, "cancelled", error="cancelled")
    return jobs.requeue(tx, job)


def sweep(tx: Transaction, *, workspace: str | None = None, limit: int = 500) -> list[Job]:
    """Takes jobs from workers that went silent: due again at once, or over; returns them as they are now."""
    query = sa.select(table).where(table.c.state == "running", table.c.lease_until_ms < tx.now_ms)
    if workspace is not None:
        query = query.where(table.c.workspace == workspace)
    return [_lose(tx, job) for job in tx.records(Job, query.order_by(table.c.lease_until_ms).limit(limit))]


def any_lost(reader: Reader) -> bool:
    """Whether `sweep` would find something: asks without waiting for the writer."""
    query = sa.select(table.c.id).where(table.c.state == "running", table.c.lease_until_ms < reader.now_ms)
    return reader.row(query.limit(1)) is not None


def _lose(tx: Transaction, job: Job) -> Job:
    losses = job.losses + 1
    error = f"worker {job.owner} went silent (attempt {job.epoch}, loss {losses} of {MAX_LOSSES})"
    if job.cancel_requested:
        return jobs.end(tx, job, "cancelled", error="cancelled", losses=losses)
    if losses >= MAX_LOSSES:
        return jobs.end(tx, job, "failed", error=error, losses=losses)
    return jobs.requeue(tx, job, losses=losses, error=error)


def backoff_s(job_id: str, failures: int, base_s: float) -> float:
    """The wait after the n-th failure: `base_s * 2**(n-1)`, at most an hour, times a factor in [0.5, 1).

    Only the job and `failures` decide the factor; jobs that failed together do not come back together.

    Source: M. Brooker, Exponential backoff and jitter, AWS Architecture Blog 2015 ("equal jitter").

    >>> 2.0 <= backoff_s("job_a", 3, 1.0) < 4.0
    True
    """
    full_s = min(MAX_BACKOFF_S, base_s * 2.0 ** min(failures - 1, 1_000))
    seed = hashlib.sha256(f"{job_id}:{failures}".encode()).digest()
    return full_s * (0.5 + int.from_bytes(seed[:6], "big") / 2**49)


def _held(tx: Transaction, job_id: str, epoch: int) -> Job:
    job = jobs.get(tx, job_id)
    if job.state != "running" or job.epoch != epoch:
        raise Conflict(
            f"claim {epoch} no longer holds {job_id}: it is {job.state}, its latest claim is {job.epoch}",
            path="$.epoch",
            remedy="Give the work up; whoever holds the job now reports for it.",
        )
    return job


def _told(progress: Progress | None) -> dict[str, Any]:
    if progress is None:
        return {}
    told = {
        "progress_ratio": progress.ratio,
        "progress_text": progress.text,
        "log_tail": None if progress.log_tail is None else progress.log_tail[-LOG_TAIL_CHARS:],
    }
    return {name: value for name, value in told.items() if value is not None}
