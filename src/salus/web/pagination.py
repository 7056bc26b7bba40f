"""Pages: lists come in pieces, each with the cursor of the next."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from salus.kernel.errors import InvalidInput

T = TypeVar("T")

MAX_LIMIT = 1_000


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One piece of a list; `next_cursor` is None at its end."""

    items: list[T]
    next_cursor: str | None = None


def check_limit(limit: int) -> int:
    """`limit`, if it is lawful. Raises `InvalidInput`."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must be between 1 and {MAX_LIMIT}, got {limit}", path="limit")
    return limit
