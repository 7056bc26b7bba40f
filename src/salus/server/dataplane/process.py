"""The data plane's process: all parts wired, served by granian on uvloop in this very process, stopped in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from granian.http import HTTP1Settings
from granian.server.embed import Server

from salus.kernel.clock import Clock, SystemClock
from salus.kernel.settings import Settings
from salus.server.dataplane.access import Access
from salus.server.dataplane.app import App
from salus.server.dataplane.control import ControlPlane
from salus.server.dataplane.counters import Counters
from salus.server.dataplane.health import Health
from salus.server.dataplane.limits import Limits
from salus.server.dataplane.online import OnlineFeatures
from salus.server.dataplane.plans import Plans
from salus.server.dataplane.predict import Predictor
from salus.server.dataplane.routes_client import HEARTBEAT_EVERY_S, Loop, OnlineClient, RoutesClient
from salus.server.dataplane.shipper import Shipper
from salus.server.dataplane.spool import Spool
from salus.server.listening import check_free

_SWITCH_INTERVAL_S = 0.0005
_BACKLOG = 2048
_COLLECT_AFTER = 20_000

log = logging.getLogger("salus.dataplane")


class DataPlane:
    """All parts of one data plane. Everything it keeps is under `home/serve`."""

    def __init__(self, settings: Settings, limits: Limits | None = None, clock: Clock | None = None) -> None:
        """Takes the folder, reads the routes of the last run and loads their models.

        Raises:
            InvalidInput: it would listen beyond this machine without authentication.
            Conflict: another data plane uses the folder.
        """
        limits = limits or Limits()
        clock = clock or SystemClock()
        self.settings = settings
        folder = settings.home_path / "serve"
        access = Access(settings, settings.host)
        control = ControlPlane(settings)
        self.spool = Spool(folder / "spool", limits)
        self.shipper = Shipper(self.spool, control)
        features = OnlineFeatures()
        self.online = OnlineClient(control, features)
        counters = Counters()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.routes = RoutesClient(folder, control, limits, self._switch)
        self.health = Health(
            started_ms=clock.now_ms(),
            url=settings.dataplane_url,
            spool=self.spool,
            shipper=self.shipper,
            routes=self.routes,
            online=self.online,
            counters=counters,
        )
        self.predictor = Predictor(self.spool, features, counters, limits, clock)
        self.app = App(access=access, limits=limits, predictor=self.predictor, health=self.health)
        self._follow = self._loops(control)
        self.health.loops = self._follow
        self.routes.restore()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to follow the control plane and to ship."""
        self._loop = loop
        self.app.plans = self.routes.current
        self.shipper.start()
        for follow in self._follow:
            follow.start()

    def close(self) -> None:
        """Ships what it can, forces the rest to the disk, lets go of everything."""
        for follow in self._follow:
            follow.closing.set()
        self.predictor.close()
        self.shipper.close()
        self.spool.close()

    def _loops(self, control: ControlPlane) -> list[Loop]:
        return [
            Loop("routes", lambda: self.routes.poll(self.spool.plane)),
            Loop("online features", lambda: self.online.poll(self.spool.plane)),
            Loop("heartbeat", lambda: control.report(self.health.report()), pause_s=HEARTBEAT_EVERY_S),
        ]

    def _switch(self, plans: Plans) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(setattr, self.app, "plans", plans)


def run_dataplane(settings: Settings, limits: Limits | None = None) -> None:
    """Serves until SIGINT or SIGTERM. The process needs no other: a kill of it is a kill of all of it.

    Raises:
        InvalidInput: it would listen beyond this machine without authentication.
        Conflict: another data plane uses the folder.
        Unavailable: the port is taken.
    """
    # granian would share a port that is taken without a word
    check_free(settings.host, settings.serve_port, "SALUS_SERVE_PORT")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    plane = DataPlane(settings, limits)
    try:
        uvloop.run(_serve(plane))
    finally:
        plane.close()


async def _serve(plane: DataPlane) -> None:
    loop = asyncio.get_running_loop()
    settings = plane.settings
    server: Any = Server(
        plane.app,
        address=settings.host,
        port=settings.serve_port,
        websockets=False,
        backlog=_BACKLOG,
        log_enabled=False,
        http1_settings=HTTP1Settings(header_read_timeout=30_000),
    )
    stop: Callable[[], None] = server.stop
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    _quiet_collector()
    plane.start(loop)
    await server.serve()


def _quiet_collector() -> None:
    """Keeps the garbage collector from walking through modules and models while requests wait.

    What a request makes has no cycles and goes by reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 50, 100)
