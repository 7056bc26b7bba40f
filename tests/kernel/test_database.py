"""The one writer: group commit, events, refusals, and survival of kills, full disks and lost connections."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from salus.backends.postgres import open_postgres
from salus.backends.sqlite import open_sqlite
from salus.kernel import ledger
from salus.kernel.clock import Clock, FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Conflict, InvalidInput, StorageFull, Unavailable
from salus.kernel.identity import Actor
from salus.kernel.sql import Event, Reader, Transaction
from salus.testing.fixtures import PostgresServer

numbers = sa.Table(
    "numbers", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True), sa.Column("text", sa.Text)
)


class NumberAdded(Event):
    number: int


@pytest.fixture(autouse=True)
def _numbers(request: pytest.FixtureRequest) -> None:
    if "database" in request.fixturenames:
        numbers.create(request.getfixturevalue("database").engine)


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_templates: object, clock: FrozenClock) -> Iterator[SqlDatabase]:
    opened = open_sqlite(sqlite_templates.copy_to(tmp_path / "one.db"), clock)
    numbers.create(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
def on_postgres(postgres: PostgresServer, clock: FrozenClock) -> Iterator[SqlDatabase]:
    name = postgres.lend()
    opened = open_postgres(postgres.address(name), clock)
    numbers.create(opened.engine)
    yield opened
    opened.close()
    postgres.take_back(name)


def add(number: int, actor: Actor | None = None, text: str = "") -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        tx.execute(sa.insert(numbers).values(number=number, text=text))
        if actor is not None:
            tx.emit(actor, f"number:{number}", NumberAdded(number=number))
        return number

    return work


def held(database: SqlDatabase) -> list[int]:
    query = sa.select(numbers.c.number).order_by(numbers.c.number)
    return database.read(lambda reader: [row["number"] for row in reader.rows(query)])


class Batch:
    """Holds the writer up so that the writes given meanwhile commit together."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.go = threading.Event()
        self.commits = 0
        sa.event.listen(database.engine, "commit", self._count)

    def _count(self, connection: sa.Connection) -> None:
        self.commits += 1

    def run(self, works: list[Callable[[Transaction], object]]) -> list[object]:
        """The results, or the errors, of `works`, all waiting at the same time."""
        started = threading.Event()

        def wait(tx: Transaction) -> None:
            started.set()
            self.go.wait(10)

        async def together() -> list[object]:
            first = asyncio.ensure_future(self.database.write_async(wait))
            await asyncio.to_thread(started.wait, 10)
            rest = [asyncio.ensure_future(self.database.write_async(work)) for work in works]
            await asyncio.sleep(0)
            self.go.set()
            await first
            return await asyncio.gather(*rest, return_exceptions=True)

        return asyncio.run(together())


class TestGroupCommit:
    def test_waiting_writes_share_a_commit(self, database: SqlDatabase, actor: Actor) -> None:
        batch = Batch(database)
        assert batch.run([add(number, actor) for number in range(50)]) == list(range(50))
        assert batch.commits == 2
        assert held(database) == list(range(50))
        assert database.read(ledger.verify).entries == 50

    def test_a_failing_unit_takes_nobody_with_it(self, database: SqlDatabase, actor: Actor) -> None:
        def refuse(tx: Transaction) -> None:
            add(100, actor)(tx)
            raise Conflict("no")

        def leave(tx: Transaction) -> None:
            add(101, actor)(tx)
            raise SystemExit

        results = Batch(database).run([add(1, actor), refuse, add(1, actor), leave, add(2, actor)])
        assert [type(result) for result in results] == [
            int, Conflict, sa.exc.IntegrityError, RuntimeError, int,
        ]  # fmt: skip
        assert held(database) == [1, 2]
        kinds = database.read(lambda reader: [entry.subject for entry in ledger.read(reader)])
        assert kinds == ["number:1", "number:2"]

    def test_a_unit_that_spoils_the_batch_fails_alone(self, database: SqlDatabase, actor: Actor) -> None:
        def emit_twice(tx: Transaction) -> None:
            tx.emit(actor, "number:9", NumberAdded(number=9))
            tx.events.append(tx.events[0])

        results = Batch(database).run([add(1, actor), emit_twice, add(2, actor)])
        assert [type(result) for result in results] == [int, sa.exc.IntegrityError, int]
        assert held(database) == [1, 2]
        assert database.read(ledger.verify).entries == 2

    def test_events_are_recorded_only_if_committed(self, database: SqlDatabase, actor: Actor) -> None:
        calls = []
        database.on_commit(lambda: calls.append(1))
        database.write(add(1))
        with pytest.raises(sa.exc.IntegrityError):
            database.write(add(1, actor))
        assert calls == []
        assert database.read(ledger.head) == 0
        database.write(add(2, actor))
        assert calls == [1]
        assert database.read(ledger.head) == 1

    def test_a_failing_listener_harms_nobody(self, database: SqlDatabase, actor: Actor) -> None:
        def fail() -> None:
            raise RuntimeError("listener")

        database.on_commit(fail)
        assert database.write(add(1, actor)) == 1
        assert database.write(add(2, actor)) == 2

    def test_a_write_within_a_write_is_refused(self, database: SqlDatabase) -> None:
        with pytest.raises(RuntimeError, match="pass its transaction on"):
            database.write(lambda tx: database.write(add(1)))
        assert held(database) == []

    def test_a_cancelled_write_that_waits_is_never_run(self, database: SqlDatabase) -> None:
        started, go = threading.Event(), threading.Event()

        def wait(tx: Transaction) -> None:
            started.set()
            go.wait(10)

        async def scenario() -> None:
            first = asyncio.ensure_future(database.write_async(wait))
            await asyncio.to_thread(started.wait, 10)
            second = asyncio.ensure_future(database.write_async(add(1)))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            go.set()
            await first

        asyncio.run(scenario())
        database.write(add(2))
        assert held(database) == [2]

    def test_close_finishes_what_was_accepted(self, database: SqlDatabase) -> None:
        outcome: list[object] = []
        thread = threading.Thread(target=lambda: outcome.append(database.write(add(1))))

        def slow(tx: Transaction) -> None:
            thread.start()
            time.sleep(0.05)

        database.write(slow)
        thread.join()
        database.close()
        assert outcome == [1]
        with pytest.raises(Unavailable, match="closed"):
            database.write(add(2))


class TestIsolation:
    def test_a_read_sees_one_snapshot(self, database: SqlDatabase) -> None:
        def work(reader: Reader) -> tuple[int, int]:
            count = sa.select(sa.func.count()).select_from(numbers)
            before = reader.value(count)
            database.write(add(1))
            return before, reader.value(count)

        assert database.read(work) == (0, 0)
        assert held(database) == [1]

    def test_a_read_cannot_write(self, database: SqlDatabase) -> None:
        with pytest.raises(sa.exc.DBAPIError):
            database.read(lambda reader: reader.execute(sa.insert(numbers).values(number=1)))
        assert database.write(add(2)) == 2
        assert held(database) == [2]

    def test_a_read_does_not_wait_for_a_write(self, database: SqlDatabase) -> None:
        def work(tx: Transaction) -> list[int]:
            add(1)(tx)
            return held(database)

        assert database.write(work) == []

    def test_two_processes_never_check_the_same_state(
        self, open_database: Callable[[Clock], SqlDatabase], database: SqlDatabase, clock: FrozenClock
    ) -> None:
        other = open_database(clock)

        def take_next(tx: Transaction) -> int:
            number = (tx.value(sa.select(sa.func.max(numbers.c.number))) or 0) + 1
            return add(number)(tx)

        def many(one: SqlDatabase) -> None:
            for _ in range(50):
                one.write(take_next)

        threads = [threading.Thread(target=many, args=(one,)) for one in (database, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held(database) == list(range(1, 201))


@pytest.mark.parametrize("at_least", [50, 400])
def test_kill_9_loses_nothing_acknowledged(database: SqlDatabase, database_address: str, at_least: int) -> None:
    script = Path(__file__).with_name("write_storm.py")
    with subprocess.Popen(
        [sys.executable, str(script), database_address], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(line) for line in itertools.islice(process.stdout, at_least)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    stored = held(database)
    assert set(acknowledged) <= set(stored)
    entries = database.read(lambda reader: ledger.read(reader, limit=100_000))
    assert sorted(entry.data["number"] for entry in entries) == stored
    assert database.read(ledger.verify).entries == len(stored)
    assert database.write(add(-1)) == -1


class TestFullDisk:
    def test_sqlite_says_so_and_recovers(self, sqlite: SqlDatabase, actor: Actor) -> None:
        sqlite.write(add(0, actor))
        with sqlite.engine.connect() as connection:
            used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        sa.event.listen(sqlite.engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={used + 20}"))
        with pytest.raises(StorageFull, match="nothing was written"):
            sqlite.write(add(1, actor, text="x" * 1_000_000))
        results = Batch(sqlite).run([add(2, actor), add(3, actor, text="x" * 1_000_000), add(4, actor)])
        assert [type(result) for result in results] == [int, StorageFull, int]
        assert held(sqlite) == [0, 2, 4]
        assert sqlite.read(ledger.verify).entries == 3
        sa.event.listen(sqlite.engine, "begin", lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000"))
        assert sqlite.write(add(1, actor, text="x" * 1_000_000)) == 1


class TestLostConnection:
    def test_writes_and_reads_recover(self, on_postgres: SqlDatabase, postgres: PostgresServer) -> None:
        def cut(reader: Reader) -> None:
            pid = reader.value(sa.text("SELECT pg_backend_pid()"))
            with postgres.connect("postgres") as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            reader.value(sa.text("SELECT 1"))

        def add_and_cut(tx: Transaction) -> None:
            add(1)(tx)
            cut(tx)

        with pytest.raises(Unavailable):
            on_postgres.write(add_and_cut)
        assert held(on_postgres) == []
        assert on_postgres.write(add(2)) == 2
        with pytest.raises(Unavailable):
            on_postgres.read(cut)
        assert held(on_postgres) == [2]

    def test_a_commit_that_happened_is_acknowledged(
        self, on_postgres: SqlDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = on_postgres.engine.dialect.do_commit

        def commit_and_lose_the_answer(connection: sa.PoolProxiedConnection) -> None:
            commit(connection)
            monkeypatch.undo()
            connection.dbapi_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(on_postgres.engine.dialect, "do_commit", commit_and_lose_the_answer)
        assert on_postgres.write(add(1)) == 1
        assert held(on_postgres) == [1]
        assert on_postgres.write(add(2)) == 2

    def test_a_commit_that_did_not_happen_is_not(
        self, on_postgres: SqlDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lose_the_connection(connection: sa.PoolProxiedConnection) -> None:
            monkeypatch.undo()
            connection.dbapi_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(on_postgres.engine.dialect, "do_commit", lose_the_connection)
        with pytest.raises(Unavailable):
            on_postgres.write(add(1))
        assert held(on_postgres) == []
        assert on_postgres.write(add(2)) == 2

    def test_a_server_that_is_away(self, tmp_path: Path) -> None:
        database = open_postgres(f"postgresql://postgres@/nothing?host={tmp_path}")
        with pytest.raises(Unavailable):
            database.write(add(1))
        with pytest.raises(Unavailable):
            database.read(ledger.head)
        database.close()


@pytest.mark.parametrize("address", ["sqlite:///", "sqlite://x", "sqlite:"])
def test_an_address_without_a_file_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///path"):
        open_sqlite(address)
