"""Real engines for tests: a throw-away PostgreSQL and Redis, fresh databases in milliseconds.

`tests/conftest.py` makes pytest fixtures of these; a backend of your own can be tested with them too.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from salus.backends.postgres import open_postgres
from salus.backends.sqlite import open_sqlite
from salus.kernel.sql import metadata

_START_TIMEOUT_S = 30.0
_PR_SET_PDEATHSIG = 1


def postgres_binaries() -> Path | None:
    """The folder of this machine's newest PostgreSQL server, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _number(path.parent.parent.name))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def _number(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def redis_binary() -> Path | None:
    """This machine's redis-server, or None."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


class PostgresServer:
    """A PostgreSQL server of our own on a Unix socket, `fsync` on, gone when the context or this process
    ends.

    Databases are handed out with all tables of `salus.kernel.sql.metadata` in place and empty; one that is
    given back is emptied and handed out again, which takes a few milliseconds where `CREATE DATABASE` takes
    a hundred.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._free: list[str] = []
        self._made = 0
        self._tables: frozenset[str] = frozenset()

    def address(self, name: str) -> str:
        """The address of the database `name`."""
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def lend(self) -> str:
        """The name of an empty database that nobody else has."""
        tables = frozenset(metadata.tables)
        if tables != self._tables:
            self._free, self._tables = [], tables
            self._make_template()
        if self._free:
            return self._free.pop()
        self._made += 1
        name = f"salus_{os.getpid()}_{self._made}"
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(self._template))
            )
        return name

    def take_back(self, name: str) -> None:
        """Ends whoever still uses the database `name`, empties it and keeps it for the next."""
        with self.connect(name) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            names = {str(row[0]) for row in found}
            for extra in sorted(names - self._tables):
                connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(extra)))
            kept = sorted(names & self._tables)
            full = [table for table in kept if self._has_rows(connection, table)]
            if full:
                listed = sql.SQL(", ").join(map(sql.Identifier, full))
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(listed))
        if names >= self._tables:
            self._free.append(name)

    def connect(self, name: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection with every statement its own transaction."""
        return psycopg.connect(dbname=name, host=str(self.folder), user="postgres", autocommit=True)

    @property
    def _template(self) -> str:
        return f"template_{os.getpid()}_{len(self._tables)}"

    def _make_template(self) -> None:
        with self.connect("postgres") as connection:
            name = sql.Identifier(self._template)
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        create_tables(self.address(self._template))

    @staticmethod
    def _has_rows(connection: psycopg.Connection[tuple[object, ...]], table: str) -> bool:
        query = sql.SQL("SELECT EXISTS(SELECT 1 FROM {})").format(sql.Identifier(table))
        row = connection.execute(query).fetchone()
        return row is not None and bool(row[0])


def create_tables(address: str) -> None:
    """Makes all tables that are declared on `salus.kernel.sql.metadata` by now, in the database at
    `address`."""
    opened = open_sqlite(address) if address.startswith("sqlite:") else open_postgres(address)
    try:
        metadata.create_all(opened.engine)
    finally:
        opened.close()


@contextmanager
def postgres_server(*, settings: dict[str, str] | None = None) -> Iterator[PostgresServer]:
    """A running server with further `settings` (as in `postgresql.conf`), made from the machine's binaries.

    Raises:
        RuntimeError: there are no binaries, or the server does not start; its log is in the text.
    """
    binaries = postgres_binaries()
    if binaries is None:
        raise RuntimeError("there is no PostgreSQL server on this machine")
    with tempfile.TemporaryDirectory(prefix="salus-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        user = _unprivileged_owner(folder)
        data = folder / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        initdb += ["--locale=C", "--encoding=UTF8"]
        done = subprocess.run(initdb, user=user, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        chosen = {"fsync": "on", "listen_addresses": "", "unix_socket_directories": str(folder)}
        chosen |= {"shared_buffers": "64MB", "max_connections": "200", **(settings or {})}
        command = [str(binaries / "postgres"), "-D", str(data)]
        for name, value in chosen.items():
            command += ["-c", f"{name}={value}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, user=user, stdout=log, stderr=log, cwd=folder, preexec_fn=_end_with_parent
            )
        server = PostgresServer(folder)
        try:
            _await_start(process, folder / "log", lambda: server.connect("postgres").close())
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()


def _unprivileged_owner(folder: Path) -> str | None:
    if os.geteuid() != 0:
        return None
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return owner.pw_name


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _await_start(process: subprocess.Popen[bytes], log: Path, probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            probe()
            return
        except (psycopg.OperationalError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()}") from error
            time.sleep(0.02)


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a Redis of our own on a Unix socket, gone when the context or this process ends.

    Raises:
        RuntimeError: there is no redis-server, or it does not start.
    """
    binary = redis_binary()
    if binary is None:
        raise RuntimeError("there is no redis-server on this machine")
    with tempfile.TemporaryDirectory(prefix="salus-redis-") as made:
        socket = Path(made) / "redis.sock"
        command = [
            str(binary),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with (Path(made) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=made, preexec_fn=_end_with_parent)
        try:
            _await_start(process, Path(made) / "log", lambda: _require(socket))
            yield f"unix://{socket}"
        finally:
            process.kill()
            process.wait()


def _require(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(path)


class SqliteTemplates:
    """SQLite files with all tables in place, copied from one that is made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: frozenset[str] = frozenset()

    def copy_to(self, path: Path) -> str:
        """The address of a fresh database at `path`."""
        template = self._folder / "template.db"
        tables = frozenset(metadata.tables)
        if tables != self._tables:
            for leftover in self._folder.glob("template.db*"):
                leftover.unlink()
            create_tables(f"sqlite:///{template}")
            self._tables = tables
        shutil.copyfile(template, path)
        return f"sqlite:///{path}"


def row_counts(engine: sa.Engine) -> dict[str, int]:
    """How many rows each table holds: to see that a refused request left nothing behind."""
    with engine.connect() as connection, connection.begin():
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in sorted(metadata.tables.items())
        }
