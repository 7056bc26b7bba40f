"""Whether an address is free to listen on: asked before anything starts, so that the answer is one readable line."""

from __future__ import annotations

import os
import socket

import psutil

from salus.kernel.errors import Unavailable


def check_free(host: str, port: int, setting: str) -> None:
    """Returns when this process may listen on `host:port`; `setting` is the variable that chooses the port.

    Raises:
        Unavailable: something listens there already, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Unavailable(
            f"cannot listen on {host}:{port}: {why}{_listener(port)}",
            path=setting,
            remedy=f"End what listens there, or choose another port: {setting}={_neighbour(port)}",
        ) from error


def _listener(port: int) -> str:
    """Who listens on `port`, as far as this user may know."""
    try:
        found = [
            c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
        pid = next((pid for pid in found if pid is not None), None)
        return "" if pid is None else f" by process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return ""


def _neighbour(port: int) -> int:
    return port + 10 if port < 65_000 else port - 10
