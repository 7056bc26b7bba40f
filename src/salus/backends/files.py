"""Blobs on a folder: the embedded default. A blob is `<first two hex digits>/<64 hex digits>` under the root.

A new blob is a temporary file, synced, then renamed, and its folder synced: a reader never sees half a blob,
a kill leaves at most a temporary file (swept later), and what `put` acknowledged survives a power cut.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from blake3 import blake3

from salus.kernel.content import check_digest, digest, verify
from salus.kernel.errors import InvalidInput, NotFound, SalusError, StorageFull, Unavailable
from salus.kernel.ports import BlobInfo

_TEMPORARY = "tmp"
_SWEEP_AFTER_S = 3600.0

log = logging.getLogger("salus.blobs")


class FileBlobs:
    """Implements `salus.kernel.ports.Blobs` on the folder `root`, which is made if need be.

    `put` of a blob that is there renews its `modified_ms`, so that a collector with a grace period spares it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._known_folders: set[str] = set()
        (self._root / _TEMPORARY).mkdir(parents=True, exist_ok=True)
        self.sweep()

    def put(self, content: bytes) -> str:
        """See `salus.kernel.ports.Blobs.put`."""
        name = digest(content)
        if not self._renew(name):
            self._write(iter((content,)), expected=name)
        return name

    def put_stream(self, chunks: Iterator[bytes]) -> BlobInfo:
        """See `salus.kernel.ports.Blobs.put_stream`."""
        info = self.info(self._write(chunks))
        if info is None:
            raise Unavailable("a blob was deleted while it was being stored", retry_after_s=1.0)
        return info

    def get(self, digest: str) -> bytes:
        """See `salus.kernel.ports.Blobs.get`."""
        try:
            return verify(self.path(digest).read_bytes(), digest)
        except FileNotFoundError:
            raise _missing(digest) from None

    def get_range(self, digest: str, start: int, length: int) -> bytes:
        """See `salus.kernel.ports.Blobs.get_range`."""
        try:
            with self.path(digest).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            raise _missing(digest) from None

    def stream(self, digest: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """See `salus.kernel.ports.Blobs.stream`."""
        try:
            file = self.path(digest).open("rb")
        except FileNotFoundError:
            raise _missing(digest) from None

        def pieces() -> Iterator[bytes]:
            with file:
                while piece := file.read(chunk_bytes):
                    yield piece

        return pieces()

    def info(self, digest: str) -> BlobInfo | None:
        """See `salus.kernel.ports.Blobs.info`."""
        try:
            found = self.path(digest).stat()
        except FileNotFoundError:
            return None
        return BlobInfo(digest=digest, size_bytes=found.st_size, modified_ms=found.st_mtime_ns // 1_000_000)

    def delete(self, digest: str) -> None:
        """See `salus.kernel.ports.Blobs.delete`."""
        self.path(digest).unlink(missing_ok=True)

    def list(self) -> Iterator[BlobInfo]:
        """See `salus.kernel.ports.Blobs.list`."""
        for folder in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            for file in folder.iterdir():
                info = self.info(f"blake3:{file.name}")
                if info is not None:
                    yield info

    def path(self, digest: str) -> Path:
        """Where the blob lies, if it is there: engines that can read files read it without a copy."""
        name = check_digest(digest).removeprefix("blake3:")
        return self._root / name[:2] / name

    def sweep(self, *, older_than_s: float = _SWEEP_AFTER_S) -> int:
        """Removes temporary files that nobody wrote to for `older_than_s`; returns how many."""
        swept = 0
        for file in (self._root / _TEMPORARY).iterdir():
            try:
                if time.time() - file.stat().st_mtime >= older_than_s:
                    file.unlink()
                    swept += 1
            except FileNotFoundError:
                continue
        return swept

    def _renew(self, name: str) -> bool:
        """Whether the blob is there, made durable and young again."""
        try:
            os.utime(self.path(name))
        except FileNotFoundError:
            return False
        self._settle(self.path(name).parent)
        return True

    def _write(self, chunks: Iterator[bytes], expected: str | None = None) -> str:
        temporary = self._root / _TEMPORARY / uuid4().hex
        hasher = blake3()
        try:
            with temporary.open("xb", buffering=0) as file:
                for chunk in chunks:
                    if expected is None:
                        hasher.update(chunk)
                    _write_all(file.fileno(), chunk)
                _sync(file.fileno())
            name = expected or f"blake3:{hasher.hexdigest()}"
            folder = self.path(name).parent
            folder.mkdir(exist_ok=True)
            temporary.replace(self.path(name))
            self._settle(folder)
        except OSError as error:
            raise _translated(error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return name

    def _settle(self, folder: Path) -> None:
        """Makes the names in `folder`, and its own name, durable."""
        _sync_folder(folder)
        if folder.name not in self._known_folders:
            _sync_folder(self._root)
            self._known_folders.add(folder.name)


def open_files(address: str) -> FileBlobs:
    """The blobs at `file:///folder`.

    Raises:
        InvalidInput: the address names no absolute folder.
    """
    path = address.removeprefix("file://")
    if path == address or not path.startswith("/"):
        raise InvalidInput(f"a folder's address is file:///folder, got {address!r}", path="SALUS_BLOBS")
    return FileBlobs(Path(path))


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno == errno.EIO:
            log.critical("stable storage failed, ending the process: %s", error)
            os._exit(70)
        raise


def _translated(error: OSError) -> SalusError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(
            "the disk is full: the blob was not stored", remedy="Free some space; writes then pass again."
        )
    return Unavailable(f"the blobs' folder cannot be written: {error}", retry_after_s=1.0)


def _missing(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}", path="$.digest")
