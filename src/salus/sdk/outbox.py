"""The outbox: what a program says goes out in the background, in batches, and never holds the program up.

While the server is away the batches wait in files on disk and go out, in order and once each, when it is back.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from salus.kernel.errors import SalusError, Unavailable
from salus.kernel.ids import new_id
from salus.sdk.session import Session

log = logging.getLogger("salus.outbox")

FLUSH_S = 0.2
BATCH = 500
_BOUND = 200_000
_RETRY_S = 1.0


class Letter(msgspec.Struct, frozen=True):
    """One request on its way out; `key` makes a repetition harmless."""

    path: str
    key: str
    body: msgspec.Raw


class Outbox:
    """Collects items and sends them with `pack`, which turns a list of items into one request's body.

    `put` takes microseconds. It blocks only when 200,000 items wait unsent in memory.
    """

    def __init__(
        self, session: Session, path: str, pack: Callable[[list[object]], object], spool: Path | None = None
    ) -> None:
        self._session = session
        self._path = path
        self._pack = pack
        self._spool = spool or session.settings.home_path / "outbox"
        self._items: deque[object] = deque()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._refused: SalusError | None = None
        self._waiting: deque[Path] = deque()
        self._thread = threading.Thread(target=self._loop, name="salus-outbox", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, item: object) -> None:
        """Accepts one item."""
        self._items.append(item)
        if len(self._items) >= BATCH:
            self._wake.set()
            while len(self._items) > _BOUND:
                time.sleep(0.01)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Returns when all that was put before is with the server, or safely on disk.

        Raises:
            SalusError: the server refused a batch (the first refusal since the last flush).
        """
        self._idle.clear()
        self._wake.set()
        self._idle.wait(timeout_s)
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    def close(self) -> None:
        """Sends what is left, or leaves it on disk; then ends."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=10.0)
        atexit.unregister(self.close)

    def _loop(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closing
            while self._items:
                self._send(self._next_letter())
            while self._waiting and self._resend(self._waiting[0]):
                self._waiting.popleft()
            self._idle.set()
            if closing:
                return

    def _next_letter(self) -> Letter:
        items = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
        return Letter(self._path, new_id("log"), msgspec.Raw(msgspec.json.encode(self._pack(items))))

    def _send(self, letter: Letter) -> None:
        if self._waiting:
            self._keep(letter)
            return
        try:
            deliver(self._session, letter)
        except Unavailable:
            self._keep(letter)
        except SalusError as error:
            log.error("the server refused what was logged: %s", error)
            self._refused = self._refused or error

    def _keep(self, letter: Letter) -> None:
        self._spool.mkdir(parents=True, exist_ok=True)
        file = self._spool / f"{letter.key}.json"
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            out.write(msgspec.json.encode(letter))
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
        self._waiting.append(file)

    def _resend(self, file: Path) -> bool:
        try:
            send_spooled(self._session, file)
        except Unavailable:
            time.sleep(0 if self._closing else _RETRY_S)
            return False
        except SalusError as error:
            self._refused = self._refused or error
        return True


def deliver(session: Session, letter: Letter) -> None:
    """Sends one letter."""
    session.call("POST", letter.path, body=letter.body, key=letter.key)


def spooled(home: Path) -> Iterator[Path]:
    """The letters that wait on disk, oldest first."""
    return iter(sorted((home / "outbox").glob("*.json")))


def send_spooled(session: Session, file: Path) -> None:
    """Sends a letter from disk and removes it; one that the server refuses is kept aside as `.refused`."""
    letter = msgspec.json.decode(file.read_bytes(), type=Letter)
    try:
        deliver(session, letter)
    except Unavailable:
        raise
    except SalusError:
        file.rename(file.with_suffix(".refused"))
        raise
    file.unlink()
