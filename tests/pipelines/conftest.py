"""A control plane and workers as real processes, on each database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salus.kernel.errors import SalusError
from salus.kernel.settings import Settings
from salus.pipelines.client import PipelinesClient
from salus.sdk.session import Session

HERE = Path(__file__).parent
_COMMAND = [sys.executable, "-c", "from salus.cli.main import main; main()"]
_READY_S = 60.0


class Plane:
    """One control plane on a free port, and the workers that are started for it."""

    def __init__(self, database_address: str, folder: Path) -> None:
        self.folder = folder
        self.database_address = database_address
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        home = str(folder / "home")
        self.session = Session(Settings(url=self.url, home=home), attempts=8)
        self.client = PipelinesClient(self.session)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SALUS_")},
            "SALUS_DATABASE": database_address,
            "SALUS_HOME": home,
            "SALUS_PORT": str(self.port),
            "SALUS_URL": self.url,
            "SALUS_LOG_LEVEL": "warning",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server = self.start_server()

    def start_server(self) -> subprocess.Popen[bytes]:
        """Starts the control plane and waits until it answers."""
        self.server = self._start("server")
        until_s = time.monotonic() + _READY_S
        while time.monotonic() < until_s:
            assert self.server.poll() is None, self.log("server")
            try:
                self.session.send("GET", "/healthz", timeout_s=1.0)
                return self.server
            except SalusError:
                time.sleep(0.1)
        raise AssertionError(f"the server is not ready: {self.log('server')}")

    def start_worker(self, concurrency: int = 1, lease_s: float = 15.0) -> subprocess.Popen[bytes]:
        """Starts a worker on the flows of this folder."""
        options = ["--project", str(HERE), "--concurrency", str(concurrency), "--lease-s", str(lease_s)]
        return self._start("worker", *options)

    def log(self, name: str) -> str:
        """What the processes of that name printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"{name}-*.log")))

    def close(self) -> None:
        """Ends every process that was started here."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{arguments[0]}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_COMMAND, *arguments], env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process


@pytest.fixture
def plane(database_address: str, tmp_path: Path) -> Iterator[Plane]:
    """A control plane, ready; it and its workers are gone after the test."""
    made = Plane(database_address, tmp_path)
    yield made
    made.close()
