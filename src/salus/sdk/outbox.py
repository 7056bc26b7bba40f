"""The outbox: what a program says goes out in the background, in batches, and never holds the program up.

While the server is away the batches wait in files on disk and go out, in order and once each, when it is back.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from salus.kernel.content import digest
from salus.kernel.errors import Overloaded, SalusError, StorageFull, Unavailable
from salus.kernel.ids import new_id
from salus.sdk.session import Session

log = logging.getLogger("salus.outbox")

FLUSH_S = 0.2
BATCH = 500
_BOUND = 200_000
_RETRY_S = 1.0
_CLOSE_S = 10.0
_PASSING = (Unavailable, Overloaded, StorageFull)
"""Nothing was carried out, and the same letter may be taken later."""


class Letter(msgspec.Struct, frozen=True):
    """One request on its way out; `key` makes a repetition harmless."""

    path: str
    key: str
    body: msgspec.Raw


class Outbox:
    """Collects items and sends them with `pack`, which turns a list of items into one request's body.

    `put` takes microseconds. It blocks only when 200,000 items wait unsent in memory. Letters that an earlier process
    had to leave on disk for the same server and workspace are sent first.
    """

    def __init__(
        self, session: Session, path: str, pack: Callable[[list[object]], object], spool: Path | None = None
    ) -> None:
        self._session = session
        self._path = path
        self._pack = pack
        self._spool = spool or folder_of(session)
        self._items: deque[object] = deque()
        self._wake = threading.Event()
        self._passes = threading.Condition()
        self._asked = self._answered = 0
        self._close_by_s: float | None = None
        self._refused: SalusError | None = None
        self._left_behind = frozenset(self._spool.glob("*.json"))
        self._waiting: deque[Path] = deque(sorted(self._left_behind))
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
        with self._passes:
            self._asked += 1
            asked = self._asked
            self._wake.set()
            self._passes.wait_for(lambda: self._answered >= asked or not self._thread.is_alive(), timeout_s)
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    def close(self) -> bool:
        """Sends what is left, or leaves it on disk after ten seconds; whether all of it is with the server."""
        if self._close_by_s is None:
            self._close_by_s = time.monotonic() + _CLOSE_S
            self._wake.set()
            self._thread.join(timeout=2 * _CLOSE_S)
            atexit.unregister(self.close)
        return not self._items and not self._waiting

    def keep(self, letter: Letter) -> None:
        """Leaves a letter on disk, behind those that are there."""
        self._spool.mkdir(parents=True, exist_ok=True)
        file = self._spool / f"{letter.key}.json"
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            out.write(msgspec.json.encode(letter))
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
        self._waiting.append(file)

    def _loop(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            asked, closing = self._asked, self._close_by_s is not None
            while self._items:
                self._send(self._next_letter())
            with self._passes:
                self._answered = asked
                self._passes.notify_all()
            while self._waiting and self._resend(self._waiting[0]):
                self._waiting.popleft()
            if closing and (not self._waiting or time.monotonic() >= (self._close_by_s or 0.0)):
                return

    def _next_letter(self) -> Letter:
        items = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
        return Letter(self._path, new_id("log"), msgspec.Raw(msgspec.json.encode(self._pack(items))))

    def _send(self, letter: Letter) -> None:
        if self._waiting:
            self.keep(letter)
            return
        try:
            deliver(self._session, letter)
        except _PASSING:
            self.keep(letter)
        except SalusError as error:
            log.error("the server refused what was logged: %s", error)
            self._refused = self._refused or error

    def _resend(self, file: Path) -> bool:
        try:
            send_spooled(self._session, file)
        except _PASSING:
            self._wake.wait(_RETRY_S)
            return False
        except SalusError as error:
            log.error("the server refused what was logged, it is kept as %s: %s", file.with_suffix(".refused"), error)
            if file not in self._left_behind:
                self._refused = self._refused or error
        return True


def folder_of(session: Session) -> Path:
    """Where letters to the session's server and workspace wait."""
    destination = digest(f"{session.url} {session.settings.workspace}".encode())
    return session.settings.home_path / "outbox" / destination.removeprefix("blake3:")[:16]


def deliver(session: Session, letter: Letter) -> None:
    """Sends one letter."""
    session.call("POST", letter.path, body=letter.body, key=letter.key)


def send_spooled(session: Session, file: Path) -> None:
    """Sends a letter from disk and removes it; one that the server refuses is kept aside as `.refused`.

    Another process may have sent it meanwhile: then there is nothing to do.
    """
    try:
        letter = msgspec.json.decode(file.read_bytes(), type=Letter)
    except FileNotFoundError:
        return
    try:
        deliver(session, letter)
    except _PASSING:
        raise
    except SalusError:
        with contextlib.suppress(FileNotFoundError):
            file.rename(file.with_suffix(".refused"))
        raise
    file.unlink(missing_ok=True)
