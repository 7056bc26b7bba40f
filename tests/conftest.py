"""Fixtures that all tests share. `database` runs a test on SQLite and again on a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salus.backends.files import FileBlobs
from salus.backends.postgres import open_postgres
from salus.backends.sqlite import open_sqlite
from salus.kernel.clock import Clock, FrozenClock
from salus.kernel.database import SqlDatabase
from salus.kernel.identity import Actor
from salus.testing import fixtures
from salus.testing.servers import RunningServer, running_server, settings_in


def _absent(what: str) -> None:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what} is not on this machine, and CI must test with it")
    pytest.skip(f"{what} is not on this machine")


@pytest.fixture(scope="session")
def postgres() -> Iterator[fixtures.PostgresServer]:
    """A real PostgreSQL server, one per test process."""
    if fixtures.postgres_binaries() is None:
        _absent("PostgreSQL")
    with fixtures.postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_address() -> Iterator[str]:
    """A real Redis server, one per test process."""
    if fixtures.redis_binary() is None:
        _absent("redis-server")
    with fixtures.redis_server() as address:
        yield address


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> fixtures.SqliteTemplates:
    return fixtures.SqliteTemplates(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still."""
    return FrozenClock()


@pytest.fixture
def actor() -> Actor:
    """Somebody who may do everything in the workspace `default`."""
    return Actor(principal="ann", role="admin", workspace="default")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def database_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database with all tables, on each engine: for tests that start processes on
    it."""
    if request.param == "sqlite":
        templates: fixtures.SqliteTemplates = request.getfixturevalue("sqlite_templates")
        yield templates.copy_to(tmp_path / "salus.db")
        return
    server: fixtures.PostgresServer = request.getfixturevalue("postgres")
    name = server.lend()
    yield server.address(name)
    server.take_back(name)


@pytest.fixture
def open_database(database_address: str) -> Iterator[Callable[[Clock], SqlDatabase]]:
    """Opens `database_address` with a clock of the test's choice, as often as it likes; all are closed
    after it."""
    opened: list[SqlDatabase] = []

    def open_(clock: Clock) -> SqlDatabase:
        open_engine = open_sqlite if database_address.startswith("sqlite:") else open_postgres
        opened.append(open_engine(database_address, clock))
        return opened[-1]

    yield open_
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database: Callable[[Clock], SqlDatabase], clock: FrozenClock) -> SqlDatabase:
    """An empty database with all tables, on each engine; its clock is the fixture `clock`."""
    return open_database(clock)


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    """Blobs in a folder of the test's own."""
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture
def server(database_address: str, tmp_path: Path) -> Iterator[RunningServer]:
    """A real control plane over real HTTP, on each engine."""
    with running_server(settings_in(tmp_path / "home", database=database_address)) as running:
        yield running
