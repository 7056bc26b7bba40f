"""Pages: lists come in pieces, each with the cursor of the next."""

from __future__ import annotations

import re
from typing import Generic, TypeVar

import msgspec

from salus.kernel.errors import InvalidInput

T = TypeVar("T")

MAX_LIMIT = 1_000

_NUMBER = re.compile(r"[0-9]{1,19}")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One piece of a list; `next_cursor` is None at its end."""

    items: list[T]
    next_cursor: str | None = None


def number_cursor(text: str, path: str = "cursor") -> int:
    """The number in a cursor that is one. Raises `InvalidInput`.

    >>> number_cursor("12")
    12
    """
    if not _NUMBER.fullmatch(text) or int(text) >= 2**63:
        raise InvalidInput(
            f"this cursor is a number of at most 63 bits, got {text[:40]!r}",
            path=path,
            remedy="Send the `next_cursor` of the page before as it is.",
        )
    return int(text)


def check_limit(limit: int) -> int:
    """`limit`, if it is lawful. Raises `InvalidInput`."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must be between 1 and {MAX_LIMIT}, got {limit}", path="limit")
    return limit
