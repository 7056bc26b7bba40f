"""Pipelines for the tests, as a project would hold them."""

from __future__ import annotations

import os
import sys
import time

import salus
from salus.pipelines.definition import pipeline, step

SCALE = 10


def scaled(value: int) -> int:
    return value * SCALE


@step(cache=True)
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def total(values: list[int], factor: int = 1) -> int:
    return scaled(sum(values)) * factor


@step(outputs=("low", "high"))
def split(values: list[int]) -> tuple[list[int], list[int]]:
    return values[: len(values) // 2], values[len(values) // 2 :]


@step
def join(parts: list[int]) -> int:
    return sum(parts)


@pipeline
def summing(count: int = 4, factor: int = 2):
    """Sums twice."""
    low, high = split(numbers(count))
    return join([total(low, factor), total(high, factor), 1])


@step(retries=1, backoff_s=0.1)
def fragile(folder: str) -> str:
    sys.stdout.write("fragile begins\n")
    if not os.path.exists(f"{folder}/mended"):
        raise ValueError("not mended yet")
    return "whole"


@step
def remember(folder: str) -> str:
    with open(f"{folder}/remembered", "a", encoding="utf-8") as file:
        file.write("once\n")
    return folder


@pipeline
def breaking(folder: str):
    return fragile(remember(folder))


@step
def slow(seconds: float, folder: str) -> str:
    with open(f"{folder}/pid", "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    for part in range(100):
        salus.progress(part / 100, f"part {part}")
        time.sleep(seconds / 100)
    return "done"


@pipeline
def slowly(folder: str, seconds: float = 30.0):
    return slow(seconds, folder)


@step(timeout_s=0.5)
def endless() -> None:
    time.sleep(60)


@pipeline
def hanging():
    return endless()


@step
def dies() -> None:
    os._exit(3)


@pipeline
def dying():
    return dies()


@step
def who() -> list[str]:
    return [os.environ.get(name, "") for name in ("SALUS_URL", "SALUS_PIPELINE_RUN", "SALUS_WORKSPACE")]


@pipeline
def asking():
    return who()
