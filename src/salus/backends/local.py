"""Executor on warm child processes of this machine: the embedded default.

Each child (`salus.backends.local_child`) is a fresh interpreter that leads a process group of its own and
serves one task after the other. A child that dies, is cancelled or runs out of time is killed with its whole
group, and the next task gets a fresh one; a child also ends when this process does, however that happens.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

from salus.kernel.errors import InvalidInput, Unavailable
from salus.kernel.ports import Outcome, Task

_LOGS_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024
_FRAME_HEADER_BYTES = 4
_STARTS = 3


class LocalHandle:
    """Implements `salus.kernel.ports.Handle`."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.cancelled = False
        self._outcome: Outcome | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._kill: Callable[[], None] | None = None

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """See `salus.kernel.ports.Handle.wait`."""
        self._done.wait(timeout_s)
        return self._outcome

    def cancel(self) -> None:
        """See `salus.kernel.ports.Handle.cancel`."""
        with self._lock:
            if self._done.is_set():
                return
            self.cancelled = True
            if self._kill is not None:
                self._kill()
        self._finish_if_idle()

    def begin(self, kill: Callable[[], None]) -> bool:
        """Marks the task as running in what `kill` ends; False when it was cancelled before."""
        with self._lock:
            if self.cancelled:
                return False
            self._kill = kill
            return True

    def finish(self, outcome: Outcome) -> None:
        """Hands `outcome` to whoever waits; the first one counts, and a cancelled task has only one."""
        with self._lock:
            self._kill = None
            if not self._done.is_set():
                self._outcome = _cancelled(outcome.logs) if self.cancelled else outcome
                self._done.set()

    def _finish_if_idle(self) -> None:
        if self._kill is None:
            self.finish(_cancelled())


class _Child:
    """One child process and the pipes to it."""

    def __init__(self) -> None:
        task_read, self._tasks = os.pipe()
        self._answers, answer_write = os.pipe()
        self._output, output_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "salus.backends.local_child", str(task_read), str(answer_write)],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(task_read, answer_write),
                start_new_session=True,
            )
        finally:
            for descriptor in (task_read, answer_write, output_write):
                os.close(descriptor)
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._selector.register(self._output, selectors.EVENT_READ)
        self._logs = bytearray()
        self._received = bytearray()
        self._ended = False

    @property
    def usable(self) -> bool:
        """Whether it can take another task: it lives, and nobody has ended it."""
        return not self._ended and self._process.poll() is None

    def run(self, task: Task) -> Outcome | None:
        """Runs one task; None when the child was gone before the task began, so that another may run it."""
        self._logs.clear()
        deadline_s = None if task.timeout_s is None else time.monotonic() + task.timeout_s
        body = msgspec.json.encode(task)
        try:
            self._send(len(body).to_bytes(_FRAME_HEADER_BYTES, "big") + body)
            if self._receive(deadline_s) is None:
                return self._crash() if self._ended else None
            answer = self._receive(deadline_s)
        except TimeoutError:
            self.kill()
            self._drain()
            error = f"the task ran longer than its limit of {task.timeout_s} s and was ended"
            return Outcome(ok=False, error=error, logs=self._tail())
        except BrokenPipeError:
            return None
        if answer is None:
            return self._crash()
        self._drain()
        return msgspec.structs.replace(msgspec.json.decode(answer, type=Outcome), logs=self._tail())

    def kill(self) -> None:
        """Ends the whole group at once."""
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the group and lets go of the pipes."""
        self.kill()
        self._process.wait()
        self._selector.close()
        for descriptor in (self._tasks, self._answers, self._output):
            os.close(descriptor)

    def _send(self, frame: bytes) -> None:
        view = memoryview(frame)
        while view:
            view = view[os.write(self._tasks, view) :]

    def _receive(self, deadline_s: float | None) -> bytes | None:
        """The next answer, or None when the child is gone; keeps its output flowing meanwhile."""
        while True:
            if (frame := self._next_frame()) is not None:
                return frame
            wait_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            ready = {key.fd for key, _ in self._selector.select(wait_s)}
            if self._output in ready:
                self._drain()
            if self._answers in ready:
                piece = os.read(self._answers, _PIECE_BYTES)
                if not piece:
                    return None
                self._received += piece
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise TimeoutError

    def _next_frame(self) -> bytes | None:
        start = _FRAME_HEADER_BYTES
        end = start + int.from_bytes(self._received[:start], "big")
        if len(self._received) < max(start, end):
            return None
        frame = bytes(self._received[start:end])
        del self._received[:end]
        return frame

    def _drain(self) -> None:
        while True:
            try:
                piece = os.read(self._output, _PIECE_BYTES)
            except BlockingIOError:
                return
            if not piece:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._output)
                return
            self._logs += piece
            del self._logs[:-_LOGS_BYTES]

    def _crash(self) -> Outcome:
        self.kill()
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._drain()
        return Outcome(ok=False, error=f"the task's process {how} before it answered", crashed=True, logs=self._tail())

    def last_words(self) -> str:
        """The end of what a child wrote that is gone."""
        self._process.wait()
        self._drain()
        return self._tail()

    def _tail(self) -> str:
        return self._logs.decode(errors="replace")


class LocalExecutor:
    """Implements `salus.kernel.ports.Executor` with at most `workers` processes, started when first
    needed."""

    def __init__(self, *, workers: int) -> None:
        self._waiting: queue.SimpleQueue[LocalHandle | None] = queue.SimpleQueue()
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._open: set[LocalHandle] = set()
        self._closed = False
        self._lock = threading.Lock()

    def submit(self, task: Task) -> LocalHandle:
        """See `salus.kernel.ports.Executor.submit`.

        Raises:
            InvalidInput: the task's function is not named as `module:function`, or an argument is no JSON.
        """
        if not all(task.function.partition(":")):
            raise InvalidInput(f"a task's function is 'module:function', got {task.function!r}", path="$.function")
        handle = LocalHandle(task)
        with self._lock:
            if self._closed:
                raise Unavailable("the executor is closed", retry_after_s=1.0)
            self._open.add(handle)
            if len(self._open) > len(self._threads) and len(self._threads) < self._workers:
                thread = threading.Thread(target=self._serve, name="salus-executor", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._waiting.put(handle)
        return handle

    def close(self) -> None:
        """See `salus.kernel.ports.Executor.close`."""
        with self._lock:
            self._closed = True
            open_ = list(self._open)
        for handle in open_:
            handle.cancel()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        child: _Child | None = None
        while (handle := self._waiting.get()) is not None:
            child, outcome = _run_on(child, handle)
            with self._lock:
                self._open.discard(handle)
            handle.finish(outcome)
            if child is not None and handle.cancelled:
                child.kill()
        if child is not None:
            child.close()


def _run_on(child: _Child | None, handle: LocalHandle) -> tuple[_Child | None, Outcome]:
    """Runs the task on `child`, or on a fresh one where that is of no use; returns the child to go on
    with."""
    for _ in range(_STARTS):
        if child is not None and not child.usable:
            child.close()
            child = None
        try:
            child = child or _Child()
        except OSError as error:
            return None, Outcome(ok=False, error=f"no process could be started: {error}", crashed=True)
        if not handle.begin(child.kill):
            return child, _cancelled()
        outcome = child.run(handle.task)
        if outcome is not None:
            return child, outcome
        child.kill()
    logs = "" if child is None else child.last_words()
    return child, Outcome(ok=False, error="a fresh process died before it took the task", crashed=True, logs=logs)


def open_processes(address: str) -> LocalExecutor:
    """The executor at `processes://`; `processes://?workers=4` sets the number (default: one per core).

    Raises:
        InvalidInput: `workers` is not a whole number above 0.
    """
    text = parse_qs(urlsplit(address).query).get("workers", [str(os.cpu_count() or 1)])[0]
    if not text.isdigit() or int(text) == 0:
        raise InvalidInput(f"workers must be a whole number above 0, got {text!r}", path="SALUS_EXECUTOR")
    return LocalExecutor(workers=int(text))


def _cancelled(logs: str = "") -> Outcome:
    return Outcome(ok=False, error="the task was cancelled", logs=logs)
