"""`salus up`, `down`, `status`: everything on one machine."""

from __future__ import annotations

import contextlib
import signal
import time
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from salus.kernel.errors import Unavailable
from salus.kernel.settings import load_settings
from salus.sdk.session import Session, path
from salus.server.status import Status
from salus.server.supervisor import Supervisor, end_orphans, read_state, stop_running

console = Console()


def up(
    workers: Annotated[int, typer.Option(min=0, help="How many workers to start.")] = 1,
) -> None:
    """Start everything on this machine, and keep it running until Ctrl-C or 'salus down'."""
    settings = load_settings()
    supervisor = Supervisor(settings, workers=workers)
    stop = StopSignal()
    supervisor.start(lambda: stop.asked)
    try:
        if not stop.asked:
            console.print(f"Salus is up: [bold]{settings.server_url}[/] (predictions: {settings.dataplane_url})")
            console.print(f"Data and logs: {settings.home}. Ctrl-C stops everything.")
        while not stop.asked:
            time.sleep(0.2)
    finally:
        console.print("Stopping.")
        supervisor.stop()


def down() -> None:
    """Stop what 'salus up' started."""
    settings = load_settings()
    state = stop_running(settings)
    if state is None:
        if left := end_orphans(settings):
            console.print(f"Ended {left} processes that a killed 'salus up' left behind.")
            return
        raise Unavailable(f"nothing runs under {settings.home}", remedy="Start it with 'salus up'.")
    console.print(f"Stopped {len(state.children)} processes.")


def status(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What runs, and where."""
    session = Session(load_settings(), attempts=1)
    if json:
        console.print_json(session.send("GET", path("status")).decode())
        return
    found = session.call("GET", path("status"), expect=Status)
    console.print(f"Salus {found.version} on Python {found.python}, process {found.pid}, database {found.database}")
    console.print(f"Page and API   {found.server_url}")
    console.print(f"Predictions    {found.dataplane_url}")
    console.print(f"Workspace      {found.workspace} (you are {found.actor}, {found.role})")
    console.print(f"Ledger         {found.ledger_entries:,} entries")
    state = read_state(load_settings())
    for child in state.children if state else []:
        console.print(f"{child.name:<14} process {child.pid}")


class StopSignal:
    """Notes SIGINT, SIGTERM and SIGHUP (a closed terminal), so that a loop ends in order; a second ends at once.

    With `at_once` already the first ends what is under way, by `KeyboardInterrupt`.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.asked = False
        self.at_once = at_once
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):
                signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> Any:
        if self.asked or self.at_once:
            self.at_once = False
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True
