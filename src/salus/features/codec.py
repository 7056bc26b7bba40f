"""Online values as one packed binary per row: event time and features, without names.

Layout, little endian: version (1 byte), number of features (2), event time in ms (8), one bit for each feature that
is there (rounded up to bytes), then those that are: int and time 8 bytes, float 8, bool 1, string its length (4) and
its UTF-8. Features may be added to a view at its end: a row from before gives None for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from salus.features.online import newest_at
from salus.kernel.errors import Corrupt
from salus.kernel.schema import Column

_VERSION = 1
_HEAD = struct.Struct("<BHq")
_LENGTH = struct.Struct("<I")
_FIXED = {
    "int": struct.Struct("<q"),
    "time": struct.Struct("<q"),
    "float": struct.Struct("<d"),
    "bool": struct.Struct("<?"),
}


def pack(features: Sequence[Column], event_ms: int, values: Sequence[Any]) -> bytes:
    """One row as bytes; `values` are in the order of `features`, None where missing, times as milliseconds.

    >>> columns = (Column(name="temp", dtype="float"), Column(name="sky", dtype="string"))
    >>> raw = pack(columns, 1_000, (21.5, None))
    >>> len(raw), unpack(columns, raw)
    (20, (1000, (21.5, None)))
    """
    there = bytearray((len(features) + 7) // 8)
    parts = []
    for index, (column, value) in enumerate(zip(features, values, strict=True)):
        if value is None:
            continue
        there[index >> 3] |= 1 << (index & 7)
        if column.dtype == "string":
            text = value.encode()
            parts.append(_LENGTH.pack(len(text)) + text)
        else:
            parts.append(_FIXED[column.dtype].pack(value))
    return b"".join((_HEAD.pack(_VERSION, len(features), event_ms), bytes(there), *parts))


def event_ms_of(raw: bytes) -> int:
    """The event time of a packed row, without its values."""
    return int(_head(raw)[1])


def unpack(features: Sequence[Column], raw: bytes) -> tuple[int, tuple[Any, ...]]:
    """Event time and values of a packed row; features that were added since are None.

    Raises:
        Corrupt: the bytes are no row of these features.
    """
    count, event_ms = _head(raw)
    if count > len(features):
        raise Corrupt(f"a packed row has {count} features, the view has {len(features)}")
    at = _HEAD.size + (count + 7) // 8
    values: list[Any] = []
    try:
        for index, column in enumerate(features):
            if index >= count or not raw[_HEAD.size + (index >> 3)] >> (index & 7) & 1:
                values.append(None)
                continue
            value, at = _value(column, raw, at)
            values.append(value)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Corrupt(f"a packed row ends early or is damaged: {error}") from error
    if at != len(raw):
        raise Corrupt(f"a packed row has {len(raw) - at} bytes too many")
    return event_ms, tuple(values)


def read_fresh(
    features: Sequence[Column], rows: Sequence[bytes], at_ms: int, ttl_ms: int | None
) -> tuple[Any, ...] | None:
    """The values that hold at `at_ms` among packed rows of one key: never of the future, never past their time."""
    raw = newest_at([(event_ms_of(row), row) for row in rows], at_ms, ttl_ms)
    return None if raw is None else unpack(features, raw)[1]


def _head(raw: bytes) -> tuple[int, int]:
    if len(raw) < _HEAD.size:
        raise Corrupt(f"a packed row has at least {_HEAD.size} bytes, got {len(raw)}")
    version, count, event_ms = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise Corrupt(f"packed rows have the version {_VERSION}, got {version}")
    return count, event_ms


def _value(column: Column, raw: bytes, at: int) -> tuple[Any, int]:
    if column.dtype != "string":
        layout = _FIXED[column.dtype]
        return layout.unpack_from(raw, at)[0], at + layout.size
    (length,) = _LENGTH.unpack_from(raw, at)
    start = at + _LENGTH.size
    if start + length > len(raw):
        raise IndexError("text reaches beyond the end")
    return raw[start : start + length].decode(), start + length
