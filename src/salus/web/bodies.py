"""Requests, read with care: bounded depth, strict types, integers of 64 bits, text that every engine can keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from litestar import Request
from litestar.typing import FieldDefinition
from msgspec import inspect

from salus.kernel.errors import InvalidInput
from salus.kernel.structs import decode_json

MAX_DEPTH = 100

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SUSPICIOUS = re.compile(rb"\\u0000|\d{19}")
_LONG_NUMBER = re.compile(r"[+-]?\d{19,}")
_REMEDY = "See /schema for the types of this route."


class CarefulRequest(Request[Any, Any, Any]):
    """A request whose JSON body becomes the type that its handler's `data` has, strictly: no text as a number."""

    async def json(self) -> Any:
        """The body.

        Raises:
            InvalidInput: it breaks a law of JSON, of its type, or of what can be stored; `path` says where.
        """
        return decode_body(await self.body(), self.route_handler.parsed_fn_signature.parameters["data"].annotation)


def decode_body(raw: bytes, type_: Any) -> Any:
    """`raw`, a JSON text from outside, as a `type_`.

    Raises:
        InvalidInput: it is not well-formed, nested too deep, of another type, or has an integer of more than 64 bits
            or a NUL character somewhere.
    """
    check_depth(raw)
    value = decode_json(raw, type_)
    if _passes_unknown(type_):
        check_known(msgspec.json.decode(raw), value, "$")
    if _SUSPICIOUS.search(raw):
        check_storable(msgspec.to_builtins(value), "$")
    return value


@cache
def _passes_unknown(type_: Any) -> bool:
    """Whether there is a struct in `type_` that takes fields which it does not know."""
    found: set[type] = set()

    def walk(info: inspect.Type) -> bool:
        if isinstance(info, inspect.StructType):
            if info.cls in found:
                return False
            found.add(info.cls)
            return not info.forbid_unknown_fields or any(walk(field.type) for field in info.fields)
        parts = (getattr(info, name, None) for name in ("item_type", "key_type", "value_type"))
        several = (*getattr(info, "types", ()), *getattr(info, "item_types", ()))
        return any(walk(part) for part in (*parts, *several) if part is not None)

    return walk(inspect.type_info(type_))


def check_known(sent: Any, taken: Any, path: str) -> None:
    """Refuses fields in `sent` that the structs in `taken`, which it became, do not have. Raises `InvalidInput`.

    What Salus stores and gives out tolerates fields of newer releases; what a person sends must not: a misspelt field
    would silently get its default.
    """
    if isinstance(taken, msgspec.Struct) and isinstance(sent, dict):
        fields = dict(zip(taken.__struct_encode_fields__, taken.__struct_fields__, strict=True))
        for name, item in sent.items():
            if name == taken.__struct_config__.tag_field:
                continue
            if name not in fields:
                raise InvalidInput(
                    f"Object contains unknown field `{name[:80]}`",
                    path=path,
                    remedy=f"It takes: {', '.join(fields)}.",
                )
            check_known(item, getattr(taken, fields[name]), f"{path}.{name}")
    elif isinstance(taken, dict) and isinstance(sent, dict):
        for name, item in sent.items():
            check_known(item, taken.get(name), f"{path}.{name}")
    elif isinstance(taken, list | tuple) and isinstance(sent, list):
        for index, (item, made) in enumerate(zip(sent, taken, strict=False)):
            check_known(item, made, f"{path}[{index}]")


def check_depth(raw: bytes) -> None:
    """Refuses JSON that is nested deeper than `MAX_DEPTH`, before anything walks through it. Raises `InvalidInput`.

    >>> check_depth(b'[{"a": "[[["}]')
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", raw).translate(_TO_SQUARE, delete=_NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    if b"[" in brackets:
        raise InvalidInput(
            f"the body is not valid: JSON must be well-formed and nested at most {MAX_DEPTH} deep",
            path="$",
            remedy="Close every bracket; log deep structures as an artifact.",
        )


def check_storable(value: Any, path: str) -> None:
    """Refuses integers beyond 64 bits and text with NUL characters, at any depth. Raises `InvalidInput`.

    >>> check_storable({"a": [2**63 - 1, "text"]}, "$")
    """
    for place, item in _leaves(value, path):
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise InvalidInput(
                f"an integer has 64 bits, -2^63 to 2^63 - 1, got {_short(item)}",
                path=place,
                remedy="Send larger numbers as floats (1e20) or as text.",
            )
        if isinstance(item, str) and "\x00" in item:
            raise InvalidInput(
                f"text has no NUL character, got {_short(item)}", path=place, remedy="Remove or replace it."
            )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


async def check_parameters(request: Request[Any, Any, Any]) -> None:
    """Holds the parameters of path and query to the laws of bodies; a body must be there. Raises `InvalidInput`."""
    if "data" in request.route_handler.parsed_fn_signature.parameters and not await request.body():
        raise InvalidInput("this route takes a JSON body, got none", path="$", remedy=_REMEDY)
    for name, value in request.path_params.items():
        check_storable(value, name)
    for name, value in request.query_params.multi_items():
        check_storable(value, name[:80])
        wanted = request.route_handler.parsed_fn_signature.parameters.get(name)
        if wanted is not None and _is_number(wanted) and _LONG_NUMBER.fullmatch(value.strip()):
            check_storable(int(value[:100]), name)


def _is_number(wanted: FieldDefinition) -> bool:
    return wanted.is_subclass_of(int) or any(inner.is_subclass_of(int) for inner in wanted.inner_types)
