"""`salus serve`: a data plane."""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec
import typer

from salus.kernel.settings import load_settings
from salus.server.dataplane.process import run_dataplane


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on. Other than loopback needs SALUS_AUTH.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on; 7071 where SALUS_SERVE_PORT says no other.")] = 0,
    home: Annotated[str, typer.Option(help="Folder for routes, models and spool; one data plane each.")] = "",
) -> None:
    """Run a data plane: it answers predictions, with or without the control plane."""
    given = {"host": host, "serve_port": port, "home": home}
    # Where clients find the control plane must not move with the address that this process listens on.
    settings = load_settings()
    url = settings.server_url
    settings = msgspec.structs.replace(settings, **{name: value for name, value in given.items() if value})
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run_dataplane(msgspec.structs.replace(settings, url=url))
