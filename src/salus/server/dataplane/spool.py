"""The spool: predictions on disk before their answers go out, in files that only grow.

- `write` returns after write(2): a killed process loses nothing that was answered. A thread forces the file to the
  disk every 50 ms, which bounds what a power cut can take.
- A plane's records count from 1 without a gap, so a record that could not be written ends its plane: while the disk
  is full predictions are answered and their records counted as lost; once there is room, a new plane begins.
- `spool/<plane>/<first seq, 16 hex digits>.spool`; one process holds the folder at a time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from pathlib import Path

from salus.kernel.errors import Conflict
from salus.kernel.ids import new_id
from salus.server.dataplane.frames import frame
from salus.server.dataplane.limits import Limits

SYNC_EVERY_S = 0.05
RETRY_EVERY_S = 1.0
SUFFIX = ".spool"

log = logging.getLogger("salus.spool")


class Spool:
    """The writing end. `begin`, `write` are for one thread (the event loop), `forget` for one (the shipper)."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Takes the folder for this process and begins a new plane.

        Raises:
            Conflict: another process has the folder.
        """
        self.folder = folder
        self.plane = new_id("pln")
        self.next_seq = 1
        self.lost_records = 0
        self.problem: str | None = None
        self._limits = limits
        self._fd: int | None = None
        self._path: Path | None = None
        self._file_bytes = 0
        self._retry_at_s = 0.0
        self._dirty = False
        self._retired: list[int] = []
        self._closing = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_fd = _lock(folder / "lock")
        self._written_bytes = held_bytes(folder)
        self._shipped_bytes = 0
        self._thread = threading.Thread(target=self._sync_forever, name="salus-spool-sync", daemon=True)
        self._thread.start()

    @property
    def unshipped_bytes(self) -> int:
        """What the files hold now."""
        return self._written_bytes - self._shipped_bytes

    def begin(self) -> tuple[str, int]:
        """Plane and number of the next record. Starts a new plane if the last one could not be written on."""
        if self.problem is not None and time.monotonic() >= self._retry_at_s:
            self._start_anew()
        return self.plane, self.next_seq

    def write(self, payloads: list[bytes]) -> bool:
        """Appends the records that come next; whether they are written. If not, they are counted as lost."""
        if self.problem is None:
            content = b"".join([frame(payload) for payload in payloads])
            try:
                self._append(content)
            except OSError as error:
                self._fail(error)
        self.next_seq += len(payloads)
        if self.problem is not None:
            self.lost_records += len(payloads)
            return False
        return True

    def forget(self, size_bytes: int) -> None:
        """A shipped file of that size is gone."""
        self._shipped_bytes += size_bytes

    def is_active(self, path: Path) -> bool:
        """Whether `path` may still grow."""
        return self._fd is not None and path == self._path

    def close(self) -> None:
        """Forces everything to the disk and lets the folder go."""
        self._closing.set()
        self._thread.join()
        if self._fd is not None:
            self._retired.append(self._fd)
            self._fd = None
        self._sync()
        os.close(self._lock_fd)

    def _append(self, content: bytes) -> None:
        if self._fd is None or self._file_bytes >= self._limits.spool_file_bytes:
            self._open_next()
        self._check_room(len(content))
        assert self._fd is not None
        written = os.write(self._fd, content)
        if written != len(content):
            os.ftruncate(self._fd, self._file_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file_bytes += written
        self._written_bytes += written
        self._dirty = True

    def _check_room(self, size_bytes: int) -> None:
        most_bytes = self._limits.spool_bytes
        if self.unshipped_bytes + size_bytes > most_bytes:
            raise OSError(errno.EDQUOT, f"unshipped records fill the {most_bytes:,} bytes allowed")

    def _open_next(self) -> None:
        folder = self.folder / self.plane
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.next_seq:016x}{SUFFIX}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd is not None:
            self._retired.append(self._fd)
        self._fd, self._path, self._file_bytes = fd, path, 0

    def _fail(self, error: OSError) -> None:
        self.problem = f"predictions are answered but not recorded: {error.strerror or error}"
        self._retry_at_s = time.monotonic() + RETRY_EVERY_S
        log.error("%s", self.problem)

    def _start_anew(self) -> None:
        old_plane, old_seq = self.plane, self.next_seq
        self.plane, self.next_seq = new_id("pln"), 1
        try:
            self._check_room(0)
            self._open_next()
        except OSError as error:
            self.plane, self.next_seq = old_plane, old_seq
            self._fail(error)
            return
        self.problem = None

    def _sync_forever(self) -> None:
        while not self._closing.wait(SYNC_EVERY_S):
            self._sync()

    def _sync(self) -> None:
        retired, self._retired = self._retired, []
        try:
            if self._dirty and self._fd is not None:
                self._dirty = False
                os.fdatasync(self._fd)
            for fd in retired:
                os.fdatasync(fd)
        except OSError as error:
            log.error("the disk did not take the spool's last %.0f ms: %s", SYNC_EVERY_S * 1000, error)
        finally:
            for fd in retired:
                os.close(fd)


def held_bytes(folder: Path) -> int:
    """The size of all spool files under `folder`."""
    return sum(path.stat().st_size for path in folder.glob(f"*/*{SUFFIX}"))


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Conflict(
            f"another data plane writes to {path.parent}",
            remedy="Stop it, or give this one its own SALUS_HOME.",
        ) from error
    return fd
