"""`salus server`: the control plane."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from salus.kernel.settings import load_settings
from salus.server.control import run_server


def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 0,
) -> None:
    """Run the control plane: API, page, scheduler, monitors."""
    given = {"host": host, "port": port}
    run_server(msgspec.structs.replace(load_settings(), **{k: v for k, v in given.items() if v}))
