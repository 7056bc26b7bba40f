"""Every operation of the OpenAPI document, with every field of a lawful request spoiled in every way we know."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

SPOILED = [
    "null",
    "true",
    '""',
    "-1",
    "0",
    "1.5",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1" + "0" * 400,
    "1e308",
    "1e999",
    '"NaN"',
    '"Infinity"',
    r'"a\u0000b"',
    r'"\ud800x"',
    r'"\udfff"',
    '"' + "k" * 10_000 + '"',
    '"\U0001f4a5 ‮ \\u202e\\ufeff"',
    '"../../etc/passwd"',
    "[]",
    "{}",
    "[[1]]",
    "[null]",
    r'{"a\u0000b": 1}',
    '{"' + "k" * 10_000 + '": 1}',
    '{"a": 99999999999999999999}',
    '{"": ""}',
    "[" * 900 + "]" * 900,
    '{"a":' * 200 + "1" + "}" * 200,
    "[" * 5_000,
    '"\udcff"',
]
"""As JSON text, some of it not lawful JSON."""

HUGE = ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9" * 400]
NUMBERS = ["-1", "0", *HUGE, "1e999", "nan", "inf", "-inf", "1.5", "x"]
TEXTS = ["", "%00", "a%00b", "%ff%fe", "%ed%a0%80", "%F0%9F%92%A5", "%E2%80%AE", "k" * 5_000, "..%2f..%2fetc%2fpasswd"]
PLACE = "@@here@@"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value, itself included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def spoil(body: Any, path: tuple[Any, ...], text: str) -> bytes:
    """`body` as JSON with `text` at `path`."""
    if not path:
        return text.encode("utf-8", "surrogateescape")
    made = copy.deepcopy(body)
    there = made
    for key in path[:-1]:
        there = there[key]
    there[path[-1]] = PLACE
    return json.dumps(made).replace(json.dumps(PLACE), text).encode("utf-8", "surrogateescape")


def without(body: Any, path: tuple[Any, ...]) -> bytes:
    """`body` without the value at `path`."""
    made = copy.deepcopy(body)
    there = made
    for key in path[:-1]:
        there = there[key]
    del there[path[-1]]
    return json.dumps(made).encode()


def bodies(body: Any) -> Iterator[tuple[str, bytes]]:
    """Every spoiled version of a lawful body."""
    for path in places(body):
        yield from ((f"{path} = {text[:40]}", spoil(body, path, text)) for text in SPOILED)
        if path:
            yield f"without {path}", without(body, path)
    if isinstance(body, dict):
        yield "a field that nobody knows", json.dumps({**body, "nobody": 1}).encode()
    raw = json.dumps(body).encode()
    yield "half of it", raw[: len(raw) // 2]
    yield "twice", raw + raw
    yield "nothing", b""
    yield "in UTF-16", json.dumps(body).encode("utf-16")


def fuzz_bodies(town: Any, judge: Callable[..., None], share: float) -> int:
    chance = random.Random(7)
    sent = 0
    for operation in town.operations():
        if not operation.takes_json:
            continue
        body = town.lawful(operation.method, operation.template)
        address = town.address(operation.template)
        for what, raw in bodies(body):
            if chance.random() > share:
                continue
            head = town.head()
            answer = town.send(operation.method, address, raw)
            judge(town, answer, head, (operation.method, address, what))
            sent += 1
    return sent


def fuzz_parameters(town: Any, judge: Callable[..., None]) -> int:
    sent = 0
    for operation in town.operations():
        body = json.dumps(town.lawful(operation.method, operation.template)).encode() if operation.takes_json else None
        if operation.is_endless:
            continue
        for parameter in operation.parameters:
            name, place = parameter["name"], parameter["in"]
            for text in [*NUMBERS, *TEXTS]:
                address, headers = town.address(operation.template), {}
                if place == "path":
                    if not text:
                        continue
                    address = town.address(operation.template, **{name: text})
                elif place == "query":
                    address += f"?{quote(name)}={text}"
                else:
                    headers[name] = text
                head = town.head()
                answer = town.send(operation.method, address, body, headers)
                judge(town, answer, head, (operation.method, address[:200], headers))
                sent += 1
    return sent


def test_no_spoiled_body_makes_salus_fail(town: Any, check: Callable[..., None]) -> None:
    assert fuzz_bodies(town, check, share=0.2) > 500


@pytest.mark.slow
def test_no_spoiled_body_of_them_all_makes_salus_fail(town: Any, check: Callable[..., None]) -> None:
    assert fuzz_bodies(town, check, share=1.0) > 5_000


def test_no_spoiled_parameter_makes_salus_fail(town: Any, check: Callable[..., None]) -> None:
    assert fuzz_parameters(town, check) > 500
