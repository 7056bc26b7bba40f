"""`salus worker`: runs pipelines, in the project's own environment."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from salus.backends.addresses import open_executor
from salus.kernel.errors import InvalidInput
from salus.kernel.settings import Settings, load_settings
from salus.sdk.session import Session
from salus.server.worker import Worker


def worker(
    server: Annotated[str, typer.Option(help="The control plane; SALUS_URL if not given.")] = "",
    project: Annotated[Path, typer.Option(help="The folder with the steps' code.")] = Path("."),
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="How many jobs at once.")] = 1,
    lease_s: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Silent for so long: replaced.")] = 15.0,
) -> None:
    """Run a worker: it runs pipelines."""
    settings = load_settings()
    settings = msgspec.structs.replace(settings, url=server or settings.server_url)
    if not project.is_dir():
        raise InvalidInput(f"there is no folder {project}", path="--project")
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    hand_down(settings)
    executor = open_executor(_executor_address(settings.executor, concurrency))
    running = Worker(Session(settings), executor, project=str(project), concurrency=concurrency, lease_s=lease_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    try:
        running.run()
    finally:
        executor.close()


def hand_down(settings: Settings) -> None:
    """Puts into the environment what child processes need to talk to the same server as this worker."""
    given = {
        "SALUS_URL": settings.server_url,
        "SALUS_TOKEN": settings.token,
        "SALUS_WORKSPACE": settings.workspace,
        "SALUS_HOME": settings.home,
    }
    os.environ.update({name: value for name, value in given.items() if value})


def _executor_address(address: str, concurrency: int) -> str:
    return f"{address}?workers={concurrency}" if address == "processes://" else address
