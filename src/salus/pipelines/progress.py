"""How far a step is: `salus.progress(0.4, "epoch 4 of 10")`, from inside the step."""

from __future__ import annotations

import time

from salus.kernel.errors import InvalidInput, SalusError
from salus.sdk.session import Session, path

_EVERY_S = 1.0
_AWAY_S = 10.0


class StepReporter:
    """Tells the server how far a job is: at most once a second, and never at the step's expense."""

    def __init__(self, session: Session, job: str, epoch: int) -> None:
        self._session = session
        self._path = path("jobs", job, "heartbeat")
        self._epoch = epoch
        self._not_before_s = 0.0

    def tell(self, ratio: float | None, text: str) -> None:
        """Sends it, unless something was sent a moment ago; the end (1.0) is always sent."""
        now_s = time.monotonic()
        if now_s < self._not_before_s and ratio != 1.0:
            return
        body = {"epoch": self._epoch, "progress": {"ratio": ratio, "text": text or None}}
        try:
            self._session.call("POST", self._path, body=body, timeout_s=2.0)
            self._not_before_s = now_s + _EVERY_S
        except SalusError:
            self._not_before_s = now_s + _AWAY_S


_reporter: StepReporter | None = None


def report_to(reporter: StepReporter | None) -> None:
    """From now on `progress` goes to `reporter` (nowhere, if None)."""
    global _reporter
    _reporter = reporter


def progress(ratio: float | None, text: str = "") -> None:
    """Says how far the present step is: a share from 0 to 1, and a word. Outside a step it does nothing.

    Raises:
        InvalidInput: the share is not between 0 and 1.
    """
    if ratio is not None and not 0 <= ratio <= 1:
        raise InvalidInput(f"progress is a share from 0 to 1, got {ratio}", path="ratio")
    if _reporter is not None:
        _reporter.tell(ratio, text)
