"""From an address to the engine behind a port. Nothing is imported before an address asks for it.

A package of yours adds an engine by an entry point in the group `salus.backends`, named `<port>.<scheme>`
(as in `blobs.hdfs`), whose value is a function from address to backend (for `database`: from address and
clock):

    [project.entry-points."salus.backends"]
    "blobs.hdfs" = "my_package.hdfs:open_hdfs"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from salus.kernel.clock import Clock, SystemClock
from salus.kernel.errors import InvalidInput
from salus.kernel.extras import load
from salus.kernel.ports import Blobs, Database, Executor, KeyValue, Streams

_GROUP = "salus.backends"

_BUILT_IN: dict[str, dict[str, tuple[str, str | None]]] = {
    "database": {
        "sqlite": ("salus.backends.sqlite:open_sqlite", None),
        "postgresql": ("salus.backends.postgres:open_postgres", "postgres"),
    },
    "blobs": {
        "file": ("salus.backends.files:open_files", None),
        "memory": ("salus.backends.memory:open_memory_blobs", None),
        "s3": ("salus.backends.s3:open_store", None),
        "gs": ("salus.backends.s3:open_store", None),
        "az": ("salus.backends.s3:open_store", None),
    },
    "key_value": {
        "memory": ("salus.backends.memory:open_memory", None),
        "redis": ("salus.backends.redis:open_redis", "redis"),
        "rediss": ("salus.backends.redis:open_redis", "redis"),
        "unix": ("salus.backends.redis:open_redis", "redis"),
    },
    "executor": {"processes": ("salus.backends.local:open_processes", None)},
    "streams": {"memory": ("salus.backends.streams:open_memory_streams", None)},
}


def open_database(address: str, clock: Clock | None = None) -> Database:
    """The database at `sqlite:///path` or `postgresql://user@host/name`.

    Raises:
        InvalidInput: nothing is known by the address's scheme.
        MissingExtra: the engine's library is not installed.
    """
    database: Database = _opener("database", address)(address, clock or SystemClock())
    return database


def open_blobs(address: str) -> Blobs:
    """The blobs at `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory://`. Raises as
    above."""
    blobs: Blobs = _opener("blobs", address)(address)
    return blobs


def open_key_value(address: str) -> KeyValue:
    """The key-value store at `memory://`, `redis://host:port/0`, `rediss://…` or `unix://socket`. Raises
    as above."""
    key_value: KeyValue = _opener("key_value", address)(address)
    return key_value


def open_executor(address: str) -> Executor:
    """The executor at `processes://` (`?workers=4` sets how many processes). Raises as above."""
    executor: Executor = _opener("executor", address)(address)
    return executor


def open_streams(address: str) -> Streams:
    """The streams at `memory://`. Raises as above."""
    streams: Streams = _opener("streams", address)(address)
    return streams


def known_schemes(port: str) -> list[str]:
    """The schemes that open something for `port`, installed packages' among them."""
    return sorted({*_BUILT_IN[port], *_installed(port)})


def _opener(port: str, address: str) -> Any:
    scheme, separator, _ = address.partition(":")
    if separator and scheme in _BUILT_IN[port]:
        target, extra = _BUILT_IN[port][scheme]
        return load(target, extra=extra)
    third_party = _installed(port).get(scheme) if separator else None
    if third_party is None:
        raise InvalidInput(
            f"no {port} is known for {scheme + ':' if separator else address[:80]!r}; "
            f"there is {', '.join(f'{name}:' for name in known_schemes(port))}",
            path=f"SALUS_{port.upper()}",
            remedy="Correct the address, or install the package that brings this engine.",
        )
    return third_party.load()


def _installed(port: str) -> dict[str, EntryPoint]:
    return {
        entry.name.removeprefix(f"{port}."): entry
        for entry in entry_points(group=_GROUP)
        if entry.name.startswith(f"{port}.")
    }
