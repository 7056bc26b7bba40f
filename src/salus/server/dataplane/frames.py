"""Records in a file, one after the other: length, CRC32, payload. A torn tail is seen as such.

offset  bytes  what
0       4      length of the payload, little endian
4       4      CRC32 of the payload, little endian
8       n      the payload
"""

from __future__ import annotations

import struct
import zlib

_HEAD = struct.Struct("<II")
HEAD_BYTES = _HEAD.size
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


def frame(payload: bytes) -> bytes:
    """`payload` as it stands in a file.

    >>> unframe(frame(b"one") + frame(b"two") + b"torn")
    ([b'one', b'two'], 22)
    """
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def unframe(content: bytes, *, limit: int | None = None) -> tuple[list[bytes], int]:
    """The whole payloads at the head of `content`, at most `limit`, and how many bytes they take with their frames.

    Stops at the first frame that is cut short or whose CRC32 does not fit.
    """
    payloads: list[bytes] = []
    at, end = 0, len(content)
    while at + HEAD_BYTES <= end and (limit is None or len(payloads) < limit):
        length, checksum = _HEAD.unpack_from(content, at)
        start = at + HEAD_BYTES
        if not 0 < length <= MAX_PAYLOAD_BYTES or start + length > end:
            break
        payload = content[start : start + length]
        if zlib.crc32(payload) != checksum:
            break
        payloads.append(payload)
        at = start + length
    return payloads, at
