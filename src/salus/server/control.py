"""The control plane as a process: uvicorn over the ASGI application."""

from __future__ import annotations

import ipaddress
import logging
import socket
from pathlib import Path

import uvicorn

from salus.kernel.errors import InvalidInput
from salus.kernel.settings import Settings
from salus.server.app import make_app
from salus.server.listening import check_free
from salus.server.wiring import open_context
from salus.web.context import Context

log = logging.getLogger("salus.server")

_GRACE_S = 5


class ControlPlane(uvicorn.Server):
    """A server that, told to stop, first lets go those who only wait for news."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends long polls and live feeds, then lets requests under way finish."""
        self._context.waiting.close()
        self._context.live.close()
        await super().shutdown(sockets)


def run_server(settings: Settings) -> None:
    """Serves until it is told to stop; then lets requests under way finish.

    Raises:
        InvalidInput: the address is reachable by others and authentication is off.
        Unavailable: the port is taken.
    """
    check_exposure(settings.host, auth=settings.auth)
    check_free(settings.host, settings.port, "SALUS_PORT")
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    Path(settings.home).mkdir(parents=True, exist_ok=True)
    context = open_context(settings)
    try:
        config = uvicorn.Config(
            make_app(context),
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
        )
        ControlPlane(config, context).run()
    finally:
        context.database.close()


def check_exposure(host: str, *, auth: bool) -> None:
    """Refuses an address that others can reach while nobody is asked who they are.

    >>> check_exposure("127.0.0.1", auth=False)
    """
    if auth or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidInput(
            f"{host} can be reached by others, and authentication is off",
            path="SALUS_HOST",
            remedy="Listen on 127.0.0.1, or set SALUS_AUTH=1 and make a token with 'salus token create'.",
        )
