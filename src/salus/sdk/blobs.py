"""Blobs from a program: bytes up by content, files down into a cache that never goes stale (a name is its content)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import msgspec

from salus.kernel.content import check_digest, digest, verify
from salus.kernel.structs import Record
from salus.sdk.session import Session, path


class _Stored(Record):
    digest: str
    size_bytes: int


class BlobCache:
    """The server's blobs, kept under `home/cache/blobs` once they were fetched."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = session.settings.home_path / "cache" / "blobs"

    def put(self, content: bytes) -> str:
        """Uploads `content` and returns its digest. Raises `Corrupt` when other bytes arrived than were sent."""
        raw = self._session.upload("PUT", path("blobs"), content)
        stored = msgspec.json.decode(raw, type=_Stored)
        verify(content, stored.digest)
        return stored.digest

    def get(self, name: str) -> bytes:
        """The bytes of a digest. Raises `NotFound`, and `Corrupt` when they are not what the digest says."""
        return self.fetch(name).read_bytes()

    def fetch(self, name: str) -> Path:
        """A file that holds the bytes of a digest; downloaded where the cache has it not. Do not write to it."""
        target = self._folder / check_digest(name).removeprefix("blake3:")
        if target.exists() and digest(target.read_bytes()) == name:
            return target
        content = verify(b"".join(self._session.download(path("blobs", name))), name)
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{target.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        unfinished.write_bytes(content)
        unfinished.replace(target)
        return target
