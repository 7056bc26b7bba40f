"""All of Salus on one machine: starts the processes, restarts one that dies, stops them together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil
import urllib3

from salus.kernel.errors import Conflict, Unavailable
from salus.kernel.settings import Settings

log = logging.getLogger("salus.up")

STATE_FILE = "up.json"
_READY_S = 60.0
_STOP_S = 10.0
_RESTART_S = 1.0


class Child(msgspec.Struct, frozen=True):
    """One process: its name, its command, its id."""

    name: str
    pid: int


class UpState(msgspec.Struct, frozen=True):
    """What runs under a home folder, as its supervisor noted it."""

    supervisor: int
    created_s: float
    url: str
    serve_url: str
    children: list[Child]


class Supervisor:
    """Keeps server, data plane and worker running until `stop`.

    Each child's output goes to `<home>/logs/<name>.log`. A child that dies is started again after a second.
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

    def start(self) -> None:
        """Starts all and returns when they answer.

        Raises:
            Conflict: Salus runs under this home folder already.
            Unavailable: a process did not come up; its log says why.
        """
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        running = read_state(self.settings)
        if running is not None:
            raise Conflict(
                f"Salus runs already at {running.url} (process {running.supervisor})",
                remedy="Use it, or stop it with 'salus down'.",
            )
        self._spawn("server")
        self._await_ready("server", f"{self.settings.server_url}/readyz")
        for name in self._commands:
            if name != "server":
                self._spawn(name)
        self._await_ready("serve", f"{self.settings.dataplane_url}/livez")
        self._note()

    def watch(self, seconds: float = 0.5) -> None:
        """Waits `seconds`, then starts again whatever has died."""
        time.sleep(seconds)
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                log.error("%s ended with %s, starting it again (log: %s)", name, code, self.log_path(name))
                time.sleep(_RESTART_S)
                self._spawn(name)
                self._note()
                return

    def stop(self) -> None:
        """Stops all: data plane and workers first, so that what they hold reaches the server; then the server."""
        others = [process for name, process in self._processes.items() if name != "server"]
        _end(others)
        _end([process for name, process in self._processes.items() if name == "server"])
        self._processes.clear()
        (self._home / STATE_FILE).unlink(missing_ok=True)

    def log_path(self, name: str) -> Path:
        """Where a child's output goes."""
        return self._home / "logs" / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._processes[name].pid

    def _spawn(self, name: str) -> None:
        with self.log_path(name).open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "salus", *self._commands[name]],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await_ready(self, name: str, url: str) -> None:
        deadline = time.monotonic() + _READY_S
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            while time.monotonic() < deadline:
                code = self._processes[name].poll()
                if code is not None:
                    self.stop()
                    raise Unavailable(f"{name} ended with {code}: {_tail(self.log_path(name))}")
                try:
                    if pool.request("GET", url).status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    pass
                time.sleep(0.05)
        self.stop()
        raise Unavailable(f"{name} did not answer within {_READY_S:.0f} s: {_tail(self.log_path(name))}")

    def _note(self) -> None:
        state = UpState(
            supervisor=os.getpid(),
            created_s=psutil.Process().create_time(),
            url=self.settings.server_url,
            serve_url=self.settings.dataplane_url,
            children=[Child(name, process.pid) for name, process in self._processes.items()],
        )
        partial = self._home / f"{STATE_FILE}.partial"
        partial.write_bytes(msgspec.json.encode(state))
        partial.rename(self._home / STATE_FILE)


def read_state(settings: Settings) -> UpState | None:
    """What runs under the home folder, or None; a note left by a supervisor that was killed counts as nothing."""
    file = settings.home_path / STATE_FILE
    try:
        state = msgspec.json.decode(file.read_bytes(), type=UpState)
        created_s = psutil.Process(state.supervisor).create_time()
    except (OSError, msgspec.DecodeError, psutil.NoSuchProcess):
        return None
    return state if abs(created_s - state.created_s) < 1.0 else None


def stop_running(settings: Settings) -> UpState | None:
    """Tells the supervisor under the home folder to stop, and waits until it has; None when nothing runs."""
    state = read_state(settings)
    if state is None:
        return None
    process = psutil.Process(state.supervisor)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=2 * _STOP_S + 5)
    return state


def end_orphans(settings: Settings) -> int:
    """Ends the children that a killed supervisor left behind; returns how many."""
    try:
        state = msgspec.json.decode((settings.home_path / STATE_FILE).read_bytes(), type=UpState)
    except (OSError, msgspec.DecodeError):
        return 0
    ended = 0
    for child in state.children:
        try:
            process = psutil.Process(child.pid)
            if "salus" in " ".join(process.cmdline()):
                os.killpg(child.pid, signal.SIGTERM)
                ended += 1
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return ended


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _STOP_S
    for process in processes:
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
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
