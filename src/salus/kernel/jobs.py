"""Jobs: durable work on the Database, with no service beside it.

A job is `queued` until a worker claims it (`salus.kernel.claims`), then `running`, then `succeeded`,
`failed` or `cancelled`. It is put into the queue in the transaction of the use case that wants it done.
"""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from salus.kernel.errors import Conflict, InvalidInput
from salus.kernel.identity import Actor, system
from salus.kernel.ids import new_id
from salus.kernel.sql import Event, Id, Json, Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record, canonical_json

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


table = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("workspace", Name, nullable=False),
    sa.Column("kind", Name, nullable=False),
    sa.Column("queue", Name, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("run_at_ms", Ms, nullable=False),
    sa.Column("payload", Json()),
    sa.Column("result", Json()),
    sa.Column("error", sa.Text),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("backoff_s", sa.Float, nullable=False),
    sa.Column("timeout_s", sa.Float),
    sa.Column("lease_s", sa.Float, nullable=False),
    sa.Column("owner", Name),
    sa.Column("lease_until_ms", Ms),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("idempotency_key", Name),
    sa.Column("concurrency_key", Name),
    sa.Column("concurrency_limit", sa.Integer),
    sa.Column("announce", sa.Boolean, nullable=False),
    sa.Column("progress_ratio", sa.Float),
    sa.Column("progress_text", sa.Text),
    sa.Column("log_tail", sa.Text),
    sa.Column("created_ms", Ms, nullable=False),
    sa.Column("started_ms", Ms),
    sa.Column("finished_ms", Ms),
    sa.UniqueConstraint("workspace", "kind", "idempotency_key"),
    sa.Index("ix_jobs_claim", "state", "workspace", "queue", sa.desc("priority"), "run_at_ms", "id"),
    sa.Index("ix_jobs_lease", "state", "lease_until_ms"),
    sa.Index("ix_jobs_recent", "workspace", "kind", "id"),
)


class Job(Record):
    """One piece of durable work.

    `epoch` counts the claims; `failures` those that ended with a reported error, `losses` those whose
    worker went silent. The job is dead after `max_attempts` failures or `claims.MAX_LOSSES` losses.
    `timeout_s` bounds one attempt.
    """

    id: str
    workspace: str
    kind: str
    queue: str
    state: JobState
    priority: int
    run_at_ms: int
    payload: Any
    max_attempts: int
    backoff_s: float
    lease_s: float
    created_ms: int
    result: Any = None
    error: str | None = None
    epoch: int = 0
    failures: int = 0
    losses: int = 0
    timeout_s: float | None = None
    owner: str | None = None
    lease_until_ms: int | None = None
    cancel_requested: bool = False
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    announce: bool = True
    progress_ratio: float | None = None
    progress_text: str | None = None
    log_tail: str | None = None
    started_ms: int | None = None
    finished_ms: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("succeeded", "failed", "cancelled")


class JobFinished(Event):
    """A job reached its end: `succeeded`, `failed` (no attempts left) or `cancelled`."""

    job: str
    job_kind: str
    state: JobState
    error: str | None = None


def enqueue(
    tx: Transaction,
    kind: str,
    payload: Any,
    *,
    workspace: str = "default",
    queue: str = "default",
    priority: int = 0,
    run_at_ms: int | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
    concurrency_limit: int | None = None,
    max_attempts: int = 3,
    backoff_s: float = 1.0,
    timeout_s: float | None = None,
    lease_s: float = 30.0,
    announce: bool = True,
) -> Job:
    """Puts work of `kind` into the queue; it is there if and only if the transaction commits.

    Args:
        priority: higher goes first; among equals the one that has been due longest.
        run_at_ms: not before then.
        idempotency_key: a second call with it (same workspace and kind) gives the first job and adds none.
        concurrency_key: at most `concurrency_limit` jobs with this key run at once in the workspace.
        max_attempts: failures after which the job is dead.
        backoff_s: wait before the second attempt; it doubles with each further one, to at most an hour.
        announce: whether its end is an event `JobFinished` (no, where the caller's own event says it).

    Raises:
        Conflict: `idempotency_key` was used for another payload.
        InvalidInput: an argument is out of its range.
    """
    _check(max_attempts, backoff_s, timeout_s, lease_s, concurrency_key, concurrency_limit)
    if idempotency_key is not None:
        known = _by_key(tx, workspace, kind, idempotency_key)
        if known is not None:
            return _same(known, payload)
    job = Job(
        id=new_id("job"),
        workspace=workspace,
        kind=kind,
        queue=queue,
        state="queued",
        priority=priority,
        run_at_ms=tx.now_ms if run_at_ms is None else run_at_ms,
        payload=payload,
        max_attempts=max_attempts,
        backoff_s=backoff_s,
        timeout_s=timeout_s,
        lease_s=lease_s,
        idempotency_key=idempotency_key,
        concurrency_key=concurrency_key,
        concurrency_limit=concurrency_limit,
        announce=announce,
        created_ms=tx.now_ms,
    )
    tx.insert(table, job)
    return job


def _check(
    max_attempts: int,
    backoff_s: float,
    timeout_s: float | None,
    lease_s: float,
    concurrency_key: str | None,
    concurrency_limit: int | None,
) -> None:
    laws = (
        (max_attempts >= 1, "max_attempts", "at least 1", max_attempts),
        (backoff_s >= 0, "backoff_s", "at least 0", backoff_s),
        (timeout_s is None or timeout_s > 0, "timeout_s", "positive", timeout_s),
        (lease_s > 0, "lease_s", "positive", lease_s),
        (
            concurrency_limit is None or concurrency_limit >= 1,
            "concurrency_limit",
            "at least 1",
            concurrency_limit,
        ),
    )
    for holds, name, law, value in laws:
        if not holds:
            raise InvalidInput(f"{name} must be {law}, got {value}", path=f"$.{name}")
    if (concurrency_key is None) != (concurrency_limit is None):
        raise InvalidInput(
            f"concurrency_key {concurrency_key!r} and concurrency_limit {concurrency_limit} must go together",
            path="$.concurrency_limit",
        )


def _by_key(reader: Reader, workspace: str, kind: str, key: str) -> Job | None:
    return reader.record(
        Job,
        sa.select(table).where(table.c.workspace == workspace, table.c.kind == kind, table.c.idempotency_key == key),
    )


def _same(known: Job, payload: Any) -> Job:
    if canonical_json(known.payload) != canonical_json(payload):
        raise Conflict(
            f"the idempotency key {known.idempotency_key!r} belongs to {known.id}, which has another payload",
            path="$.idempotency_key",
            remedy="Use a new key for new work.",
        )
    return known


def get(reader: Reader, job_id: str, workspace: str | None = None) -> Job:
    """The job. Raises `NotFound` where there is none (in `workspace`)."""
    query = sa.select(table).where(table.c.id == job_id)
    if workspace is not None:
        query = query.where(table.c.workspace == workspace)
    return reader.one(Job, query, what=f"job {job_id}")


def recent(
    reader: Reader,
    workspace: str,
    *,
    kind: str | None = None,
    state: JobState | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Job]:
    """The newest jobs first; `before` is the id of the last one of the page before."""
    query = sa.select(table).where(table.c.workspace == workspace).order_by(table.c.id.desc()).limit(limit)
    for column, wanted in ((table.c.kind, kind), (table.c.state, state)):
        query = query if wanted is None else query.where(column == wanted)
    return reader.records(Job, query if before is None else query.where(table.c.id < before))


def cancel(tx: Transaction, job_id: str, actor: Actor | None = None) -> Job:
    """Cancels a queued job at once, a running one at its next heartbeat; one that is over stays as it is."""
    job = get(tx, job_id)
    if job.state == "queued":
        return end(tx, job, "cancelled", actor=actor, error="cancelled")
    if job.state == "running":
        return change(tx, job, cancel_requested=True)
    return job


def requeue(tx: Transaction, job: Job, **changes: Any) -> Job:
    """Puts a claimed job back into the queue, at its old place unless `run_at_ms` says otherwise."""
    return change(tx, job, state="queued", owner=None, lease_until_ms=None, **changes)


def end(tx: Transaction, job: Job, state: JobState, *, actor: Actor | None = None, **changes: Any) -> Job:
    """Brings a job to its last state, and says so in the ledger where it is to be announced."""
    error = changes.pop("error", None)
    ended = change(tx, job, state=state, error=error, lease_until_ms=None, finished_ms=tx.now_ms, **changes)
    if job.announce:
        news = JobFinished(job=job.id, job_kind=job.kind, state=state, error=error)
        tx.emit(actor or system("jobs", job.workspace), f"job:{job.id}", news)
    return ended


def change(tx: Transaction, job: Job, **changes: Any) -> Job:
    """Writes `changes` and gives the job as it is then."""
    tx.execute(sa.update(table).where(table.c.id == job.id).values(**changes))
    return get(tx, job.id)
