"""Metric ingestion: acknowledged, durable points per second over real HTTP, against a floor measured in the same run.

The floor is the same number of rows inserted by SQLite itself in one transaction per request's worth of rows, with the
same durability settings, without HTTP, validation or a group commit.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from salus.sdk.session import Session, path
from salus.testing.servers import RunningServer, running_server, settings_in
from salus.tracking.model import Logged, Run

THREADS = 8
SECONDS = 3.0
BATCH = 1_000


def main() -> None:
    """Prints calls a second for single points and points a second for batches of 1,000."""
    table = Table("work", "Salus", "floor: SQLite alone", "ratio", title="metric ingestion")
    with tempfile.TemporaryDirectory() as folder, running_server(settings_in(Path(folder))) as server:
        singles = calls_per_s(server, points=1)
        batches = calls_per_s(server, points=BATCH) * BATCH
    single_floor = floor_commits_per_s(rows=1)
    batch_floor = floor_commits_per_s(rows=BATCH) * BATCH
    table.add_row(
        f"log one point, {THREADS} threads: calls/s",
        f"{singles:,.0f}",
        f"{single_floor:,.0f}",
        f"{singles / single_floor:.2f}",
    )
    table.add_row(
        f"log {BATCH:,} points, {THREADS} threads: points/s",
        f"{batches:,.0f}",
        f"{batch_floor:,.0f}",
        f"{batches / batch_floor:.2f}",
    )
    Console().print(table)


def calls_per_s(server: RunningServer, points: int) -> float:
    """Acknowledged calls a second from several threads, each with its own run."""
    counts = [0] * THREADS
    deadline = time.perf_counter() + SECONDS

    def work(index: int) -> None:
        session = Session(server.settings)
        run = session.call("POST", path("runs"), body={"experiment": "bench"}, expect=Run)
        address = path("runs", run.id, "log")
        while time.perf_counter() < deadline:
            start = counts[index] * points
            body = {"points": [{"key": "loss", "value": 0.5, "step": start + i} for i in range(points)]}
            session.call("POST", address, body=msgspec.Raw(msgspec.json.encode(body)), expect=Logged)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def floor_commits_per_s(rows: int) -> float:
    """Commits a second of `rows` rows each, by SQLite with WAL and FULL, in this thread."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE p (run TEXT, key TEXT, seq INT, step INT, at INT, value REAL)")
        count, deadline = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < deadline:
            connection.execute("BEGIN IMMEDIATE")
            values = [("run", "loss", count * rows + i, i, 0, 0.5) for i in range(rows)]
            connection.executemany("INSERT INTO p VALUES (?, ?, ?, ?, ?, ?)", values)
            connection.execute("COMMIT")
            count += 1
        connection.close()
        return count / SECONDS


if __name__ == "__main__":
    main()
