"""Blobs on an object store: S3, Google Cloud Storage, Azure. A blob is `<first two hex digits>/<64 hex
digits>`.

Credentials and endpoint come from the environment, as the store's own tools read them (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, …). A put of an object is atomic there; no lock service is needed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import obstore
from blake3 import blake3
from obstore.exceptions import BaseError, GenericError
from obstore.store import ObjectStore, from_url

from salus.kernel.content import check_digest, digest, verify
from salus.kernel.errors import InvalidInput, NotFound, Unavailable
from salus.kernel.ports import BlobInfo

T = TypeVar("T")

_RENEW_AFTER_MS = 6 * 3600 * 1000
_SPOOL_BYTES = 8 << 20


class StoreBlobs:
    """Implements `salus.kernel.ports.Blobs` on an obstore `store`.

    `put` of a blob that is there writes it again only when it is older than six hours: that renews
    `modified_ms`, so that a collector with a longer grace period spares it.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, content: bytes) -> str:
        """See `salus.kernel.ports.Blobs.put`."""
        name = digest(content)
        if not self._is_young(name):
            self._call(lambda: obstore.put(self._store, _path(name), content))
        return name

    def put_stream(self, chunks: Iterator[bytes]) -> BlobInfo:
        """See `salus.kernel.ports.Blobs.put_stream`; spools to a temporary file, since the name comes
        last."""
        hasher = blake3()
        size = 0
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            for chunk in chunks:
                hasher.update(chunk)
                size += len(chunk)
                spool.write(chunk)
            name = f"blake3:{hasher.hexdigest()}"
            if not self._is_young(name):
                spool.seek(0)
                pieces = iter(lambda: spool.read(_SPOOL_BYTES), b"")
                self._call(lambda: obstore.put(self._store, _path(name), pieces))
        return BlobInfo(digest=name, size_bytes=size, modified_ms=time.time_ns() // 1_000_000)

    def get(self, digest: str) -> bytes:
        """See `salus.kernel.ports.Blobs.get`."""
        return verify(self._call(lambda: bytes(obstore.get(self._store, _path(digest)).bytes()), digest), digest)

    def get_range(self, digest: str, start: int, length: int) -> bytes:
        """See `salus.kernel.ports.Blobs.get_range`."""
        info = self.info(digest)
        if info is None:
            raise _missing(digest)
        end = min(start + length, info.size_bytes)
        if end <= start:
            return b""
        return self._call(lambda: bytes(obstore.get_range(self._store, _path(digest), start=start, end=end)), digest)

    def stream(self, digest: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """See `salus.kernel.ports.Blobs.stream`."""
        found = self._call(lambda: obstore.get(self._store, _path(digest)), digest)
        return (bytes(piece) for piece in found.stream(min_chunk_size=chunk_bytes))

    def info(self, digest: str) -> BlobInfo | None:
        """See `salus.kernel.ports.Blobs.info`."""
        path = _path(digest)
        try:
            found = self._call(lambda: obstore.head(self._store, path), digest)
        except NotFound:
            return None
        return BlobInfo(
            digest=digest,
            size_bytes=found["size"],
            modified_ms=round(found["last_modified"].timestamp() * 1000),
        )

    def delete(self, digest: str) -> None:
        """See `salus.kernel.ports.Blobs.delete`."""
        try:
            self._call(lambda: obstore.delete(self._store, _path(digest)), digest)
        except NotFound:
            return

    def list(self) -> Iterator[BlobInfo]:
        """See `salus.kernel.ports.Blobs.list`."""
        for batch in obstore.list(self._store):
            for found in batch:
                yield BlobInfo(
                    digest="blake3:" + found["path"].rpartition("/")[2],
                    size_bytes=found["size"],
                    modified_ms=round(found["last_modified"].timestamp() * 1000),
                )

    def _is_young(self, name: str) -> bool:
        info = self.info(name)
        return info is not None and time.time() * 1000 - info.modified_ms < _RENEW_AFTER_MS

    def _call(self, request: Callable[[], T], digest: str = "") -> T:
        try:
            return request()
        except FileNotFoundError:
            raise _missing(digest) from None
        except (BaseError, GenericError, OSError) as error:
            first_line = str(error).partition("\n")[0]
            raise Unavailable(f"the object store failed: {first_line}", retry_after_s=2.0) from error


def open_store(address: str) -> StoreBlobs:
    """The blobs at `s3://bucket/prefix`, `gs://bucket/prefix` or `az://account/container/prefix`.

    Raises:
        InvalidInput: the address or what the environment says about it is wrong.
    """
    try:
        return StoreBlobs(from_url(address))
    except (BaseError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise InvalidInput(f"{address} cannot be opened: {first_line}", path="SALUS_BLOBS") from error


def _path(digest: str) -> str:
    name = check_digest(digest).removeprefix("blake3:")
    return f"{name[:2]}/{name}"


def _missing(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}", path="$.digest")
