"""Identifiers: a prefix that says what it names, then 26 characters that sort by time of making (ULID)."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80

_lock = threading.Lock()
_last_ms = 0
_last_random = 0


def _crockford(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def new_id(prefix: str) -> str:
    """A fresh identifier such as `run_01k9...`, unique across processes and sorted by time within one.

    Source: ULID specification (A. Feerasta, 2016), lower-case Crockford base 32, monotonic variant.

    >>> a, b = new_id("run"), new_id("run")
    >>> a < b and a.startswith("run_") and len(a) == 30
    True
    """
    global _last_ms, _last_random
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms <= _last_ms:
            _last_random += 1
        else:
            _last_ms = now_ms
            _last_random = int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big") >> 1
        return f"{prefix}_{_crockford(_last_ms, 10)}{_crockford(_last_random, 16)}"
