"""How large an Arrow IPC file becomes when it is read, from what it says of its buffers: without reading one.

A reader allocates what a compressed buffer says it becomes, so a few bytes can ask for all memory there is. Source:
Apache Arrow columnar format 1.5, "IPC File Format" and "Buffer compression"; FlatBuffers internals, "Tables".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from salus.kernel.errors import InvalidInput

_MAGIC = b"ARROW1"
_DICTIONARIES, _BATCHES = 2, 3
_DICTIONARY_BATCH = 2
_BLOCK = struct.Struct("<qi4xq")
_BUFFER = struct.Struct("<qq")


def declared_bytes(content: bytes, path: str = "$") -> int:
    """The bytes of all buffers of the Arrow IPC file `content`, uncompressed, as the file declares them.

    Raises:
        InvalidInput: the file is damaged.
    """
    try:
        return sum(_batch_bytes(content, block) for block in _blocks(content))
    except (struct.error, IndexError, ValueError) as error:
        raise InvalidInput(
            f"the Arrow IPC file is damaged: {error}", path=path, remedy="Write it anew and upload it again."
        ) from error


class _Table:
    """A FlatBuffers table: `field` gives the place of a field, or None where it is left out."""

    def __init__(self, raw: bytes, at: int) -> None:
        self.raw = raw
        self.at = at
        self._slots = at - _read("<i", raw, at)
        self._size = _read("<H", raw, self._slots)

    def field(self, index: int) -> int | None:
        place = 4 + 2 * index
        offset = _read("<H", self.raw, self._slots + place) if place < self._size else 0
        return self.at + offset if offset else None

    def table(self, index: int) -> _Table | None:
        at = self.field(index)
        return None if at is None else _Table(self.raw, at + _read("<I", self.raw, at))

    def structs(self, index: int, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
        at = self.field(index)
        if at is None:
            return
        start = at + _read("<I", self.raw, at)
        for number in range(_read("<I", self.raw, start)):
            yield layout.unpack_from(self.raw, start + 4 + number * layout.size)


def _read(layout: str, raw: bytes, at: int) -> int:
    if at < 0:
        raise ValueError("an offset points before its beginning")
    (value,) = struct.unpack_from(layout, raw, at)
    return int(value)


def _root(raw: bytes) -> _Table:
    return _Table(raw, _read("<I", raw, 0))


def _blocks(content: bytes) -> Iterator[tuple[int, ...]]:
    end = len(content) - len(_MAGIC) - 4
    size = _read("<i", content, end)
    if not 0 < size <= end:
        raise ValueError("its footer is larger than itself")
    footer = _root(content[end - size : end])
    yield from footer.structs(_DICTIONARIES, _BLOCK)
    yield from footer.structs(_BATCHES, _BLOCK)


def _batch_bytes(content: bytes, block: tuple[int, ...]) -> int:
    offset, metadata_size, _ = block
    start = offset + (8 if _read("<I", content, offset) == 0xFFFFFFFF else 4)
    body = offset + metadata_size
    if not start < body <= len(content):
        raise ValueError("a batch lies outside")
    message = _root(content[start:body])
    kind = message.field(1)
    batch = message.table(2)
    if kind is not None and message.raw[kind] == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(1)
    if batch is None:
        return 0
    compressed = batch.field(3) is not None
    return sum(_buffer_bytes(content, body + at, size, compressed=compressed) for at, size in batch.structs(2, _BUFFER))


def _buffer_bytes(content: bytes, at: int, size: int, *, compressed: bool) -> int:
    if size < 0 or at + size > len(content):
        raise ValueError("a buffer lies outside")
    if not compressed or size < 8:
        return size
    declared = _read("<q", content, at)
    if declared < -1:
        raise ValueError(f"a buffer says that it has {declared} bytes")
    return size if declared == -1 else declared
