"""Housekeeping of the control plane: small segments are folded into large ones, what nobody needs is let go."""

from __future__ import annotations

import logging
import threading
import time

from salus.kernel import idempotency
from salus.kernel.ports import Database
from salus.kernel.segments import Segments
from salus.kernel.segments_compaction import collect_garbage, compact

log = logging.getLogger("salus.maintenance")

COMPACT_EVERY_S = 15.0
COLLECT_EVERY_S = 600.0


class Maintenance:
    """Folds every `compact_every_s` and collects garbage every `collect_every_s`, in a thread of its own.

    Each step is a transaction of its own: a process that is killed between two leaves nothing half done.
    """

    def __init__(
        self,
        database: Database,
        segments: Segments,
        *,
        compact_every_s: float = COMPACT_EVERY_S,
        collect_every_s: float = COLLECT_EVERY_S,
    ) -> None:
        self._database = database
        self._segments = segments
        self._compact_every_s = compact_every_s
        self._collect_every_s = collect_every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="salus-maintenance", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def fold(self) -> int:
        """Folds every table that is worth it; returns how many files were made."""
        folded = 0
        for table in self._database.read(self._segments.tables):
            if self._stopping.is_set():
                break
            while compact(self._database, self._segments, table) is not None and not self._stopping.is_set():
                folded += 1
        return folded

    def collect(self) -> None:
        """Deletes files that no snapshot reaches any more, and old idempotency keys."""
        collect_garbage(self._database, self._segments)
        self._database.write(idempotency.forget_old)

    def _loop(self) -> None:
        collected_s = time.monotonic()
        while not self._stopping.wait(self._compact_every_s):
            try:
                self.fold()
                if time.monotonic() - collected_s >= self._collect_every_s:
                    self.collect()
                    collected_s = time.monotonic()
            except Exception:  # the outer loop of maintenance
                log.exception("maintenance failed, trying again")
