"""What happens in a worker's child process: inputs in, the project's function, outputs out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from salus.kernel.errors import Conflict, NotFound, SalusError, Unavailable
from salus.kernel.settings import load_settings
from salus.pipelines import values
from salus.pipelines.definition import Step
from salus.pipelines.graph import Bound, BoundList, BoundOutput, OutputRef, StepTask
from salus.pipelines.progress import StepReporter, report_to
from salus.pipelines.project import find
from salus.sdk.blobs import BlobCache
from salus.sdk.session import Session, path
from salus.tracking.capture import PIPELINE_RUN_VARIABLE

T = TypeVar("T")

_PATIENCE_S = 120.0
_PAUSE_S = 0.5


def run_step(job: str, epoch: int, task: dict[str, Any], project: str) -> dict[str, Any]:
    """Runs one step: `{"outputs": {name: ref}}`, or `{"refused": why}` where another attempt would be
    vain."""
    told = msgspec.convert(task, StepTask)
    session = Session(load_settings())
    blobs = BlobCache(session)
    os.chdir(project)
    try:
        step = find(Path(project), told.function)
        if not isinstance(step, Step):
            return {"refused": f"{told.function} is no step: mark it with @salus.step"}
        if step.code() != told.code:
            return {"refused": _moved_on(told)}
    except SalusError as error:
        return {"refused": str(error)}
    arguments = {name: _load(blobs, bound) for name, bound in told.arguments.items()}
    if not _still_ours(session, job, epoch):
        return {"refused": "the job was taken over before the step began"}
    os.environ[PIPELINE_RUN_VARIABLE] = told.run
    report_to(StepReporter(session, job, epoch))
    try:
        outputs = step.by_output(step.function(**arguments))
    finally:
        report_to(None)
        del os.environ[PIPELINE_RUN_VARIABLE]
    return {"outputs": {name: msgspec.to_builtins(_keep(blobs, value)) for name, value in outputs.items()}}


def run_job(job: str, epoch: int, function: str, payload: Any, project: str) -> Any:
    """Runs one job of a built-in kind: `function` is `module:name`, called with the payload and a session."""
    session = Session(load_settings())
    report_to(StepReporter(session, job, epoch))
    try:
        return find(Path(project), function)(payload, session)
    finally:
        report_to(None)


def _still_ours(session: Session, job: str, epoch: int) -> bool:
    """Asks once more before the project's code runs: the worker may have slept since it claimed the job."""
    try:
        session.call("POST", path("jobs", job, "heartbeat"), body={"epoch": epoch})
    except (Conflict, NotFound):
        return False
    except Unavailable:
        return True  # nobody can take it over while the server is away
    return True


def _moved_on(task: StepTask) -> str:
    return (
        f"the code of {task.function} is not the code that was deployed. "
        f"Deploy the pipeline {task.pipeline} again, then resume the run."
    )


def _load(blobs: BlobCache, bound: Bound) -> Any:
    if isinstance(bound, BoundOutput):
        content = _patiently(lambda: blobs.get(bound.ref.digest))
        return values.decode(bound.ref, content, run_code=True)
    if isinstance(bound, BoundList):
        return [_load(blobs, item) for item in bound.items]
    return bound.value


def _keep(blobs: BlobCache, value: Any) -> OutputRef:
    ref, content = values.encode(value)
    _patiently(lambda: blobs.put(content))
    return ref


def _patiently(call: Callable[[], T]) -> T:
    """`call()`, again and again while the server is away, for two minutes at most."""
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > until_s:
                raise
            time.sleep(_PAUSE_S)
