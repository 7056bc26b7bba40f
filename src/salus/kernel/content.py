"""Content addresses: what a blob is called is what it is (BLAKE3 of its bytes)."""

from __future__ import annotations

import re

from blake3 import blake3

from salus.kernel.errors import Corrupt, InvalidInput

_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")


def digest(content: bytes) -> str:
    """The address of `content`: `blake3:<64 hex digits>`.

    >>> digest(b"")
    'blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
    """
    return "blake3:" + blake3(content).hexdigest()


def check_digest(value: str, path: str = "$.digest") -> str:
    """`value`, if it has the form of a digest.

    Raises:
        InvalidInput: it has not. Nothing but a digest ever names a stored object.
    """
    if not _DIGEST.fullmatch(value):
        raise InvalidInput(f"a digest is 'blake3:' and 64 hex digits, got {value[:80]!r}", path=path)
    return value


def verify(content: bytes, expected: str) -> bytes:
    """`content`, if its digest is `expected`.

    Raises:
        Corrupt: it is not.
    """
    actual = digest(content)
    if actual != expected:
        raise Corrupt(
            f"stored bytes have the digest {actual}, expected {expected}",
            remedy="Restore the object from a backup or upload it again.",
        )
    return content
