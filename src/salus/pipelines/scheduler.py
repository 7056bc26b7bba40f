"""The scheduler: the control plane's clock hand. It frees the jobs of silent workers and starts what is
due."""

from __future__ import annotations

import logging
import threading

from salus.kernel import claims, schedules
from salus.kernel.ports import Database
from salus.pipelines import service, work

log = logging.getLogger("salus.scheduler")


class Scheduler:
    """Looks every `period_s` in a thread of its own; it writes only when there is something to write.

    Several may run on one database (one in each server): each job and each firing is dealt with once.
    """

    def __init__(self, database: Database, period_s: float = 0.5) -> None:
        self._database = database
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="salus-scheduler", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the look under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def run_once(self) -> None:
        """One look."""
        if self._database.read(claims.any_lost):
            self._database.write(work.sweep)
        if self._database.read(lambda reader: schedules.any_due(reader, service.SCHEDULE_PREFIX)):
            self._database.write(service.start_due)

    def _loop(self) -> None:
        while not self._stopping.wait(self._period_s):
            try:
                self.run_once()
            except Exception:  # the outer loop of the scheduler
                log.exception("the scheduler's look failed, trying again")
