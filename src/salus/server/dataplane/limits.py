"""What the data plane takes on at most; beyond it says so instead of slowing down for everybody."""

from __future__ import annotations

from salus.kernel.structs import Record


class Limits(Record):
    """Bounds of one data plane.

    `waiting_rows` counts the rows of all requests under way, `waiting_bytes` their bodies: above either, a
    request is refused with 503. Requests above `inline_rows` rows are scored in a thread.
    `spool_bytes` bounds the disk that unshipped records may take; above it records are lost and counted.
    """

    body_bytes: int = 16 * 1024 * 1024
    rows: int = 10_000
    waiting_rows: int = 40_000
    waiting_bytes: int = 128 * 1024 * 1024
    inline_rows: int = 256
    spool_bytes: int = 4 * 1024 * 1024 * 1024
    spool_file_bytes: int = 8 * 1024 * 1024
