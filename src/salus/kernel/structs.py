"""Values and their encodings: msgspec Structs in and out of JSON, always by the same rules.

Canonical JSON (sorted keys, no white space, no NaN or infinity) is what digests and the ledger's hashes are made from.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, TypeVar, dataclass_transform

import msgspec

from salus.kernel.errors import InvalidInput

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what comes in from outside: frozen, and a field that nobody knows is an error, not ignored."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what Salus stores and gives out: frozen; a newer reader meets older data, so unknown fields pass."""


Short = Annotated[str, msgspec.Meta(max_length=255)]
"""Text that fits into a column of names."""

Line = Annotated[str, msgspec.Meta(max_length=512)]
"""Text that fits into a column of subjects and places."""

_canonical = msgspec.json.Encoder(order="deterministic")


def canonical_json(value: Any) -> bytes:
    """`value` as canonical JSON: the same value gives the same bytes on every machine.

    Raises:
        InvalidInput: a float in it is NaN or infinite, which JSON cannot hold.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    plain = msgspec.to_builtins(value)
    refuse_non_finite(plain, "$")
    return _canonical.encode(plain)


def digest_of(value: Any) -> str:
    """The SHA-256 of `value` in canonical JSON, as `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def refuse_non_finite(value: Any, path: str) -> None:
    """Refuses NaN and infinities in plain `value`, of which JSON would silently make null. Raises `InvalidInput`.

    >>> refuse_non_finite({"a": [1.5, None]}, "$")
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"a number must be finite here, got {value}", path=path)
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_non_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_non_finite(item, f"{path}[{index}]")


def decode_json(raw: bytes | str, type_: type[T]) -> T:
    """`raw` as a `type_`.

    Raises:
        InvalidInput: it is not JSON, or breaks the type's law; `path` says where.
    """
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}", path="$") from error


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """A msgspec error (`Expected int, got str - at $.points[1].step`) as ours."""
    message, _, path = str(error).partition(" - at `")
    return InvalidInput(message, path=path.rstrip("`") or "$")
