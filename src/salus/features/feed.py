"""The feed of online changes: what data planes ask for next says what they have."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from salus.features.model import Acknowledged
from salus.kernel.clock import Clock
from salus.web.context import Context

SEEN_S = 10.0
SETTLED_S = 6.0
"""A data plane that lost its control plane asks again within five seconds."""


class OnlineFeed:
    """Remembers how far each data plane of each workspace has read.

    What it remembers lives in this process: after a restart a plane counts again with its next request.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_ms = clock.now_ms()
        self._lock = threading.Lock()
        self._planes: dict[tuple[str, str], Acknowledged] = {}

    def acknowledge(self, workspace: str, plane: str, cursor: int) -> None:
        """`plane` has everything up to `cursor`."""
        seen = Acknowledged(plane=plane, cursor=cursor, seen_ms=self._clock.now_ms())
        with self._lock:
            self._planes[workspace, plane] = seen

    @property
    def settled(self) -> bool:
        """Whether this process has run for so long that every data plane that lives has asked it."""
        return self._clock.now_ms() - self._began_ms >= round(SETTLED_S * 1000)

    def planes(self, workspace: str) -> list[Acknowledged]:
        """The planes that were seen in the last ten seconds, by name."""
        oldest_ms = self._clock.now_ms() - round(SEEN_S * 1000)
        with self._lock:
            gone = [key for key, plane in self._planes.items() if plane.seen_ms < oldest_ms]
            for key in gone:
                del self._planes[key]
            found = [plane for (theirs, _), plane in self._planes.items() if theirs == workspace]
        return sorted(found, key=lambda plane: plane.plane)


_feeds: WeakKeyDictionary[Context, OnlineFeed] = WeakKeyDictionary()
_making = threading.Lock()


def feed_of(context: Context) -> OnlineFeed:
    """The feed of one installation's engines."""
    with _making:
        return _feeds.setdefault(context, _feeds.get(context) or OnlineFeed(context.clock))
