"""Waiting for news: requests that ask "is there anything new?" and stay until there is (long polls)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from salus.kernel.ports import Database

T = TypeVar("T")

_LOOK_AGAIN_S = 1.0


class Waiting:
    """Wakes those who wait after each commit of this process that carried events, and for good when it closes."""

    def __init__(self, database: Database) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        database.on_commit(self._wake)

    @property
    def closing(self) -> bool:
        """Whether the process is about to end: nobody should wait any more."""
        return self._closing.is_set()

    def close(self) -> None:
        """Lets all who wait go, now and from now on."""
        self._closing.set()
        self._wake()

    async def until(
        self,
        look: Callable[[], Awaitable[T]],
        found: Callable[[T], bool],
        wait_s: float,
        *,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> T:
        """What `look` gives as soon as `found` says yes to it, or whatever it gives when `wait_s` have passed.

        It looks after each commit here, and every `look_again_s` for what other processes commit or time brings.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        woken = asyncio.Event()
        place = (loop, woken)
        with self._lock:
            self._waiting.add(place)
        try:
            while True:
                woken.clear()
                seen = await look()
                left_s = deadline - loop.time()
                if found(seen) or left_s <= 0 or self.closing:
                    return seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), min(left_s, look_again_s))
        finally:
            with self._lock:
                self._waiting.discard(place)

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
        for loop, woken in waiting:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)
