"""Tasks in child processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from salus.backends.local import LocalExecutor, open_processes
from salus.kernel.errors import InvalidInput
from salus.kernel.ports import Task
from salus.testing.conformance import ExecutorConformance

SLEEP = "salus.testing.conformance:sleep_after"


class TestLocal(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Iterator[LocalExecutor]:
        opened = LocalExecutor(workers=2)
        yield opened
        opened.close()


def await_text(path: Path) -> str:
    deadline_s = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return path.read_text()


def await_end(pid: int) -> None:
    deadline_s = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_children_are_warm() -> None:
    executor = LocalExecutor(workers=1)
    pids = [executor.submit(Task(function="os:getpid", arguments={})).wait(20) for _ in range(3)]
    executor.close()
    assert len({outcome.result for outcome in pids if outcome}) == 1


def test_an_idle_child_that_dies_is_replaced() -> None:
    executor = LocalExecutor(workers=1)
    task = Task(function="os:getpid", arguments={})
    first = executor.submit(task).wait(20)
    assert first is not None
    os.kill(first.result, signal.SIGKILL)
    await_end(first.result)
    second = executor.submit(task).wait(20)
    executor.close()
    assert second is not None
    assert second.ok
    assert second.result != first.result


def test_processes_that_cannot_start_are_an_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho cannot start >&2; exit 1\n")
    broken.chmod(0o755)
    executor = LocalExecutor(workers=1)
    for interpreter, text in ((str(broken), "died before it took"), ("/nowhere/python", "could be started")):
        monkeypatch.setattr(sys, "executable", interpreter)
        outcome = executor.submit(Task(function="os:getpid", arguments={})).wait(20)
        assert outcome is not None
        assert outcome.crashed
        assert text in outcome.error
        assert ("cannot start" in outcome.logs) == (interpreter == str(broken))
    monkeypatch.undo()
    after = executor.submit(Task(function="os:getpid", arguments={})).wait(20)
    executor.close()
    assert after is not None
    assert after.ok


def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    out = tmp_path / "pid"
    script = f"import os, time; open({str(out)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    executor = LocalExecutor(workers=1)
    handle = executor.submit(Task(function="subprocess:call", arguments={"args": [sys.executable, "-c", script]}))
    grandchild = int(await_text(out))
    handle.cancel()
    outcome = handle.wait(20)
    executor.close()
    assert outcome is not None
    assert outcome.error == "the task was cancelled"
    await_end(grandchild)


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
from salus.backends.local import LocalExecutor
from salus.kernel.ports import Task
LocalExecutor(workers=1).submit(
    Task(function="{SLEEP}", arguments=dict(path=r"{tmp_path / "pid"}", seconds=60))
).wait()
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        child = int(await_text(tmp_path / "pid"))
        parent.send_signal(signal.SIGKILL)
    await_end(child)


@pytest.mark.parametrize("address", ["processes://?workers=0", "processes://?workers=x"])
def test_a_wrong_number_of_workers_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="workers"):
        open_processes(address)


def test_a_function_that_is_no_name_is_refused() -> None:
    executor = open_processes("processes://?workers=1")
    with pytest.raises(InvalidInput, match="module:function"):
        executor.submit(Task(function="nonsense", arguments={}))
    executor.close()
