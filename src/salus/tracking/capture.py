"""What a run notes of its surroundings by itself: code, command, machine, packages, and what it uses while it runs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import metadata

import psutil

from salus.tracking.model import RunContext

_SAMPLE_S = 1.0
_PACKAGES = (
    "lightgbm", "numpy", "onnx", "onnxruntime", "pandas", "polars", "salus-mlops", "scikit-learn", "scipy",
    "skl2onnx", "torch", "xgboost",
)  # fmt: skip

PIPELINE_RUN_VARIABLE = "SALUS_PIPELINE_RUN"


def capture_context(inputs: list[str]) -> RunContext:
    """The context of a run that starts here and now; `inputs` are lineage nodes such as `dataset_version:flights@1`."""
    commit = _git("rev-parse", "HEAD")
    return RunContext(
        git_commit=commit,
        git_dirty=None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        command=" ".join(sys.argv)[:2_000],
        host=platform.node(),
        python=platform.python_version(),
        packages=_packages(),
        inputs=inputs,
        pipeline_run=current_pipeline_run(),
    )


def current_pipeline_run() -> str | None:
    """The pipeline run whose step this process is running, if any."""
    return os.environ.get(PIPELINE_RUN_VARIABLE) or None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class ResourceSampler:
    """Calls `report` about once a second with CPU (share of one core) and memory (bytes) of this process."""

    def __init__(self, report: Callable[[dict[str, float], int], None]) -> None:
        self._report = report
        self._stopping = threading.Event()
        self._process = psutil.Process()
        self._count = 0
        self._thread = threading.Thread(target=self._loop, name="salus-resources", daemon=True)

    def start(self) -> None:
        """Begins to sample."""
        self._process.cpu_percent()
        self._thread.start()

    def stop(self) -> None:
        """Samples a last time and ends."""
        self._stopping.set()
        self._thread.join()
        self._sample()

    def _loop(self) -> None:
        while not self._stopping.wait(_SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        with self._process.oneshot():
            values = {
                "system/cpu_ratio": self._process.cpu_percent() / 100,
                "system/memory_bytes": float(self._process.memory_info().rss),
            }
        self._report(values, self._count)
        self._count += 1
