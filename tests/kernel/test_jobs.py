"""Jobs and claims: who gets what, when, how often; on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from salus.kernel import claims, jobs, ledger
from salus.kernel.clock import Clock, FrozenClock, SystemClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Conflict, InvalidInput, NotFound


def put(database: SqlDatabase, payload: Any = None, kind: str = "work", **options: Any) -> jobs.Job:
    return database.write(lambda tx: jobs.enqueue(tx, kind, payload, **options))


def take(database: SqlDatabase, limit: int = 1, owner: str = "w1", **options: Any) -> list[jobs.Job]:
    return database.write(lambda tx: claims.claim(tx, owner, limit=limit, **options))


def look(database: SqlDatabase, job: jobs.Job) -> jobs.Job:
    return database.read(lambda reader: jobs.get(reader, job.id))


def test_a_claimed_job_comes_with_its_payload_a_lease_and_an_epoch(database: SqlDatabase, clock: FrozenClock) -> None:
    job = put(database, {"n": 1}, lease_s=20)
    (claimed,) = take(database)
    assert (claimed.id, claimed.payload, claimed.state) == (job.id, {"n": 1}, "running")
    assert (claimed.epoch, claimed.owner, claimed.lease_until_ms) == (1, "w1", clock.now_ms() + 20_000)
    assert take(database) == []


def test_a_result_is_recorded_once_and_kept(database: SqlDatabase) -> None:
    job = put(database)
    (claimed,) = take(database)
    first = database.write(lambda tx: claims.complete(tx, job.id, 1, {"auc": 0.9}))
    again = database.write(lambda tx: claims.complete(tx, job.id, 1, {"auc": 0.1}))
    assert (first.first, again.first) == (True, False)
    assert look(database, claimed).result == {"auc": 0.9}
    events = database.read(lambda reader: ledger.read(reader, kinds=["JobFinished"]))
    assert [event.data["state"] for event in events] == ["succeeded"]


def test_a_job_is_there_only_if_its_transaction_commits(database: SqlDatabase) -> None:
    def unit(tx: Any) -> None:
        jobs.enqueue(tx, "work", None)
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.write(unit)
    assert take(database) == []


@pytest.mark.parametrize("report", ["heartbeat", "complete", "fail", "release"])
def test_a_stale_claim_writes_nothing(database: SqlDatabase, clock: FrozenClock, report: str) -> None:
    job = put(database, lease_s=10)
    take(database)
    clock.advance(seconds=11)
    database.write(claims.sweep)
    take(database, owner="w2")
    before = look(database, job)
    late: dict[str, Callable[[Any], Any]] = {
        "heartbeat": lambda tx: claims.heartbeat(tx, job.id, 1),
        "complete": lambda tx: claims.complete(tx, job.id, 1, "stale"),
        "fail": lambda tx: claims.fail(tx, job.id, 1, "stale"),
        "release": lambda tx: claims.release(tx, job.id, 1),
    }
    with pytest.raises(Conflict, match="claim 1 no longer holds"):
        database.write(late[report])
    assert look(database, job) == before
    assert before.owner == "w2"


def test_a_silent_workers_job_goes_to_another_and_counts_no_failure(database: SqlDatabase, clock: FrozenClock) -> None:
    job = put(database, lease_s=10, max_attempts=1)
    take(database)
    clock.advance(seconds=9)
    database.write(lambda tx: claims.heartbeat(tx, job.id, 1))
    clock.advance(seconds=9)
    assert not database.read(claims.any_lost)
    assert database.write(claims.sweep) == []
    clock.advance(seconds=2)
    assert database.read(claims.any_lost)
    (lost,) = database.write(claims.sweep)
    assert (lost.state, lost.failures, lost.losses) == ("queued", 0, 1)
    (again,) = take(database, owner="w2")
    assert (again.id, again.epoch) == (job.id, 2)


def test_a_job_that_takes_every_worker_with_it_is_dead_in_the_end(database: SqlDatabase, clock: FrozenClock) -> None:
    job = put(database, lease_s=1)
    for _ in range(claims.MAX_LOSSES):
        assert len(take(database)) == 1
        clock.advance(seconds=2)
        database.write(claims.sweep)
    assert take(database) == []
    assert look(database, job).state == "failed"


def test_failures_are_retried_after_a_growing_wait_until_the_job_is_dead(
    database: SqlDatabase, clock: FrozenClock
) -> None:
    job = put(database, max_attempts=3, backoff_s=4)
    waits = []
    for epoch in (1, 2, 3):
        assert [claimed.epoch for claimed in take(database)] == [epoch]
        settled = database.write(lambda tx, epoch=epoch: claims.fail(tx, job.id, epoch, f"broken {epoch}"))
        again = database.write(lambda tx, epoch=epoch: claims.fail(tx, job.id, epoch, f"broken {epoch}"))
        assert (settled.first, again.first) == (True, False)
        wait_s = (settled.job.run_at_ms - clock.now_ms()) / 1000
        waits.append(wait_s)
        if epoch < 3:
            assert take(database) == []
            clock.advance(seconds=wait_s)
    dead = look(database, job)
    assert (dead.state, dead.failures, dead.error) == ("failed", 3, "broken 3")
    assert 2 <= waits[0] < 4 <= waits[1] < 8
    assert take(database) == []


def test_a_failure_that_no_retry_mends_ends_the_job(database: SqlDatabase) -> None:
    job = put(database, max_attempts=5)
    take(database)
    settled = database.write(lambda tx: claims.fail(tx, job.id, 1, "bad input", retry=False))
    assert settled.job.state == "failed"


def test_first_things_first(database: SqlDatabase, clock: FrozenClock) -> None:
    late = put(database, "late", run_at_ms=clock.now_ms() + 60_000, priority=9)
    first = put(database, "plain")
    second = put(database, "plain 2")
    urgent = put(database, "urgent", priority=5)
    assert [job.id for job in take(database, 10)] == [urgent.id, first.id, second.id]
    clock.advance(seconds=60)
    assert [job.id for job in take(database, 10)] == [late.id]


def test_a_claim_takes_only_its_kinds_queue_and_workspace(database: SqlDatabase) -> None:
    put(database, kind="other")
    put(database, queue="gpu")
    put(database, workspace="elsewhere")
    wanted = put(database, kind="work")
    assert [job.id for job in take(database, 10, kinds=["work"])] == [wanted.id]
    assert not database.read(lambda reader: claims.any_due(reader, "default", kinds=["work"]))
    assert database.read(lambda reader: claims.any_due(reader, "elsewhere"))


def test_an_idempotency_key_makes_one_job(database: SqlDatabase) -> None:
    first = put(database, {"a": 1}, idempotency_key="k")
    assert put(database, {"a": 1}, idempotency_key="k").id == first.id
    with pytest.raises(Conflict, match="another payload"):
        put(database, {"a": 2}, idempotency_key="k")
    assert put(database, {"a": 2}, kind="other", idempotency_key="k").id != first.id


def test_cancel_ends_a_queued_job_at_once_and_tells_a_running_one(database: SqlDatabase) -> None:
    queued, running = put(database, priority=-1), put(database)
    take(database)
    assert database.write(lambda tx: jobs.cancel(tx, queued.id)).state == "cancelled"
    assert database.write(lambda tx: jobs.cancel(tx, running.id)).state == "running"
    assert database.write(lambda tx: claims.heartbeat(tx, running.id, 1)).cancel
    settled = database.write(lambda tx: claims.fail(tx, running.id, 1, "killed"))
    assert settled.job.state == "cancelled"
    assert take(database) == []


def test_a_cancelled_job_of_a_dead_worker_does_not_come_back(database: SqlDatabase, clock: FrozenClock) -> None:
    job = put(database, lease_s=5)
    take(database)
    database.write(lambda tx: jobs.cancel(tx, job.id))
    clock.advance(seconds=6)
    database.write(claims.sweep)
    assert look(database, job).state == "cancelled"


def test_a_released_job_is_due_at_once_and_unharmed(database: SqlDatabase) -> None:
    job = put(database, max_attempts=1)
    take(database)
    database.write(lambda tx: claims.release(tx, job.id, 1))
    (again,) = take(database, owner="w2")
    assert (again.epoch, again.failures, again.losses) == (2, 0, 0)


def test_a_job_that_comes_back_keeps_its_place(database: SqlDatabase, clock: FrozenClock) -> None:
    lost, released = put(database, "lost", lease_s=5), put(database, "released")
    take(database, 2)
    put(database, "later")
    clock.advance(seconds=6)
    database.write(claims.sweep)
    database.write(lambda tx: claims.release(tx, released.id, 1))
    assert [job.id for job in take(database, 2)] == [lost.id, released.id]


def test_progress_and_the_end_of_the_log_are_kept(database: SqlDatabase) -> None:
    job = put(database)
    take(database)
    told = claims.Progress(ratio=0.5, text="half", log_tail="x" * (claims.LOG_TAIL_CHARS + 5) + "end")
    database.write(lambda tx: claims.heartbeat(tx, job.id, 1, told))
    seen = look(database, job)
    assert (seen.progress_ratio, seen.progress_text) == (0.5, "half")
    assert seen.log_tail is not None
    assert len(seen.log_tail) == claims.LOG_TAIL_CHARS
    assert seen.log_tail.endswith("end")


def test_a_concurrency_limit_counts_the_running_and_skips_to_what_fits(database: SqlDatabase) -> None:
    held = [put(database, concurrency_key="gpu", concurrency_limit=2, priority=5) for _ in range(4)]
    free = [put(database) for _ in range(3)]
    taken = take(database, 10)
    assert {job.id for job in taken} == {held[0].id, held[1].id, *(job.id for job in free)}
    database.write(lambda tx: claims.complete(tx, held[0].id, 1, None))
    assert [job.id for job in take(database, 10)] == [held[2].id]


def test_a_concurrency_limit_holds_under_racing_claims(
    open_database: Callable[[Clock], SqlDatabase],
) -> None:
    """Eight claimers on two connections: at no time do more than the limit run, and all get done."""
    databases = [open_database(SystemClock()), open_database(SystemClock())]
    ids = {put(databases[0], n, concurrency_key="k", concurrency_limit=3).id for n in range(40)}
    running: Counter[str] = Counter()
    most, done, lock = 0, [], threading.Lock()

    def work(number: int) -> None:
        nonlocal most
        database = databases[number % 2]
        while len(done) < len(ids):
            for job in take(database, 2, owner=f"w{number}"):
                with lock:
                    running["k"] += 1
                    most = max(most, running["k"])
                with lock:
                    running["k"] -= 1
                database.write(lambda tx, job=job: claims.complete(tx, job.id, job.epoch, None))
                with lock:
                    done.append(job.id)
            count = database.read(
                lambda reader: reader.value(
                    sa.select(sa.func.count()).select_from(jobs.table).where(jobs.table.c.state == "running")
                )
            )
            assert count <= 3

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(done) == sorted(ids)
    assert 1 <= most <= 3


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"max_attempts": 0}, "$.max_attempts"),
        ({"timeout_s": 0}, "$.timeout_s"),
        ({"lease_s": -1}, "$.lease_s"),
        ({"concurrency_key": "k"}, "$.concurrency_limit"),
        ({"concurrency_key": "k", "concurrency_limit": 0}, "$.concurrency_limit"),
    ],
)
def test_unlawful_options_are_refused_with_their_path(
    database: SqlDatabase, options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        put(database, **options)
    assert caught.value.path == path


def test_a_job_of_another_workspace_is_not_found(database: SqlDatabase) -> None:
    job = put(database, workspace="theirs")
    with pytest.raises(NotFound):
        database.read(lambda reader: jobs.get(reader, job.id, "default"))


def test_recent_jobs_come_newest_first_in_pages(database: SqlDatabase) -> None:
    ids = [put(database, n).id for n in range(5)]
    page = database.read(lambda reader: jobs.recent(reader, "default", limit=2))
    rest = database.read(lambda reader: jobs.recent(reader, "default", before=page[-1].id))
    assert [job.id for job in page + rest] == ids[::-1]


@given(st.from_regex(r"job_[0-9a-z]{26}", fullmatch=True), st.integers(1, 80), st.floats(0, 1e4))
def test_the_back_off_doubles_within_its_bounds(job_id: str, failures: int, base_s: float) -> None:
    wait_s = claims.backoff_s(job_id, failures, base_s)
    full_s = min(claims.MAX_BACKOFF_S, base_s * 2.0 ** (failures - 1))
    assert full_s / 2 <= wait_s <= full_s
    assert wait_s == claims.backoff_s(job_id, failures, base_s)
