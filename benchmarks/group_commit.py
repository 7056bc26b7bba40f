"""Acknowledged small writes a second: 64 concurrent clients with group commit, against one commit a write.

A write inserts one row and one ledger event. Both sides run on the same engine, through the same code, on
the same 64 threads; for "one by one" the batch size is set to 1, so each write has its own transaction and
its own wait for stable storage. Rounds alternate; the medians are shown with their spread. PostgreSQL is
started from the machine's binaries (`fsync` on) and left out where there are none.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from salus.backends.postgres import open_postgres
from salus.backends.sqlite import open_sqlite
from salus.kernel import database as group_commit
from salus.kernel import ledger
from salus.kernel.database import SqlDatabase
from salus.kernel.identity import Actor
from salus.kernel.sql import Event, Transaction, metadata
from salus.testing.fixtures import postgres_binaries, postgres_server

CLIENTS = 64
SECONDS = 3.0
ROUNDS = 3

rows = sa.Table(
    "benchmark_rows", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True), sa.Column("text", sa.Text)
)
ACTOR = Actor(principal="benchmark", role="editor")


class RowAdded(Event):
    number: int


def add(tx: Transaction, *, number: int) -> None:
    tx.execute(sa.insert(rows).values(number=number, text="a small write"))
    tx.emit(ACTOR, f"row:{number}", RowAdded(number=number))


def writes_per_second(database: SqlDatabase, numbers: Iterator[int]) -> float:
    """What all clients together get acknowledged a second, each waiting for its write before the next."""
    end_s = time.perf_counter() + SECONDS
    done = [0] * CLIENTS

    def write(client: int) -> None:
        while time.perf_counter() < end_s:
            database.write(partial(add, number=next(numbers)))
            done[client] += 1

    threads = [threading.Thread(target=write, args=(client,)) for client in range(CLIENTS)]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started_s)


@contextmanager
def batches_of(limit: int) -> Iterator[None]:
    """Lets at most `limit` writes share a commit."""
    before = group_commit.BATCH
    group_commit.BATCH = limit
    try:
        yield
    finally:
        group_commit.BATCH = before


def compare(name: str, database: SqlDatabase) -> str:
    """One line of the table; the ledger is verified afterwards, so that what was counted is there."""
    metadata.create_all(database.engine)
    rows.create(database.engine)
    numbers = itertools.count()
    rates: dict[int, list[float]] = {1: [], group_commit.BATCH: []}
    for _ in range(ROUNDS):
        for limit, measured in rates.items():
            with batches_of(limit):
                measured.append(writes_per_second(database, numbers))
    stored = database.read(ledger.verify).entries
    alone, together = rates.values()
    ratio = statistics.median(together) / statistics.median(alone)
    return f"{name:<12}{_spread(alone):>26}{_spread(together):>26}{ratio:>9.1f}{stored:>12,}"


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


def main() -> None:
    """Prints the table."""
    print(f"acknowledged writes/s, {CLIENTS} clients: median (least-most) of {ROUNDS} rounds")
    print(f"{'engine':<12}{'one by one':>26}{'group commit':>26}{'ratio':>9}{'verified':>12}")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="salus-benchmark-", dir="."))
        opened = open_sqlite(f"sqlite:///{Path(folder).absolute()}/salus.db")
        stack.callback(opened.close)
        print(compare("SQLite", opened), flush=True)
        if postgres_binaries() is None:
            print(f"{'PostgreSQL':<12}{'no server on this machine':>26}")
            return
        server = stack.enter_context(postgres_server())
        away = open_postgres(server.address("postgres"))
        stack.callback(away.close)
        print(compare("PostgreSQL", away), flush=True)


if __name__ == "__main__":
    main()
