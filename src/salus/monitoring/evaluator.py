"""The evaluator: a thread of the control plane that examines every endpoint whose traffic has moved on."""

from __future__ import annotations

import logging
import threading

from salus.kernel.ports import Blobs, Database
from salus.kernel.segments import Segments
from salus.monitoring.evaluation import Examiner
from salus.monitoring.model.watches import Watch
from salus.monitoring.store import watches as store

log = logging.getLogger("salus.monitoring")

_POLL_S = 1.0
_SETTLE_S = 0.25
_AT_ONCE = 20


class Evaluator:
    """Looks after each commit, and once a second. Several may run on one database: each window is written once."""

    def __init__(self, database: Database, segments: Segments, blobs: Blobs) -> None:
        self._database = database
        self._examiner = Examiner(database, segments, blobs)
        self._done: dict[tuple[str, str], tuple[object, int]] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="salus-monitoring", daemon=True)

    def start(self) -> None:
        """Begins to examine."""
        self._database.on_commit(self._wake.set)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the window under way."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def run_once(self) -> bool:
        """Does what is due, at most 20 windows an endpoint; tells whether there is more."""
        watches, traffic = self._database.read(
            lambda reader: (reader.records(Watch, store.select_watches()), store.all_traffic(reader))
        )
        more = False
        for watch in watches:
            key = (watch.workspace, watch.endpoint)
            seen = (traffic.get(key), watch.sequence)
            if traffic.get(key) is not None and self._done.get(key) != seen:
                more = self._examine(key) or more
        return more

    def _examine(self, key: tuple[str, str]) -> bool:
        for _ in range(_AT_ONCE):
            before = self._database.read(lambda reader: (store.all_traffic(reader).get(key), store.find(reader, *key)))
            try:
                progressed = self._examiner.examine(*key)
            except Exception:  # the outer loop of the evaluator: one endpoint must not stop the others
                log.exception("the examination of %s failed, trying again with the next traffic", key[1])
                progressed = False
            if not progressed:
                if before[1] is not None:
                    self._done[key] = (before[0], before[1].sequence)
                return False
            if self._stopping.is_set():
                return False
        return True

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                busy = self.run_once()
            except Exception:  # the outer loop of the evaluator
                log.exception("a look at the watches failed, trying again")
                busy = False
            if not busy:
                self._wake.wait(_POLL_S)
                self._stopping.wait(_SETTLE_S)
