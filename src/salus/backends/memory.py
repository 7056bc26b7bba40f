"""Engines that live and end with the process: the embedded KeyValue, and Blobs for tests."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from salus.kernel.content import check_digest, digest, verify
from salus.kernel.errors import InvalidInput, NotFound
from salus.kernel.ports import BlobInfo

_MAX_BYTES = 1 << 30
_ENTRY_BYTES = 200
"""What an entry costs besides its key and value (measured with CPython 3.11, rounded up)."""


@dataclass(slots=True)
class _Entry:
    value: bytes
    version: int | None = None
    ends_s: float | None = None


class MemoryKeyValue:
    """Implements `salus.kernel.ports.KeyValue` in the process, in at most `max_bytes` of memory.

    When it is full, the entries that were used longest ago go first.
    """

    def __init__(self, *, max_bytes: int = _MAX_BYTES, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._now_s = monotonic_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `salus.kernel.ports.KeyValue.get_many`."""
        with self._lock:
            now_s = self._now_s()
            return [None if (entry := self._live(key, now_s)) is None else entry.value for key in keys]

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: float | None = None) -> None:
        """See `salus.kernel.ports.KeyValue.set_many`."""
        with self._lock:
            ends_s = None if ttl_s is None else self._now_s() + ttl_s
            for key, value in items:
                self._put(key, _Entry(value, None, ends_s))

    def set_if_newer(self, items: Sequence[tuple[bytes, int, bytes]]) -> int:
        """See `salus.kernel.ports.KeyValue.set_if_newer`."""
        written = 0
        with self._lock:
            now_s = self._now_s()
            for key, version, value in items:
                held = self._live(key, now_s)
                if held is None or held.version is None or version >= held.version:
                    self._put(key, _Entry(value, version))
                    written += 1
        return written

    def add(self, key: bytes, amount: int, ttl_s: float | None = None) -> int:
        """See `salus.kernel.ports.KeyValue.add`."""
        with self._lock:
            now_s = self._now_s()
            held = self._live(key, now_s)
            if held is None:
                ends_s = None if ttl_s is None else now_s + ttl_s
                self._put(key, _Entry(b"%d" % amount, None, ends_s))
                return amount
            total = _counter(key, held) + amount
            self._put(key, _Entry(b"%d" % total, None, held.ends_s))
            return total

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """See `salus.kernel.ports.KeyValue.delete_many`."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def _live(self, key: bytes, now_s: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends_s is not None and entry.ends_s <= now_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _put(self, key: bytes, entry: _Entry) -> None:
        self._drop(key)
        self._entries[key] = entry
        self._bytes += len(key) + len(entry.value) + _ENTRY_BYTES
        while self._bytes > self._max_bytes and self._entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry.value) + _ENTRY_BYTES


def _counter(key: bytes, entry: _Entry) -> int:
    if entry.version is None and entry.value.removeprefix(b"-").isdigit():
        return int(entry.value)
    raise InvalidInput(f"the value of {key!r} is no counter", remedy="Use another key for the counter.")


class MemoryBlobs:
    """Implements `salus.kernel.ports.Blobs` in the process: for tests, and nothing that must last."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[bytes, int]] = {}

    def put(self, content: bytes) -> str:
        """See `salus.kernel.ports.Blobs.put`."""
        name = digest(content)
        self._held[name] = (content, time.time_ns() // 1_000_000)
        return name

    def put_stream(self, chunks: Iterator[bytes]) -> BlobInfo:
        """See `salus.kernel.ports.Blobs.put_stream`."""
        content = b"".join(chunks)
        return self._info(self.put(content))

    def get(self, digest: str) -> bytes:
        """See `salus.kernel.ports.Blobs.get`."""
        held = self._held.get(check_digest(digest))
        if held is None:
            raise NotFound(f"there is no blob {digest}", path="$.digest")
        return verify(held[0], digest)

    def get_range(self, digest: str, start: int, length: int) -> bytes:
        """See `salus.kernel.ports.Blobs.get_range`."""
        return self.get(digest)[start : start + length]

    def stream(self, digest: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """See `salus.kernel.ports.Blobs.stream`."""
        content = self.get(digest)
        return (content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes))

    def info(self, digest: str) -> BlobInfo | None:
        """See `salus.kernel.ports.Blobs.info`."""
        return self._info(digest) if check_digest(digest) in self._held else None

    def delete(self, digest: str) -> None:
        """See `salus.kernel.ports.Blobs.delete`."""
        self._held.pop(check_digest(digest), None)

    def list(self) -> Iterator[BlobInfo]:
        """See `salus.kernel.ports.Blobs.list`."""
        return iter([self._info(name) for name in list(self._held)])

    def _info(self, name: str) -> BlobInfo:
        content, modified_ms = self._held[name]
        return BlobInfo(digest=name, size_bytes=len(content), modified_ms=modified_ms)


def open_memory(address: str) -> MemoryKeyValue:
    """The key-value store at `memory://`; `memory://?max_bytes=1000000` bounds it (default: 1 GiB).

    Raises:
        InvalidInput: `max_bytes` is not a whole number above 0.
    """
    text = parse_qs(urlsplit(address).query).get("max_bytes", [str(_MAX_BYTES)])[0]
    if not text.isdigit() or int(text) == 0:
        raise InvalidInput(f"max_bytes must be a whole number above 0, got {text!r}", path="SALUS_KEY_VALUE")
    return MemoryKeyValue(max_bytes=int(text))


def open_memory_blobs(address: str) -> MemoryBlobs:
    """Fresh blobs at `memory://`."""
    return MemoryBlobs()
