"""Uploads: a request's body into Blobs, in memory of a few pieces, without holding up the event loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator

from salus.kernel.errors import TooLarge
from salus.kernel.ports import BlobInfo, Blobs

_PIECES = 8


async def spooled(body: AsyncIterator[bytes], blobs: Blobs, limit_bytes: int) -> BlobInfo:
    """Stores what `body` yields.

    Raises:
        TooLarge: it is longer than `limit_bytes`; nothing is stored then.
    """
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(_PIECES)

    def chunks() -> Iterator[bytes]:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    storing = asyncio.create_task(asyncio.to_thread(blobs.put_stream, chunks()))
    total = 0
    try:
        async for piece in body:
            total += len(piece)
            if total > limit_bytes:
                raise TooLarge(f"the body is longer than {limit_bytes:,} bytes", path="$")
            if piece:
                await _hand_over(pieces, piece, storing)
        await _hand_over(pieces, None, storing)
    except BaseException as error:
        await _hand_over(pieces, error, storing)
        await asyncio.wait([storing])
        storing.exception()
        raise
    return await storing


async def _hand_over(
    pieces: queue.Queue[bytes | BaseException | None],
    piece: bytes | BaseException | None,
    storing: asyncio.Task[BlobInfo],
) -> None:
    while not storing.done():
        try:
            pieces.put_nowait(piece)
        except queue.Full:
            await asyncio.sleep(0.002)
        else:
            return
