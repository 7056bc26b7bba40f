"""All of Salus on one machine: starts the processes, restarts one that dies, stops them together."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import psutil
import urllib3

from salus.kernel.errors import Conflict, Unavailable
from salus.kernel.settings import Settings
from salus.server.listening import check_free

log = logging.getLogger("salus.up")

STATE_FILE = "up.json"
LOCK_FILE = "up.lock"
_READY_S = 60.0
_STOP_S = 10.0
_RESTART_S = 1.0
_DOWN_S = 2 * _STOP_S + 5.0
_LOOK_S = 0.25
_SAME_S = 2.0


class Child(msgspec.Struct, frozen=True):
    """One process: its name, its id, and when it began, since ids are given out again."""

    name: str
    pid: int
    created_s: float


class UpState(msgspec.Struct, frozen=True):
    """What runs under a home folder, as its supervisor noted it."""

    supervisor: int
    created_s: float
    url: str
    serve_url: str
    children: list[Child]


class Supervisor:
    """Keeps server, data plane and worker running until `stop`.

    Each child's output goes to `<home>/logs/<name>.log`. A child that dies is started again after a second, by a
    thread of the supervisor's own.
    """

    def __init__(self, settings: Settings, *, workers: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._home = settings.home_path
        self._environment = {**os.environ, **_variables(settings), **(environment or {})}
        self._commands = {
            "server": ["server"],
            "serve": ["serve"],
            **{f"worker-{i + 1}": ["worker", "--project", settings.project] for i in range(workers)},
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._created_s: dict[str, float] = {}
        self._lock_fd: int | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Starts all and returns when they answer, or as soon as `given_up` says so; then `stop` is due.

        What an earlier supervisor left running when it was killed is ended first.

        Raises:
            Conflict: Salus runs under this home folder already.
            Unavailable: a port is taken, or a process did not come up; the text says which and why. Nothing runs on.
        """
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        self._lock()
        self._stopping.clear()
        try:
            if left := end_orphans(self.settings):
                log.warning("ended %d processes that an earlier supervisor left behind", left)
            check_free(self.settings.host, self.settings.port, "SALUS_PORT")
            check_free(self.settings.host, self.settings.serve_port, "SALUS_SERVE_PORT")
            self._spawn("server")
            self._await_ready("server", f"{self.settings.server_url}/readyz", given_up)
            for name in self._commands:
                if name != "server" and not given_up():
                    self._spawn(name)
            if not given_up():
                self._await_ready("serve", f"{self.settings.dataplane_url}/livez", given_up)
            self._watcher = threading.Thread(target=self._watch, name="salus-supervisor", daemon=True)
            self._watcher.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops all: data plane and workers first, so that what they hold reaches the server; then the server."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        others = [process for name, process in self._processes.items() if name != "server"]
        try:
            _end(others)
            _end([process for name, process in self._processes.items() if name == "server"])
        finally:  # also of somebody who will not wait and interrupts
            _kill(list(self._processes.values()))
        self._processes.clear()
        if self._lock_fd is not None:
            (self._home / STATE_FILE).unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None

    def log_path(self, name: str) -> Path:
        """Where a child's output goes."""
        return self._home / "logs" / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._processes[name].pid

    def _lock(self) -> None:
        """Takes the home folder for this process; the lock goes with the process, however that ends."""
        fd = os.open(self._home / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            running = read_state(self.settings)
            where = f"at {running.url} (process {running.supervisor})" if running else f"under {self._home}"
            raise Conflict(
                f"Salus runs already {where}",
                remedy="Use it, stop it with 'salus down', or give this one its own SALUS_HOME and ports.",
            ) from error
        self._lock_fd = fd

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            for name, process in self._processes.items():
                code = process.poll()
                if code is None:
                    continue
                log.error("%s ended with %s, starting it again (log: %s)", name, code, self.log_path(name))
                if self._stopping.wait(_RESTART_S):
                    return
                self._restart(name)

    def _restart(self, name: str) -> None:
        try:
            self._spawn(name)
        except OSError as error:
            log.error("%s could not be started, trying again: %s", name, error)

    def _spawn(self, name: str) -> None:
        with self.log_path(name).open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "salus", *self._commands[name]],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        self._created_s[name] = psutil.Process(process.pid).create_time()
        self._note()

    def _await_ready(self, name: str, url: str, given_up: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_S
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            while time.monotonic() < deadline:
                if given_up():
                    return
                code = self._processes[name].poll()
                if code is not None:
                    raise Unavailable(f"{name} ended with {code}: {_tail(self.log_path(name))}")
                try:
                    if pool.request("GET", url).status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    pass
                time.sleep(0.05)
        raise Unavailable(f"{name} did not answer within {_READY_S:.0f} s: {_tail(self.log_path(name))}")

    def _note(self) -> None:
        state = UpState(
            supervisor=os.getpid(),
            created_s=psutil.Process().create_time(),
            url=self.settings.server_url,
            serve_url=self.settings.dataplane_url,
            children=[Child(name, p.pid, self._created_s[name]) for name, p in self._processes.items()],
        )
        partial = self._home / f"{STATE_FILE}.partial"
        partial.write_bytes(msgspec.json.encode(state))
        partial.rename(self._home / STATE_FILE)


def read_state(settings: Settings) -> UpState | None:
    """What runs under the home folder, or None; a note left by a supervisor that was killed counts as nothing."""
    state = _noted(settings)
    return state if state is not None and _lives(state.supervisor, state.created_s) else None


def stop_running(settings: Settings) -> UpState | None:
    """Tells the supervisor under the home folder to stop, and waits until it has; None when nothing runs.

    Raises:
        Unavailable: it has not ended after 25 seconds.
    """
    state = read_state(settings)
    if state is None:
        return None
    psutil.Process(state.supervisor).send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_S
    while _lives(state.supervisor, state.created_s):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the supervisor (process {state.supervisor}) has not ended after {_DOWN_S:.0f} s",
                remedy=f"End it with 'kill -9 {state.supervisor}', then run 'salus down' again.",
            )
        time.sleep(0.05)
    return state


def end_orphans(settings: Settings) -> int:
    """Ends the children that a killed supervisor left behind, and returns how many when all are gone."""
    state = _noted(settings)
    if state is None or _lives(state.supervisor, state.created_s):
        return 0
    orphans = [psutil.Process(child.pid) for child in state.children if _lives(child.pid, child.created_s)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(orphan.pid, number)
        _, left = psutil.wait_procs(orphans, timeout=_STOP_S)
        if not left:
            break
    return len(orphans)


def _noted(settings: Settings) -> UpState | None:
    """What the last supervisor wrote down, or None."""
    try:
        return msgspec.json.decode((settings.home_path / STATE_FILE).read_bytes(), type=UpState)
    except (OSError, msgspec.DecodeError):
        return None


def _lives(pid: int, created_s: float) -> bool:
    """Whether `pid` is still the process that began then."""
    try:
        process = psutil.Process(pid)
        same: bool = abs(process.create_time() - created_s) < _SAME_S
        return same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Asks them to end, and ends those that have not after ten seconds."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _STOP_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
    _kill(processes)


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _variables(settings: Settings) -> dict[str, str]:
    """The settings as the environment that gives them again."""
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {
        f"SALUS_{name.upper()}": ("1" if value else "0") if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value != ""
    }


def _tail(path: Path, limit: int = 1_500) -> str:
    try:
        return path.read_text(errors="replace")[-limit:].strip()
    except OSError:
        return "(no log)"
