"""A real control plane inside a test: real HTTP on a free port, real engines in a folder of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvicorn

from salus.kernel.clock import Clock
from salus.kernel.settings import Settings
from salus.sdk.session import Session
from salus.server.app import make_app
from salus.server.control import ControlPlane
from salus.server.wiring import open_context
from salus.web.context import Context

_READY_S = 20.0


class RunningServer:
    """What a test needs of a control plane that runs: its engines, its address, a session to it."""

    def __init__(self, context: Context, settings: Settings) -> None:
        self.context = context
        self.settings = settings
        self.url = settings.url
        self.session = Session(settings)


def settings_in(home: Path, *, database: str = "", auth: bool = False) -> Settings:
    """Settings of an installation whose embedded engines live in `home`."""
    return Settings(
        home=str(home),
        database=database or f"sqlite:///{home}/salus.db",
        blobs=f"file://{home}/blobs",
        auth=auth,
        port=0,
    )


@contextmanager
def running_server(settings: Settings, clock: Clock | None = None) -> Iterator[RunningServer]:
    """A control plane on a free loopback port, in a thread of this process."""
    Path(settings.home).mkdir(parents=True, exist_ok=True)
    context = open_context(settings, clock)
    config = uvicorn.Config(make_app(context), host="127.0.0.1", port=0, log_level="warning", loop="uvloop")
    server = ControlPlane(config, context)
    thread = threading.Thread(target=server.run, name="salus-test-server", daemon=True)
    thread.start()
    try:
        port = _port(server, thread)
        found = msgspec.structs.replace(settings, url=f"http://127.0.0.1:{port}", port=port)
        context.settings = found
        yield RunningServer(context, found)
    finally:
        server.should_exit = True
        thread.join()
        context.database.close()


def _port(server: uvicorn.Server, thread: threading.Thread) -> int:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and thread.is_alive():
        if server.started and server.servers:
            port: int = server.servers[0].sockets[0].getsockname()[1]
            return port
        time.sleep(0.005)
    raise RuntimeError("the control plane did not start: see its log above")
