"""The child process of `salus.backends.local`: reads tasks from one pipe, writes outcomes to another.

Frames are four bytes of length (big-endian) and JSON; an empty one says that the task has begun. When the
parent is gone the pipe ends, and so does this process with its whole group, even in the middle of a task.
"""

from __future__ import annotations

import importlib
import io
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from salus.kernel.ports import Outcome, Task
from salus.kernel.structs import canonical_json

_HEADER_BYTES = 4


def _read_tasks(pipe: BinaryIO, tasks: queue.SimpleQueue[Task]) -> None:
    while len(header := pipe.read(_HEADER_BYTES)) == _HEADER_BYTES:
        tasks.put(msgspec.json.decode(pipe.read(int.from_bytes(header, "big")), type=Task))
    os.killpg(0, signal.SIGKILL)


def _find(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is not callable")
    return found  # type: ignore[no-any-return]


def _run(task: Task) -> Outcome:
    """The outcome; a result that JSON cannot hold (a NaN, an object) is the task's error."""
    try:
        result = canonical_json(_find(task.function)(**task.arguments))
        return Outcome(ok=True, result=msgspec.Raw(result))
    except BaseException as error:  # noqa: BLE001 - a child's outer loop: outlives a task's SystemExit
        return Outcome(ok=False, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())


def _measured(task: Task) -> bytes:
    _reset_peak_memory()
    before_s = _cpu_s()
    outcome = _run(task)
    sys.stdout.flush()
    sys.stderr.flush()
    return msgspec.json.encode(
        msgspec.structs.replace(outcome, cpu_s=_cpu_s() - before_s, peak_memory_bytes=_peak_memory_bytes())
    )


def _cpu_s() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reset_peak_memory() -> None:
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        try:
            reset.write_text("5")
        except OSError:
            return


def _peak_memory_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _answer(pipe: BinaryIO, body: bytes) -> None:
    pipe.write(len(body).to_bytes(_HEADER_BYTES, "big") + body)
    pipe.flush()


def main() -> None:
    """Serves tasks until the parent goes away."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that output and errors come in the order they were written
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    reader = os.fdopen(int(sys.argv[1]), "rb")
    answers = os.fdopen(int(sys.argv[2]), "wb")
    for descriptor in (reader.fileno(), answers.fileno()):
        os.set_inheritable(descriptor, False)
    threading.Thread(target=_read_tasks, args=(reader, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        _answer(answers, b"")
        _answer(answers, _measured(task))


if __name__ == "__main__":
    main()
