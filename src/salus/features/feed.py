"""The feed of online changes: data planes wait here for what is new, and what they ask for next says what they have."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from salus.features.model import Acknowledged, OnlineChanges
from salus.kernel.clock import Clock
from salus.kernel.ports import Database
from salus.web.context import Context

SEEN_S = 10.0
_LOOK_AGAIN_S = 1.0


class OnlineFeed:
    """Wakes those who wait after each commit, and remembers how far each data plane of each workspace has read.

    What it remembers lives in this process: after a restart a plane counts again with its next request.
    """

    def __init__(self, database: Database) -> None:
        self._clock: Clock = database.clock
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._planes: dict[tuple[str, str], Acknowledged] = {}
        database.on_commit(self._wake)

    def acknowledge(self, workspace: str, plane: str, cursor: int) -> None:
        """`plane` has everything up to `cursor`."""
        seen = Acknowledged(plane=plane, cursor=cursor, seen_ms=self._clock.now_ms())
        with self._lock:
            self._planes[workspace, plane] = seen

    def planes(self, workspace: str) -> list[Acknowledged]:
        """The planes that were seen in the last ten seconds, by name."""
        oldest_ms = self._clock.now_ms() - round(SEEN_S * 1000)
        with self._lock:
            gone = [key for key, plane in self._planes.items() if plane.seen_ms < oldest_ms]
            for key in gone:
                del self._planes[key]
            found = [plane for (theirs, _), plane in self._planes.items() if theirs == workspace]
        return sorted(found, key=lambda plane: plane.plane)

    async def wait(self, look: Callable[[], Awaitable[OnlineChanges]], wait_s: float) -> OnlineChanges:
        """What `look` finds, as soon as it finds rows, or whatever it finds when `wait_s` seconds have passed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        woken = asyncio.Event()
        waiting = (loop, woken)
        with self._lock:
            self._waiting.add(waiting)
        try:
            while True:
                woken.clear()
                found = await look()
                left_s = deadline - loop.time()
                if found.rows or left_s <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), min(left_s, _LOOK_AGAIN_S))
        finally:
            with self._lock:
                self._waiting.discard(waiting)

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
        for loop, woken in waiting:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)


_feeds: WeakKeyDictionary[Context, OnlineFeed] = WeakKeyDictionary()
_making = threading.Lock()


def feed_of(context: Context) -> OnlineFeed:
    """The feed of one installation's engines."""
    with _making:
        return _feeds.setdefault(context, _feeds.get(context) or OnlineFeed(context.database))
