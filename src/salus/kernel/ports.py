"""The ports: what Salus asks of an engine, in words. Each has a conformance class in `salus.testing.conformance`.

An address chooses the engine behind a port (`salus.backends`); nothing else in Salus knows which one it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy.engine import Connection

from salus.kernel.clock import Clock
from salus.kernel.sql import Reader, Transaction
from salus.kernel.structs import Record

T = TypeVar("T")


class Database(Protocol):
    """Metadata, ledger, queue, leases: rows that commit together.

    - A write sees all writes acknowledged before it, and no other write runs at the same time, in any process:
      what a unit of work checked still holds when it commits.
    - When `write` returns, the work and its events are on stable storage. When it raises, nothing of it is.
    - A unit of work may be run a second time (after a serialisation failure): it must have no effect but its
      statements and events.
    - A read sees one snapshot; it never waits for a write and never holds one up.
    """

    clock: Clock

    def migrate(self, change: Callable[[Connection], None]) -> None:
        """Runs `change` (the making and altering of tables) in one transaction that no other process runs beside."""
        ...

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` in a transaction and returns its result once it is durable.

        Raises:
            StorageFull: the disk is full; reads go on, and a later write may pass.
            Unavailable: the database is away, or this object is closed.
        """
        ...

    def write_async(self, work: Callable[[Transaction], T]) -> Awaitable[T]:
        """The same for callers on an event loop, which stays free meanwhile."""
        ...

    def read(self, work: Callable[[Reader], T]) -> T:
        """Runs `work` on a snapshot and returns its result."""
        ...

    def read_async(self, work: Callable[[Reader], T]) -> Awaitable[T]:
        """The same for callers on an event loop."""
        ...

    def on_commit(self, listener: Callable[[], None]) -> None:
        """From now on `listener` is called after each commit of this process that carried events; it must be quick."""
        ...

    def close(self) -> None:
        """Lets accepted writes finish, then lets go of all connections."""
        ...


class BlobInfo(Record):
    """What is known of a stored object without reading it."""

    digest: str
    size_bytes: int
    modified_ms: int


class Blobs(Protocol):
    """Immutable bytes under their BLAKE3 digest (`salus.kernel.content`).

    - `put` is atomic and durable: after it returns, the bytes survive a power cut; a killed `put` leaves no object.
    - `put` of bytes that are there already costs no second copy and is no error.
    - `get` of a whole object verifies the digest.
    """

    def put(self, content: bytes) -> str:
        """Stores `content` and returns its digest."""
        ...

    def put_stream(self, chunks: Iterator[bytes]) -> BlobInfo:
        """Stores what `chunks` yields, in memory of one chunk."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes.

        Raises:
            NotFound: no such object.
            Corrupt: the bytes are not what their digest says.
        """
        ...

    def get_range(self, digest: str, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` (fewer at the end), without verification."""
        ...

    def stream(self, digest: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """The bytes in pieces. Raises `NotFound` before the first piece."""
        ...

    def info(self, digest: str) -> BlobInfo | None:
        """Size and time, or None when there is no such object."""
        ...

    def delete(self, digest: str) -> None:
        """Removes the object; no error if it is not there."""
        ...

    def list(self) -> Iterator[BlobInfo]:
        """All objects, in no order."""
        ...


class KeyValue(Protocol):
    """Small binary values by key with an optional time to live: online features, caches, budgets.

    It may forget (a restart of the embedded one does): whatever is kept here can be made again from elsewhere.
    """

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of `keys`; None where there is none or its time has passed."""
        ...

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: float | None = None) -> None:
        """Sets all; each is there for `ttl_s` seconds, or until it is replaced."""
        ...

    def set_if_newer(self, items: Sequence[tuple[bytes, int, bytes]]) -> int:
        """Sets each `(key, version, value)` whose version is at least the one held; returns how many were set.

        Atomic per key: whatever the order in which writers come, the highest version stays.
        `get_many` gives the value without its version.
        """
        ...

    def add(self, key: bytes, amount: int, ttl_s: float | None = None) -> int:
        """Adds to a counter (0 if absent) and returns the new sum; atomic. `ttl_s` counts from the first addition."""
        ...

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Removes all; no error where there is none."""
        ...


class Task(Record):
    """A call to make elsewhere: `function` as `module:qualified.name`, its arguments as JSON-compatible values."""

    function: str
    arguments: dict[str, Any]
    timeout_s: float | None = None


class Outcome(Record):
    """What came of a task: its JSON-compatible result, or the text of its error.

    `logs` is the end of what it wrote to its standard output and error (at most 64 KiB), also where it crashed.
    """

    ok: bool
    result: Any = None
    error: str = ""
    traceback: str = ""
    crashed: bool = False
    logs: str = ""
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


class Handle(Protocol):
    """A task under way."""

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """The outcome, or None when `timeout_s` passed first."""
        ...

    def cancel(self) -> None:
        """Ends the task at once; `wait` then gives an outcome that is not ok."""
        ...


class Executor(Protocol):
    """Runs tasks outside this process: pipeline steps, batch inference, tuning trials.

    A task that dies (killed, out of memory) has an outcome with `crashed`; it never takes the executor with it.
    """

    def submit(self, task: Task) -> Handle:
        """Starts `task` as soon as there is room."""
        ...

    def close(self) -> None:
        """Ends all tasks and lets go of all processes."""
        ...


class Message(Record):
    """One message of a stream: `position` sorts within the stream and is what a consumer commits."""

    position: int
    key: bytes
    value: bytes


class Streams(Protocol):
    """Ordered messages by topic, read by groups, at least once."""

    def publish(self, topic: str, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Appends `(key, value)` pairs in order; returns when the engine has accepted them."""
        ...

    def poll(self, topic: str, group: str, limit: int, timeout_s: float) -> list[Message]:
        """The next messages that `group` has not been given; waits at most `timeout_s` for the first."""
        ...

    def commit(self, topic: str, group: str, position: int) -> None:
        """All up to `position` are dealt with. What was given out and not committed is given again to the next
        consumer after `rewind`."""
        ...

    def rewind(self, topic: str, group: str) -> None:
        """Goes back to the last commit, as a consumer does that starts anew."""
        ...
