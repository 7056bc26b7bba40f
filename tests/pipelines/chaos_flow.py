"""A pipeline that notes outside of Salus what each of its steps did: one line, appended atomically."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from salus.pipelines.definition import pipeline, step


def note(path: str, **facts: Any) -> None:
    """Appends one line with O_APPEND: lines of several processes never mix."""
    line = json.dumps({"run": os.environ["SALUS_PIPELINE_RUN"], "at_ms": time.time() * 1000, **facts}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def work(path: str, name: str, taken: list[dict[str, Any]], value: int, seconds: float) -> dict[str, Any]:
    nonce = uuid.uuid4().hex
    note(path, what="begin", step=name, nonce=nonce, taken={item["step"]: item["nonce"] for item in taken})
    time.sleep(seconds)
    note(path, what="end", step=name, nonce=nonce)
    return {"step": name, "nonce": nonce, "value": value}


@step
def first(path: str, n: int, seconds: float) -> dict[str, Any]:
    return work(path, "first", [], n, seconds)


@step
def left(path: str, a: dict[str, Any], seconds: float) -> dict[str, Any]:
    return work(path, "left", [a], a["value"] * 3, seconds)


@step
def right(path: str, a: dict[str, Any], seconds: float) -> dict[str, Any]:
    return work(path, "right", [a], a["value"] + 5, seconds)


@step
def last(path: str, a: dict[str, Any], b: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    return work(path, "last", [a, *b], a["value"] * sum(item["value"] for item in b), seconds)


@pipeline
def storm(path: str, n: int, seconds: float = 0.2):
    a = first(path, n, seconds)
    return last(path, a, [left(path, a, seconds), right(path, a, seconds)], seconds)
